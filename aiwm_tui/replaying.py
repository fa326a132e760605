"""The console in the past: its own ring or a recording, and how one moves in it. The deeds of the group `replaying`, and what they need."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from aiwm_tui.live.link import Connection, Link, Phase
from aiwm_tui.live.moments import mode_words
from engine.contract.errors import AiwmError
from engine.contract.notifications import ReplayMoved
from engine.contract.requests.base import Request
from engine.contract.requests.recordings import (
    RecordShow,
    RecordStart,
    ReplayPlay,
    ReplaySeek,
    ReplayShow,
    ReplayState,
)

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page

Play = Callable[[Sequence[str]], Awaitable[Connection]]
"""Connects to an engine that plays these files."""


class Replaying:
    """What the console knows of the recording that it looks at, if it does. `changed` is called when that is another moment; `at` is where
    a recording is opened, as it was typed."""

    def __init__(self, link: Link, changed: Callable[[], None], *, record: bool, at: str, play: Play | None) -> None:
        self.state: ReplayState | None = None
        self.ring = ""
        self.at = at
        self.error: AiwmError | None = None
        self.play = play
        self._link = link
        self._changed = changed
        self._record = record
        self._work: set[asyncio.Task[None]] = set()
        self._arriving: asyncio.Task[None] | None = None
        link.on(ReplayMoved, self._moved)
        link.listeners.append(self._phase)
        if record:
            link.greeted = self._greeted

    @property
    def at_ms(self) -> int | None:
        """Where the recording stands; None when the engine is live."""
        return self.state.at_ms if self.state is not None else None

    @property
    def words(self) -> str:
        """What the machine line says; empty when the engine is live."""
        return mode_words(self.state) if self.state is not None else ""

    async def ask(self, request: Request[ReplayState]) -> ReplayState:
        """Move, and know where that leads."""
        self.state = await self._link.call(request)
        self._changed()
        return self.state

    def _moved(self, note: ReplayMoved) -> None:
        if self.state is not None:
            self.state = msgspec.structs.replace(self.state, at_ms=note.at_ms, playing=note.playing, speed=note.speed)
            self._changed()

    def _phase(self, phase: Phase) -> None:
        welcome = self._link.welcome
        if phase is not Phase.live or welcome is None or welcome.at_ms is None:
            self.state = None
            return
        at = welcome.at_ms
        self.state = ReplayState(
            at_ms=at,
            from_ms=at,
            to_ms=at,
            playing=False,
            speed=1.0,
            change=0,
            changes=0,
            host="",
            redacted=False,
            ends="",
        )
        self._arriving = self._spawn(self._arrive())

    async def _arrive(self) -> None:
        from aiwm_tui.live.moments import moment_ms

        try:
            state = await self.ask(ReplayShow())
            at, self.at = self.at, ""
            if at:
                await self.ask(ReplaySeek(at_ms=moment_ms(at, state)))
        except AiwmError as error:
            self.error = error
            self._changed()

    def _greeted(self, client: Connection) -> None:
        self.ring = ""
        self._spawn(self._begin(client))

    async def _begin(self, client: Connection) -> None:
        try:
            self.ring = (await client.call(RecordStart())).id
        except AiwmError as error:
            self.error = error
            self._changed()

    async def arrived(self) -> None:
        """Until it is known how far the recording reaches, and it stands where it was opened."""
        if self._arriving is not None:
            await asyncio.wait([self._arriving])

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task


async def enter(app: ConsoleApp, page: Page, action: Action) -> None:
    """Into the own ring, and back to now; in a file that was opened, to another moment of it."""
    replaying = app.replaying
    if app.link.away:
        await back(app)
        return
    if replaying.state is not None:
        await ask_moment(app, page, action)
        return
    if not replaying.ring or replaying.play is None:
        app.say(
            (
                ("nothing is kept here: ", "text"),
                ("aiwm --record", "key"),
                (" keeps the last 10 minutes, ", "text"),
                ("aiwm replay FILE", "key"),
                (" opens a recording", "text"),
            )
        )
        return
    app.say((("opening the last minutes …", "dim"),))
    files, play = (await app.link.call(RecordShow(id=replaying.ring))).files, replaying.play
    await app.hub.leave()
    try:
        await app.link.detour(lambda: play(files))
    except AiwmError:
        # Its windows were closed: open them again on the engine that is still there.
        app.hub.reopen()
        raise
    replaying.at = "end"
    app.say((("ctrl+r", "key"), (" leads back to now", "dim")))
    await ask_moment(app, page, action)


async def back(app: ConsoleApp) -> None:
    """From the own ring to the engine that is live."""
    await app.hub.leave()
    await app.link.back()
    app.say((("live again", "dim"),))


async def ask_moment(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """Ask for a moment by the prompt."""
    from aiwm_tui.live.moments import moment_ms
    from aiwm_tui.widgets.prompt import Ask

    def check(text: str) -> object:
        state = app.replaying.state
        return moment_ms(text, state) if state is not None and state.changes else text

    await app.shell.ask(Ask.moment, "", check, lambda _: [])


async def go_to(app: ConsoleApp, text: str) -> None:
    """The moment was typed."""
    from aiwm_tui.live.moments import moment_ms

    await app.replaying.arrived()
    if app.replaying.state is not None:
        await _move(app, ReplaySeek(at_ms=moment_ms(text, app.replaying.state)))


async def step(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    await _move(app, ReplaySeek(step=-1 if action.id == "replay_before" else 1))


async def scrub(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    from aiwm_tui.live.moments import scrub_ms

    state = app.replaying.state
    if state is not None:
        by = scrub_ms(state)
        await _move(app, ReplaySeek(by_ms=-by if action.id == "replay_back" else by))


async def play(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """Let it go on, or stand. At its end it begins again."""
    state = app.replaying.state
    if state is None:
        return
    if not state.playing and state.at_ms >= state.to_ms:
        await app.replaying.ask(ReplaySeek(at_ms=state.from_ms))
    await _move(app, ReplayPlay(playing=not state.playing))


async def speed(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    from aiwm_tui.live.moments import next_speed

    state = app.replaying.state
    if state is not None:
        faster = next_speed(state.speed, action.id == "replay_faster")
        await _move(app, ReplayPlay(playing=state.playing, speed=faster))


async def _move(app: ConsoleApp, request: Request[ReplayState]) -> None:
    from aiwm_tui.live.format import clock_ms
    from aiwm_tui.live.moments import place_words
    from aiwm_tui.live.text import clean

    state = await app.replaying.ask(request)
    pace = f"at {state.speed:g}x  " if state.playing or isinstance(request, ReplayPlay) else ""
    app.say(((f"{clock_ms(state.at_ms)}  ", "key"), (pace, "text"), (clean(place_words(state), 400), "dim")))
