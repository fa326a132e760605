"""Pressing: every stroke is given to the console as a terminal gives it, and after each the console must still be in order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from textual import events
from textual.geometry import Size
from textual.keys import _character_to_key
from textual.screen import Screen
from textual.widget import Widget

from aiwm_tui.app import Connect, ConsoleApp
from aiwm_tui.shell import Shell
from engine.client import connect
from tests.support.monkey.house import MonkeyHouse
from tests.support.monkey.keys import CONFIRM, RESIZE, SETTLE, strokes
from tests.support.monkey.witness import Watched, Witness, destroyed, last_event

TURNS = 500
"""A key must be taken within so many turns of the event loop: a page takes 40, what waits for the engine takes thousands."""
SECONDS = 20.0
"""Every part must have handled what it has within so many seconds, whatever else the machine does."""
SCREENS = 4
"""So many screens may lie on each other."""
_EVERY = 120
"""After so many strokes a little more work comes."""
_BUTTONS = {"<click": 1, "<double": 2}
_WHEELS: dict[str, type[events.MouseEvent]] = {"<wheel-up": events.MouseScrollUp, "<wheel-down": events.MouseScrollDown}


class MonkeyError(AssertionError):
    """The console is not in order; says the seed and the last strokes."""


class _WatchedApp(ConsoleApp):
    """A console whose keys a witness sees as they come, and again when one that was kept for a dialog is given to it."""

    def __init__(self, connect: Connect, witness: Witness) -> None:
        super().__init__(connect)
        self._witness = witness

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key):
            self._witness.pressed(event.key)
        await super().on_event(event)


class Troop:
    """Runs consoles on a house, one after the other, until all strokes are pressed."""

    def __init__(self, house: MonkeyHouse, seed: int, strokes: Sequence[str]) -> None:
        self.house, self.seed = house, seed
        self.left = deque(strokes)
        self.recent: deque[str] = deque(maxlen=80)
        self.witness = Witness()
        self.visited: Counter[str] = Counter()
        self.dialogs: Counter[str] = Counter()
        self.turns: list[int] = []
        self.consoles = 0
        self._faults: list[str] = []
        self._pressed = 0

    async def run(self) -> None:
        """Press everything. Raises MonkeyError with the seed and the last strokes."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self._faults.append(repr(context)))
        try:
            while self.left:
                await asyncio.to_thread(self.house.up)
                await self._one_console()
        except MonkeyError:
            raise
        except BaseException as error:
            raise MonkeyError(self._story(f"{type(error).__name__}: {error}")) from error
        finally:
            loop.set_exception_handler(None)

    def _story(self, what: str) -> str:
        return f"seed {self.seed}, after {self._pressed} strokes: {what}\nthe last strokes: {list(self.recent)!r}"

    async def _dial(self) -> Watched:
        return Watched(await connect(self.house.home, spawn=False, name="console"), self.witness)

    async def _one_console(self) -> None:
        self.consoles += 1
        app = _WatchedApp(self._dial, self.witness)
        self.witness.screens = lambda: list(app.screen_stack) if app.is_running else []
        feeder = self.house.engine.client()
        try:
            async with app.run_test(size=(120, 36)):
                while self.left and app.is_running and not app.leaving:
                    await self._stroke(app, self.left.popleft())
                    if self._pressed % _EVERY == 0:
                        await asyncio.to_thread(self.house.feed, feeder, self._pressed)
                    self._check(app)
        finally:
            feeder.close()

    async def _stroke(self, app: ConsoleApp, stroke: str) -> None:
        self.recent.append(stroke)
        self._pressed += 1
        if stroke == SETTLE:
            await self._settle(app)
            self._look(app)
        elif stroke == CONFIRM:
            for character in _wanted(app):
                await self._key(app, character)
        elif stroke.startswith("<"):
            await self._gesture(app, stroke)
        else:
            await self._key(app, stroke)

    async def _key(self, app: ConsoleApp, key: str) -> None:
        name = _character_to_key(key) if len(key) == 1 and not key.isalnum() else key
        character = key if len(key) == 1 else " " if key == "space" else None
        await self._post(app, events.Key(name, character))

    async def _gesture(self, app: ConsoleApp, stroke: str) -> None:
        what, first, second = stroke.rstrip(">").split()
        self.witness.pressed(stroke)
        if what == RESIZE:
            driver: Any = app._driver
            driver._size = size = Size(int(first), int(second))
            await self._post(app, events.Resize(size, size))
            return
        x, y = app.size.width * int(first) // 100, app.size.height * int(second) // 100
        where: dict[str, Any] = {
            "widget": None, "x": x, "y": y, "delta_x": 0, "delta_y": 0, "shift": False, "meta": False, "ctrl": False,
        }  # fmt: skip
        if what in _WHEELS:
            await self._post(app, _WHEELS[what](button=0, **where))
        for _ in range(_BUTTONS.get(what, 0)):
            await self._post(app, events.MouseDown(button=1, **where))
            await self._post(app, events.MouseUp(button=1, **where))

    async def _post(self, app: ConsoleApp, event: events.Event) -> None:
        """Give an event to the app and count the turns of the loop until it has been taken."""
        taken = asyncio.Event()
        event.set_sender(app)
        app.post_message(event)
        if not app.call_later(taken.set):
            return
        turns = 0
        while not taken.is_set() and app.is_running and app._exception is None:
            turns += 1
            if turns > TURNS:
                raise MonkeyError(
                    self._story(f"the last stroke waits for something: more than {TURNS} turns of the loop")
                )
            await asyncio.sleep(0)
        self.turns.append(turns)

    async def _settle(self, app: ConsoleApp) -> None:
        """Wait until every part has handled what it has, and the engine has had time to answer once."""
        for _ in range(3):
            parts = [app, *app.screen.walk_children(with_self=True)] if app.screen_stack else [app]
            waiting = 0

            def one_less() -> None:
                nonlocal waiting
                waiting -= 1

            waiting = sum(1 for part in parts if part.call_later(one_less))
            deadline = time.monotonic() + SECONDS
            while waiting > 0 and app.is_running and app._exception is None and all(part.is_running for part in parts):
                if time.monotonic() > deadline:
                    raise MonkeyError(self._story(f"parts do not answer: {waiting} of {len(parts)}"))
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.005)
        # A page that is being put up has no focus yet; keys wait for it meanwhile.
        deadline = time.monotonic() + SECONDS
        while app.is_running and app.screen_stack and isinstance(app.screen, Shell) and not app.screen.page.is_mounted:
            if time.monotonic() > deadline:
                raise MonkeyError(self._story(f"the page of {app.page.location} is never up"))
            await asyncio.sleep(0.001)

    # What must hold

    def _check(self, app: ConsoleApp) -> None:
        if self._faults:
            raise MonkeyError(self._story("; ".join(self._faults)))
        if app._exception is not None:
            raise app._exception
        if not app.is_running:
            return
        if len(app.screen_stack) > SCREENS:
            raise MonkeyError(self._story(f"{len(app.screen_stack)} screens lie on each other: {app.screen_stack}"))
        for sent in self.witness.unconfirmed():
            raise MonkeyError(
                self._story(f"{sent.request} was sent; dialog {sent.dialog!r}, confirmed {sent.confirmed}")
            )
        location = app.page.location
        self.visited[location.table + ("/" if location.item else "")] += 1
        if len(app.screen_stack) > 1:
            self.dialogs[type(app.screen).__name__] += 1

    def _look(self, app: ConsoleApp) -> None:
        """After everything has arrived: the focus is somewhere, every line is as wide as the screen, nothing on it is a control."""
        if not app.is_running or app.leaving or not app.screen_stack:
            return
        screen: Screen[Any] = app.screen
        if isinstance(screen, Shell):
            # What the next key does first.
            screen.keep_focus()
        if screen.focused is None and any(widget.focusable and widget.size for widget in screen.walk_children(Widget)):
            raise MonkeyError(self._story(f"the focus is nowhere on {screen} at {app.page.location}"))
        wide = app.size.width
        for y, strip in enumerate(screen._compositor.render_strips()[: app.size.height]):
            text = strip.text
            if cell_len(text) != wide:
                raise MonkeyError(self._story(f"line {y} is {cell_len(text)} cells wide, not {wide}: {text!r}"))
            bad = [each for each in text if ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0 or each in "\u202e\u200d"]
            if bad:
                raise MonkeyError(self._story(f"line {y} has controls {bad!r}: {text!r}"))


async def press_all(house: MonkeyHouse, seed: int, count: int) -> Troop:
    """Press the keys of a seed; what the engine says was destroyed must be what was confirmed and sent."""
    with house.engine.client() as client:
        before = last_event(client)
    troop = Troop(house, seed, strokes(seed, count))
    await troop.run()
    house.up()
    with house.engine.client() as client:
        done = destroyed(client, before)
    sent = Counter(type(each.request).method for each in troop.witness.sent)
    assert all(count <= sent[method] for method, count in done.items()), f"seed {seed}: {done} done, {sent} sent"
    return troop


def _suspended(task: asyncio.Task[Any]) -> list[str]:
    """Where a task stands, from the outside in."""
    where: list[str] = []
    inner: Any = task.get_coro()
    while inner is not None and hasattr(inner, "cr_frame") and inner.cr_frame is not None:
        where.append(f"{inner.cr_code.co_qualname}:{inner.cr_frame.f_lineno}")
        inner = inner.cr_await
    return where


def _wanted(app: ConsoleApp) -> str:
    """What the dialog on top wants typed."""
    fields = getattr(app.screen, "fields", ())
    for field in fields:
        if field.key == "type":
            return str(field.help.removeprefix("Type ").removesuffix(" to go on."))
    return ""
