"""The console: one connection, one history, the time; what is shown is in `shell.py` and the screens.

The app navigates and changes things; pages show. What a key does is in `deeds.py`, which key it is in `actions.py`."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import constants, events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen
from textual.timer import Timer

from aiwm_tui import theme as themes
from aiwm_tui.actions import ACTIONS, Action, footer, meant
from aiwm_tui.comfort import LEAN_MS
from aiwm_tui.dialling import Dialling
from aiwm_tui.live.attention import NOTHING_WANTED, Wanted
from aiwm_tui.live.history import History, Place
from aiwm_tui.live.link import Connection, Link, Phase
from aiwm_tui.live.text import Line, clean, line_width
from aiwm_tui.live.views import LiveView, ViewHub
from aiwm_tui.preferences import Preferences
from aiwm_tui.replaying import Play, Replaying
from aiwm_tui.screens.page import Page
from aiwm_tui.screens.registry import locate, page_for
from aiwm_tui.shell import Shell
from aiwm_tui.theme import Palette
from aiwm_tui.widgets.footer import footer_line
from aiwm_tui.widgets.machine import location_line, machine_line, mode_line
from aiwm_tui.widgets.paint import AsciiFilter
from engine.contract.errors import AiwmError
from engine.contract.records import MachineRow

if TYPE_CHECKING:
    from aiwm_tui.collecting import Collection
    from aiwm_tui.widgets.prompt import Prompt

HOME = ":overview"
TICK_S = 1.0

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
        self.as_of = clock()
        self.hub = ViewHub(self.link)
        self.link.listeners.append(self._phase_changed)
        self.history = History().go(str(locate(location)))
        self._shell: Shell | None = None
        self._machine: LiveView | None = None
        self._changed_ms = 0
        self._lost_ms = 0
        self._ticker: Timer | None = None
        self._linking: asyncio.Task[None] | None = None
        self._typed_ahead: list[events.InputEvent] | None = []
        self.leaving = False
        self.operation = ""
        self.inspecting = False
        # A page is up before the next one is looked for, whoever asks for it: a key, or an answer that came.
        self._step = asyncio.Lock()
        self.copied = -1
        self._undo: tuple[int | None, Line] | None = None
        self._undecided = undecided
        self.collections: dict[str, Collection] = {}
        self._errands: set[asyncio.Task[None]] = set()

    def get_default_screen(self) -> Screen[None]:
        place = self.history.here or Place(HOME)
        self._shell = Shell(page_for(place, locate(place.location)))
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
        """What is typed before the first screen stands waits for it: there is nothing yet that it could work on."""
        if self._typed_ahead is not None and isinstance(event, events.InputEvent):
            self._typed_ahead.append(event)
            return
        if isinstance(event, events.InputEvent) and not self.screen_stack:
            # Typed behind the key that left: there is nothing any more that it could mean.
            return
        if isinstance(event, events.Key) and len(self.screen_stack) == 1:
            self.shell.keep_focus()
        if isinstance(event, events.MouseEvent) and not self.mouse:
            return
        await super().on_event(event)

    async def on_shell_ready(self) -> None:
        early, self._typed_ahead = self._typed_ahead or [], None
        for event in early:
            await self.on_event(event)

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
        return self.as_of

    def say(self, line: Line) -> None:
        """Put something on the last-action line. What stood there, a countdown too, is over."""
        if self._undo is not None and self._undo[1] == line:
            self._say_undo(*self._undo)
            return
        self._undo = None
        self.shell.say(line)

    def remember_operation(self, operation: str, due_ms: int | None, line: Line) -> None:
        """What is about to be said with `line` is an operation that `Z` takes back; until it is due the line counts down."""
        self.operation = operation
        self._undo = (due_ms, line)

    def _say_undo(self, due_ms: int | None, line: Line) -> None:
        left = None if due_ms is None else due_ms - self.as_of
        if left is None:
            self.shell.say((*line, ("   Z", "key"), (" takes it back", "dim")))
        elif left > 0:
            self.shell.say((*line, ("   Z", "key"), (f" takes it back, {(left + 999) // 1000} s", "dim")))
            self._keep_ticking()
        else:
            self.say((*line, ("   done", "dim")))

    def fail(self, error: AiwmError) -> None:
        fix = f"  {error.info.fix}" if error.info.fix else ""
        self.say((("✗ ", "broken"), (clean(error.info.message, 400), "text"), (clean(fix, 200), "key")))

    def status_changed(self) -> None:
        """Anything on the fixed lines may have changed: write them again (they repaint only if it has)."""
        if not self.is_running or not self.screen_stack:
            return
        cells = self.size.width
        row, phase = self.machine, self.link.phase
        held, words = self.page.held(), self.replaying.words
        mode = mode_line(row, phase, held, self.as_of - self._lost_ms, self._changed_ms, self.read_only, words)
        self.shell.machine.show(*machine_line(row, phase, self.as_of, cells, mode))
        status: Line = (*self.page.status(), (" ", ""))
        here = location_line(str(self.page.location), self.history.trail(), cells - line_width(status) - 2)
        self.shell.location.show(here, status)
        keys = footer(self.page.table, self.page.lacks, self.actions, replaying=bool(words))
        self.shell.foot.show(footer_line(keys, self.read_only, cells))
        self._keep_ticking()

    # Time: ages move while there is work, after each change, and when somebody looks. An idle console writes nothing.

    def note_change(self) -> None:
        """A view changed: the engine said something new, unless the connection is what changed."""
        self.as_of = self.clock()
        if self.link.phase is Phase.live:
            self._changed_ms = self.as_of
        self.status_changed()

    def _busy(self) -> bool:
        row = self.machine
        working = bool(row and (row.running or row.waiting))
        return self.link.phase is Phase.lost or working or bool(self._undo and self._undo[0])

    def _keep_ticking(self) -> None:
        if self._ticker is None and self._busy():
            self._ticker = self.set_timer(max(TICK_S, self.link.every_ms / 1000), self._tick)

    def _tick(self) -> None:
        self._ticker = None
        self.refresh_time()
        self._keep_ticking()

    def refresh_time(self) -> None:
        self.as_of = self.clock()
        if self.page.is_mounted:
            self.page.tick()
        if self._undo is not None and self._undo[0] is not None:
            self._say_undo(*self._undo)
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
        self.as_of = self.clock()
        if self.link.switching:
            self.refresh_time()
            return
        if phase is Phase.lost:
            self._lost_ms = self._lost_ms or self.as_of
        if phase in (Phase.lost, Phase.failed) and self.link.error is not None:
            self.fail(self.link.error)
        elif phase is Phase.live and self._undecided:
            from aiwm_tui.beginning import decide

            self._undecided = False
            self.look_after(decide(self, HOME))
        elif phase is Phase.live and self._lost_ms:
            self._lost_ms = 0
            self.say((("connected again", "dim"),))
        self.refresh_time()

    # Navigation

    def open_location(self, location: str) -> None:
        """Go to a location after what is being handled now: all navigation happens one step after the other, in this queue."""
        self.call_later(self.go, location)

    async def go(self, location: str, *, instead: bool = False) -> None:
        """Go to a location; `instead` of this one when only its order changes."""
        try:
            target = str(locate(location))
        except AiwmError as error:
            self.fail(error)
            return
        async with self._step:
            self._remember()
            self.history = self.history.instead(target) if instead else self.history.go(target)
            await self._show_here()

    async def travel(self, step: Callable[[History], History]) -> bool:
        """Go to another place of the history; False when there is none."""
        async with self._step:
            self._remember()
            history = step(self.history)
            if history is self.history:
                return False
            self.history = history
            await self._show_here()
        return True

    def _remember(self) -> None:
        self.history = self.history.mark(self.page.place())

    async def _show_here(self) -> None:
        place = self.history.here or Place(HOME)
        location = locate(place.location)
        if not self.page.revisit(place, location):
            await self.shell.show_page(page_for(place, location))
        self.status_changed()

    # Keys

    async def action_do(self, action: str) -> None:
        from aiwm_tui.deeds import perform

        self.as_of = self.clock()
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

    def on_prompt_cancelled(self) -> None:
        self.shell.prompt_closed()

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


async def play_here(files: Sequence[str]) -> Any:
    """A connection to an engine on this machine that plays these files, and leaves with it."""
    from engine.client import connect_through, replay_command

    return await connect_through(replay_command(files), work=False, read_only=True, name="console")


def run_console(
    home: Path,
    *,
    location: str | None = None,
    read_only: bool = False,
    preferences: Preferences | None = None,
    spawn: bool = True,
    through: Sequence[str] | None = None,
    record: bool = False,
    replay_at: str = "",
    play: Play | None = None,
) -> int:
    """Open the console on a home until it is left; the exit code. With `spawn` an engine is started behind the first frame if none
    runs, and again when it is gone (not when it was stopped); without, the console waits for one. `through` is a command that carries
    the protocol instead. `record` keeps the last minutes in a ring, `play` connects to an engine that plays files, `replay_at` is where
    it begins."""

    wants = preferences or Preferences()
    read_only = read_only or wants.read_only

    async def reach(command: Sequence[str]) -> Any:
        from engine.client import connect_through

        return await connect_through(command, work=True, read_only=read_only, name="console")

    connect = Dialling(home, spawn=spawn, read_only=read_only) if through is None else partial(reach, through)
    first = location or HOME
    if location is None and through is None:
        from aiwm_tui.beginning import first_location

        first = first_location(home, HOME)
    kind = ConsoleApp
    if wants.actions is not ACTIONS:
        from aiwm_tui.keymap import console_class

        kind = console_class(ConsoleApp, wants.actions)
    app = kind(
        connect,
        location=first,
        theme=wants.theme,
        mouse=wants.mouse,
        lean=wants.lean,
        read_only=read_only,
        undecided=location is None,
        record=record,
        replay_at=replay_at,
        play=play or play_here,
        notices=wants.notices,
    )
    app.run(mouse=wants.mouse)
    return app.return_code or 0
