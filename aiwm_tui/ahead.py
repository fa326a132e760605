"""Keys that are typed before what they are meant for is there: they wait for it, and never act on what is shown instead.

A key may open a dialog or a page for which the engine has to be asked first. From its press until that stands every further key is
kept, then given to it in order; where nothing comes they are dropped, because nothing else is what they were meant for."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from textual import events

from engine.contract.errors import AiwmError

if TYPE_CHECKING:
    from textual.timer import Timer
    from textual.worker import Worker

    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp

Answer = TypeVar("Answer")
WAIT_S = 3.0
"""Keys are kept for so long at most; after that whoever types on gives up what was asked for."""
MOST = 256
"""So many keys are kept; what is typed beyond them is dropped."""
GIVES_UP = frozenset({"escape", "ctrl+c"})


class _Phase(Enum):
    idle = "keys go where they always go"
    coming = "what keys are meant for is not there yet"
    giving = "it is there, and gets the keys one after the other"
    late = "the engine takes long: no key is kept, and the next one gives up"


class Ahead:
    """What was typed ahead on `app`. From the beginning keys are kept until the first screen stands, which `stands` says."""

    def __init__(self, app: ConsoleApp) -> None:
        self._app = app
        self._phase = _Phase.coming
        self._kept: deque[events.Event] = deque()
        self._given: events.Event | None = None
        self._asking: Worker[None] | None = None
        self._action: Action | None = None
        self._timer: Timer | None = None

    def ask(
        self, action: Action, question: Callable[[], Awaitable[Answer]], then: Callable[[Answer], bool | None]
    ) -> None:
        """Ask the engine something that changes nothing, and give the answer to `then`, which opens a dialog with it, or says True for a
        place that it goes to. Until that stands keys are kept for it. Who asks again, or presses esc, gives up the first."""
        self.expect()
        self._action = action
        # A callable: a coroutine would be left lying where a newer worker comes before it has begun.
        work = partial(self._ask, question, then)
        self._asking = self._app.run_worker(work, group="ahead", exclusive=True)

    async def _ask(self, question: Callable[[], Awaitable[Answer]], then: Callable[[Answer], bool | None]) -> None:
        below = list(self._app.screen_stack)
        try:
            answer = await question()
            self._asking = None
            comes = then(answer)
        except AiwmError as error:
            self._asking = None
            self._app.fail(error)
            self._drop()
            return
        if comes or any(screen not in below for screen in self._app.screen_stack):
            self.stands()
        else:
            self._drop()

    def expect(self) -> None:
        """Something comes: keys are kept until `stands`, but not for ever."""
        self._phase = _Phase.coming
        if self._timer is not None:
            self._timer.stop()
        self._timer = self._app.set_timer(WAIT_S, self._waited)

    def stands(self) -> None:
        """What was expected has been opened: it gets the keys as soon as it is whole."""
        if self._phase is _Phase.late:
            self._drop()
        elif self._phase is _Phase.coming and self._asking is None:
            self._phase = _Phase.giving
            self._go_on()

    def takes(self, event: events.Event) -> bool:
        """Whether the app leaves an event alone: it is kept, or dropped."""
        if event is self._given or not isinstance(event, events.InputEvent | events.Paste):
            return False
        if self._phase is _Phase.idle:
            if isinstance(event, events.MouseEvent) or self._whole():
                return False
            self.expect()
            self.stands()
        gives_up = isinstance(event, events.Key) and event.key in GIVES_UP
        if self._asking is not None and (gives_up or (self._phase is _Phase.late and _meant(event))):
            self._give_up()
            return gives_up
        if self._phase is _Phase.late:
            return False
        if not isinstance(event, events.MouseEvent) and len(self._kept) < MOST:
            self._kept.append(event)
        return True

    def _whole(self) -> bool:
        """Whether the screen on top has its parts, and its focus."""
        stack = self._app.screen_stack
        return not stack or stack[-1].is_mounted

    def _go_on(self) -> None:
        """Give the next key after everything that is under way, to a screen that is whole."""

        def then() -> None:
            self._app.call_later(self._give)

        # A screen looks at what is called later when it has been put up with all its parts.
        if self._whole() or not self._app.screen.call_later(then):
            then()

    async def _give(self) -> None:
        if self._phase is not _Phase.giving:
            return
        if not self._kept:
            self._drop()
            return
        if self._whole():
            self._given = self._kept.popleft()
            try:
                await self._app.on_event(self._given)
            finally:
                self._given = None
        if self._phase is _Phase.giving:
            self._go_on()

    def _waited(self) -> None:
        """The engine takes long, or what was opened never stood."""
        if self._asking is None or self._action is None:
            self._drop()
            return
        self._phase = _Phase.late
        self._kept.clear()
        self._app.say((self._named(self._action), ("the engine is still at it; the next key gives it up", "text")))

    def _give_up(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
        self._drop()
        if self._action is not None:
            self._app.say((self._named(self._action), ("given up before the engine answered", "text")))

    def _named(self, action: Action) -> tuple[str, str]:
        return f"{action.shown} {action.label}: ", "key"

    def _drop(self) -> None:
        """Nothing comes any more: keys go where they always go."""
        self._phase = _Phase.idle
        self._kept.clear()
        if self._timer is not None:
            self._timer.stop()
            self._timer = None


def _meant(event: events.Event) -> bool:
    """Whether somebody wants something with it: a pointer that moves does not."""
    return not isinstance(event, events.MouseMove | events.MouseUp)
