"""The saved views: their names and what they stand for; ↵ goes there."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding

from aiwm_tui import saved
from aiwm_tui.live.text import Line, clean, cut, fit
from aiwm_tui.screens.dialogs.base import LOW, Dialog, block
from aiwm_tui.screens.wording import hints
from aiwm_tui.widgets.lines import TextBlock
from engine.contract.errors import AiwmError

_CHROME, _CHROME_LOW = 9, 6
"""Lines of the dialog beside its list: title, blank line, trouble, keys, padding; those on a low screen."""


class ViewPicker(Dialog[str]):
    """Answers with the location to go to."""

    BINDINGS = [
        Binding("up,k", "step(-1)", "the one before", id="views.up", priority=True),
        Binding("down,j", "step(1)", "the next one", id="views.down", priority=True),
        Binding("X", "forget", "forget it", id="views.forget", priority=True),
        Binding("enter", "go", "go there", id="views.go", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._kept = saved.load()
        self._at = 0
        self._said: Line = ()

    @property
    def _names(self) -> list[str]:
        return sorted(self._kept.views)

    def panel(self) -> ComposeResult:
        yield block(self._lines(), "views")

    def on_resize(self) -> None:
        self._show()

    def _lines(self) -> list[Line]:
        height = self.app.size.height
        room = max(1, height - _CHROME_LOW if height < LOW else height * 9 // 10 - _CHROME)
        first = max(0, self._at - room + 1)
        rows: list[Line] = [(("SAVED VIEWS", "title"), (f"  in {clean(str(saved.saved_path()), 200)}", "faint")), ()]
        for name in self._names[first : first + room]:
            here = self._names.index(name) == self._at
            where = (clean(self._kept.views[name], 200), "text" if here else "dim")
            rows.append((("› " if here else "  ", "mark"), (fit(name, 20), "strong" if here else "text"), where))
        if not self._kept.views:
            rows.append((("none yet: ", "dim"), (":save night", "key"), (" keeps the location you are at", "dim")))
        rows += [(("! ", "wrong"), (cut(clean(each, 300), 200), "text")) for each in self._kept.trouble[:3]]
        return [*rows, self._said, hints(("↵", "go"), ("esc", "leave"), ("X", "forget it"), ("↑↓", "choose"))]

    def _show(self) -> None:
        lines = self._lines()
        shown = self.query_one("#views", TextBlock)
        shown.styles.height = len(lines)
        shown.show(lines)

    def action_step(self, by: int) -> None:
        self._at = max(0, min(self._at + by, len(self._names) - 1))
        self._show()

    def action_go(self) -> None:
        if self._names:
            self.dismiss(self._kept.views[self._names[self._at]])

    def action_forget(self) -> None:
        if not self._names:
            return
        name = self._names[self._at]
        try:
            was = saved.forget_view(name)
            self._said = ((f":{name} is forgotten; it was {clean(was, 120)}", "dim"),)
        except AiwmError as error:
            self._said = (("✗ ", "broken"), (clean(error.info.message, 200), "text"))
        self._kept = saved.load()
        self.action_step(0)
