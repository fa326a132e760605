"""The screen under all dialogs: machine line, location line, page, last action, keys; the prompt stands in place of the last two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual._styles_cache import StylesCache
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message
from textual.widget import Widget

from aiwm_tui.live.text import Line
from aiwm_tui.screens.page import Page
from aiwm_tui.widgets.focus import FocusKeeper
from aiwm_tui.widgets.lines import TextLine

if TYPE_CHECKING:
    from aiwm_tui.widgets.prompt import Ask, Check, Complete, Prompt


class Shell(FocusKeeper[None], inherit_bindings=False):
    """Five fixed parts. Its keys are those of the table of actions and no others."""

    # Empty, not None: None would let the app choose the first part that can have the focus.
    AUTO_FOCUS = ""
    DEFAULT_CSS = """
    Shell { layout: vertical; overflow: hidden; }
    Shell #body { height: 1fr; }
    Shell #bottom { height: 2; }
    """

    class Ready(Message):
        """All its parts are there."""

    def __init__(self, page: Page) -> None:
        super().__init__(id="_default")
        self.page = page
        self.machine = TextLine(id="machine")
        self.location = TextLine(id="location")
        self.last = TextLine(id="last")
        self.foot = TextLine(id="foot")
        self._body = Container(id="body")
        # Of their own, so that nothing above them is laid out and painted again when the prompt takes their place.
        self._bottom = Container(id="bottom")
        self._prompt: Prompt | None = None
        self.asked_on: Page | None = None

    def compose(self) -> ComposeResult:
        yield self.machine
        yield self.location
        with self._body:
            yield self.page
        with self._bottom:
            yield self.last
            yield self.foot

    def on_mount(self) -> None:
        self.page.begin()
        self.post_message(self.Ready())

    async def show_page(self, page: Page) -> None:
        """Another page in place of this one."""
        old, self.page = self.page, page
        old.leave()
        await old.remove()
        # Textual's cache of background colours holds every widget that was ever drawn, with all its lines (Textual issue 6665).
        StylesCache.get_inner_outer.cache_clear()
        await self._body.mount(page)
        # The console may have been left meanwhile: then there is nothing to give the focus to.
        if page.is_attached:
            page.begin()

    def say(self, line: Line) -> None:
        self.last.show((((" ", "")), *line))

    def set_focus(self, widget: Widget | None, scroll_visible: bool = True, from_app_focus: bool = False) -> None:
        """While the prompt is open the focus is in it: what arrives on the page behind it, or a click there, does not take it away."""
        if self.prompted and (widget is None or self._prompt not in widget.ancestors):
            return
        super().set_focus(widget, scroll_visible, from_app_focus)

    def regain(self, widget: Widget) -> None:
        super().regain(widget)
        self.keep_focus()

    def keep_focus(self) -> None:
        """The keyboard is never dead: where what had the focus is gone, the page says what has it."""
        if self.focused is None and not self.prompted and self.page.is_mounted and self.page.is_attached:
            self.page.begin()

    @property
    def prompted(self) -> bool:
        """Whether the prompt is open."""
        return self._prompt is not None and self._prompt.display

    async def ask(self, ask: Ask, text: str, check: Check, complete: Complete) -> None:
        """Open the prompt."""
        from aiwm_tui.widgets import prompt

        if self._prompt is None:
            self._prompt = prompt.Prompt()
            await self._bottom.mount(self._prompt)
        self.last.display = self.foot.display = False
        self.asked_on = self.page
        self._prompt.start(ask, text, check, complete)

    def arrived(self) -> None:
        """There is more to suggest in the prompt, if it is still open."""
        if self._prompt is not None and self._prompt.display:
            self._prompt.arrived()

    def prompt_closed(self) -> None:
        """The prompt is gone: the last two lines are back, and keys go to the page."""
        self.last.display = self.foot.display = True
        # A page that is being put up meanwhile has the focus when it stands.
        if self.page.is_attached:
            self.page.begin()
