"""The picker of themes: the screen behind it is the preview."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.binding import Binding

from aiwm_tui import theme as themes
from aiwm_tui.live.text import Line, clean, fit
from aiwm_tui.screens.dialogs.base import Dialog, block
from aiwm_tui.screens.wording import hints
from aiwm_tui.states import GLYPHS
from aiwm_tui.widgets.lines import TextBlock
from engine.contract.errors import AiwmError

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp


class ThemePicker(Dialog[str]):
    """Answers with the theme to stay with; None when it is to be as it was, which it then is again."""

    DEFAULT_CSS = """
    ThemePicker { align: right bottom; background: transparent; }
    ThemePicker > Vertical { width: 44; }
    """
    BINDINGS = [
        Binding("up,k", "step(-1)", "the one before", id="themes.up", priority=True),
        Binding("down,j,ctrl+t", "step(1)", "the next one", id="themes.down", priority=True),
        Binding("enter", "keep", "stay with it", id="themes.keep", priority=True),
        Binding("escape", "put_back", "as it was", id="themes.leave", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._names = themes.names()
        self._before = ""
        self._wrong: dict[str, str] = {}

    @property
    def _shown(self) -> ConsoleApp:
        return cast("ConsoleApp", self.app)

    def on_mount(self) -> None:
        self._before = self._shown.palette.name

    def panel(self) -> ComposeResult:
        yield block(self._lines(), "themes")

    def _lines(self) -> list[Line]:
        now = self._shown.palette.name
        rows: list[Line] = [(("THEMES", "title"),), ()]
        for name in self._names:
            mark = "›" if name == now else " "
            signs: Line = tuple((GLYPHS[state] + " ", state) for state in ("works", "coming", "asks", "broken"))
            note: Line = (("unreadable", "dim"),) if name in self._wrong else signs
            rows.append(((f"{mark} ", "mark"), (fit(clean(name, 28), 28), "strong" if name == now else "text"), *note))
        return [*rows, (), hints(("↑↓", "try"), ("↵", "keep"), ("esc", "as before"))]

    def action_step(self, by: int) -> None:
        now = self._shown.palette.name
        at = self._names.index(now) if now in self._names else 0
        for distance in range(1, len(self._names) + 1):
            name = self._names[(at + by * distance) % len(self._names)]
            try:
                self._shown.use_theme(name)
                break
            except AiwmError as error:
                self._wrong[name] = error.info.message
        self.query_one("#themes", TextBlock).show(self._lines())

    def action_keep(self) -> None:
        self.dismiss(self._shown.palette.name)

    def action_put_back(self) -> None:
        self._shown.use_theme(self._before)
        self.dismiss(None)
