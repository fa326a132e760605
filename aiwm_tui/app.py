"""The console: one connection, one history, the time; what is shown is in `shell.py` and the screens.

The app navigates and changes things; pages show. What a key does is in `deeds.py`, which key it is in `actions.py`."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual import constants, events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen

from aiwm_tui import theme as themes
from aiwm_tui.actions import ACTIONS, Action, footer, meant
from aiwm_tui.ahead import Ahead
from aiwm_tui.comfort import LEAN_MS
from aiwm_tui.last_action import LastAction
from aiwm_tui.live.attention import NOTHING_WANTED, Wanted
from aiwm_tui.live.history import History
from aiwm_tui.live.link import Connection, Link, Phase
from aiwm_tui.live.text import Line, clean, line_width
from aiwm_tui.live.views import LiveView, ViewHub
from aiwm_tui.navigation import Navigation
from aiwm_tui.replaying import Play, Replaying
from aiwm_tui.screens.page import Page
from aiwm_tui.shell import Shell
from aiwm_tui.theme import Palette
from aiwm_tui.ticking import Ticking
from aiwm_tui.widgets.footer import footer_line
from aiwm_tui.widgets.machine import location_line, machine_line, mode_line
from aiwm_tui.widgets.paint import AsciiFilter
from engine.contract.errors import AiwmError
from engine.contract.records import MachineRow

if TYPE_CHECKING:
    from aiwm_tui.collecting import Collection
    from aiwm_tui.widgets.prompt import Prompt

HOME = ":overview"

Connect = Callable[[], Awaitable[Connection]]


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class ConsoleApp(App[None]):
    """`connect` makes the connection, `clock` is the wall time in Unix ms. `stop_mode` says after the run what becomes of the engine."""

    TITLE = "aiwm"
    ENABLE_COMMAND_PALETTE = False
    # The terminal selects text (with shift where the mouse is on); Textual's own falls over a click on a page that is just leaving.
    ALLOW_SELECT = False
    actions: ClassVar[tuple[Action, ...]] = ACTIONS
    # Priority: a key is acted on in the order it was typed, before the next one is looked at, so typing ahead works.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(action.keys, f"do('{action.id}')", action.label, id=action.id, show=False, priority=True)
        for action in ACTIONS
    ]

    def __init__(
        self,
        connect: Connect,
        *,
        location: str = HOME,
        theme: str = "dark",
        read_only: bool = False,
        undecided: bool = False,
        mouse: bool = True,
        lean: bool = False,
        clock: Callable[[], int] = wall_ms,
        record: bool = False,
        replay_at: str = "",
        play: Play | None = None,
        notices: Wanted = NOTHING_WANTED,
    ) -> None:
        loaded = themes.load(theme)
        # Textual counts an empty NO_COLOR as set and turns colours into greys; terminal colours make it remove them.
        if os.environ.get("NO_COLOR") == "":
            del os.environ["NO_COLOR"]
        super().__init__(ansi_color=True if loaded.theme.ansi else None)
        self.palette: Palette = loaded.palette
        self.register_theme(loaded.theme)
        self.theme = loaded.theme.name
        self._wall = clock
        self.asked_read_only = read_only
        self.notices = notices
        self.mouse = mouse
        self.by_id = {action.id: action for action in self.actions}
        self.link = Link(connect)
        self.use_lean(lean)
        self.replaying = Replaying(self.link, self._moment_changed, record=record, at=replay_at, play=play)
        self.ticking = Ticking(lambda: self.clock(), self.set_timer, self._tick)
        self.hub = ViewHub(self.link)
        self.link.listeners.append(self._phase_changed)
        self.navigation = Navigation(location, lambda: self.shell, self.status_changed)
        self.last_action = LastAction(lambda line: self.shell.say(line), self.by_id["undo"].shown)
        self._shell: Shell | None = None
        self._machine: LiveView | None = None
        self._linking: asyncio.Task[None] | None = None
        self.ahead = Ahead(self)
        self.leaving = False
        self.inspecting = False
        self.copied = -1
        self._undecided = undecided
        self.collections: dict[str, Collection] = {}
        self._errands: set[asyncio.Task[None]] = set()

    def get_default_screen(self) -> Screen[None]:
        self._shell = Shell(self.navigation.page())
        return self._shell

    def on_mount(self) -> None:
        self.status_changed()
        # Connect after the first frame: what it needs must not delay it.
        self.call_after_refresh(self._start)

    def _start(self) -> None:
        # What was imported stays for ever: no later collection needs to look at it, and none takes long enough to be felt.
        gc.freeze()
        self._machine = self.hub.open(":machine", 1, self.note_change)
        self._linking = asyncio.create_task(self.link.run())
        from aiwm_tui.notifying import Attention

        self._attention = Attention(self, self.notices)
        from aiwm_tui.saved import load as load_saved

        trouble = load_saved().trouble
        if trouble:
            self.say((("! ", "wrong"), (clean(trouble[0], 400), "text"), ("   :views", "key")))

    async def on_event(self, event: events.Event) -> None:
        """What is typed before that stands for which it is meant waits for it."""
        if self.ahead.takes(event):
            return
        if isinstance(event, events.InputEvent) and not self.screen_stack:
            # Typed behind the key that left: there is nothing any more that it could mean.
            return
        if isinstance(event, events.Key) and len(self.screen_stack) == 1:
            self.shell.keep_focus()
            if event.key in ("enter", "escape") and self.shell.prompted:
                # What is typed behind it is meant for the place where it leads.
                self.ahead.expect()
        if isinstance(event, events.MouseEvent) and not self.mouse:
            return
        await super().on_event(event)

    def on_shell_ready(self) -> None:
        self.ahead.stands()

    def leave(self) -> None:
        """End the console after what is being handled now: parts that are being put up must not lose the app under them."""
        self.leaving = True
        self.call_later(self.exit)

    async def on_unmount(self) -> None:
        errands = list(self._errands)
        for task in errands:
            if not task.cancelling():
                task.cancel()
        # Before the connection goes: some of them still have something to say over it.
        await asyncio.gather(*errands, return_exceptions=True)
        if self._linking is not None:
            self._linking.cancel()
            await asyncio.gather(self._linking, return_exceptions=True)

    def look_after(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that is longer than the page it began on; leaving the console cancels it and waits until it has cleaned up."""
        task = asyncio.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task

    @property
    def shell(self) -> Shell:
        assert self._shell is not None
        return self._shell

    @property
    def page(self) -> Page:
        return self.shell.page

    @property
    def machine(self) -> MachineRow | None:
        state = self._machine.state if self._machine is not None else None
        row = state.at(state.top) if state is not None else None
        return row if isinstance(row, MachineRow) else None

    @property
    def read_only(self) -> bool:
        return self.asked_read_only or bool(self.link.welcome and self.link.welcome.read_only)

    def clock(self) -> int:
        """The time (Unix ms): of the wall, in a recording where it stands."""
        at_ms = self.replaying.at_ms
        return self._wall() if at_ms is None else at_ms

    def now(self) -> int:
        return self.ticking.as_of

    def say(self, line: Line) -> None:
        """Put something on the last-action line. What stood there, a countdown too, is over."""
        self.last_action.say(line, self.ticking.as_of)
        if self.last_action.counts_down:
            self._keep_ticking()

    def fail(self, error: AiwmError) -> None:
        fix = f"  {error.info.fix}" if error.info.fix else ""
        self.say((("✗ ", "broken"), (clean(error.info.message, 400), "text"), (clean(fix, 200), "key")))

    def status_changed(self) -> None:
        """Anything on the fixed lines may have changed: write them again (they repaint only if it has)."""
        if not self.is_running or not self.screen_stack:
            return
        cells = self.size.width
        row, phase, at = self.machine, self.link.phase, self.ticking
        held, words = self.page.held(), self.replaying.words
        mode = mode_line(row, phase, held, at.stale_ms, at.changed_ms, self.read_only, words)
        self.shell.machine.show(*machine_line(row, phase, at.as_of, cells, mode))
        status: Line = (*self.page.status(), (" ", ""))
        here = location_line(str(self.page.location), self.navigation.history.trail(), cells - line_width(status) - 2)
        self.shell.location.show(here, status)
        keys = footer(self.page.table, self.page.lacks, self.actions, replaying=bool(words))
        self.shell.foot.show(footer_line(keys, self.read_only, cells))
        self._keep_ticking()

    # Time

    def note_change(self) -> None:
        """A view changed: the engine said something new, unless the connection is what changed."""
        self.ticking.look()
        if self.link.phase is Phase.live:
            self.ticking.changed_ms = self.ticking.as_of
        self.status_changed()

    def _busy(self) -> bool:
        row = self.machine
        working = bool(row and (row.running or row.waiting))
        return self.link.phase is Phase.lost or working or self.last_action.counts_down

    def _keep_ticking(self) -> None:
        if self._busy():
            self.ticking.keep(self.link.every_ms)

    def _tick(self) -> None:
        self.refresh_time()
        self._keep_ticking()

    def refresh_time(self) -> None:
        self.ticking.look()
        if self.page.is_mounted:
            self.page.tick()
        self.last_action.tick(self.ticking.as_of)
        self.status_changed()

    def on_app_focus(self) -> None:
        self.refresh_time()

    def _moment_changed(self) -> None:
        """The recording stands somewhere else, or cannot be what was asked for."""
        error, self.replaying.error = self.replaying.error, None
        if not self.is_running or not self.screen_stack:
            return
        if error is not None:
            self.fail(error)
        self.refresh_time()

    def _phase_changed(self, phase: Phase) -> None:
        at = self.ticking
        at.look()
        if self.link.switching:
            self.refresh_time()
            return
        if phase is Phase.lost:
            at.lost_ms = at.lost_ms or at.as_of
        if phase in (Phase.lost, Phase.failed) and self.link.error is not None:
            self.fail(self.link.error)
        elif phase is Phase.live and self._undecided:
            from aiwm_tui.beginning import decide

            self._undecided = False
            self.look_after(decide(self, HOME))
        elif phase is Phase.live and at.lost_ms:
            at.lost_ms = 0
            self.say((("connected again", "dim"),))
        self.refresh_time()

    # Navigation

    def open_location(self, location: str) -> None:
        """Go to a location after what is being handled now: all navigation happens one step after the other, in this queue."""
        self.call_later(self.go, location)

    async def go(self, location: str, *, instead: bool = False) -> None:
        """Go to a location; `instead` of this one when only its order changes."""
        try:
            await self.navigation.go(location, instead=instead)
        except AiwmError as error:
            self.fail(error)

    async def travel(self, step: Callable[[History], History]) -> bool:
        """Go to another place of the history; False when there is none."""
        return await self.navigation.travel(step)

    # Keys

    async def action_do(self, action: str) -> None:
        from aiwm_tui.deeds import perform

        self.ticking.look()
        await perform(self, self.by_id[action])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of the table work on the screen with the five parts; dialogs and the prompt have their own."""
        if action != "do":
            return True
        if len(self.screen_stack) > 1 or self.shell.prompted or self.leaving:
            return False
        return meant(self.by_id[str(parameters[0])], self.page.table, self.page.lacks, self.actions)

    async def action_quit(self) -> None:
        await self.action_do("quit")

    async def on_prompt_answered(self, message: Prompt.Answered) -> None:
        from aiwm_tui.deeds import answered

        self.shell.prompt_closed()
        await answered(self, message.ask, message.text)
        self.ahead.stands()

    def on_prompt_refused(self) -> None:
        self.ahead.stands()

    def on_prompt_cancelled(self) -> None:
        self.shell.prompt_closed()
        self.ahead.stands()

    def on_resize(self, _: events.Resize) -> None:
        # The size is known when all have heard of it.
        self.call_later(self.status_changed)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What goes over every line that any widget draws."""
        filters = super().get_line_filters()
        return [*filters, AsciiFilter()] if self.palette.ascii else filters

    def use_lean(self, lean: bool) -> None:
        """Spare the line: fewer changes, nothing that moves by itself."""
        self.lean = lean
        self.link.every_ms = LEAN_MS if lean else 0
        self.animation_level = "none" if lean else constants.TEXTUAL_ANIMATIONS

    def use_theme(self, name: str) -> None:
        loaded = themes.load(name)
        self.palette = loaded.palette
        self.register_theme(loaded.theme)
        self.ansi_color = True if loaded.theme.ansi else None
        self.theme = loaded.theme.name
        self.refresh_css()
        self.screen.refresh(layout=True)
        for widget in self.screen.walk_children():
            widget.refresh()
