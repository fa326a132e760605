"""A followed log on the engine: fills one `LogLines`, from the end backwards as far as somebody looks, and on while it grows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiwm_tui.live import format as form
from aiwm_tui.live.link import Link, Phase
from aiwm_tui.live.log_lines import LogLines
from aiwm_tui.live.text import Line, clean
from engine.contract.errors import AiwmError, Code
from engine.contract.notifications import LogMore
from engine.contract.records.logs import LogRow
from engine.contract.requests.logs import LogFollow, LogList, LogRead, LogText, LogUnfollow
from engine.contract.requests.memory import Crash, ModelCrashes

FIRST_LINES = 1_000
_SLACK_MS = 10_000


class LogFollowing:
    """`lines` are the log; `listener` is called after every change of them, of `row`, `error` or `whole`. `row` is the log's own entry,
    None until it is known; `whole` says that there is nothing older to load."""

    def __init__(self, link: Link, name: str, listener: Callable[[], None], now: Callable[[], int]) -> None:
        self._link = link
        self._name = name
        self._listener = listener
        self._now = now
        self.lines = LogLines()
        self.row: LogRow | None = None
        self.error: AiwmError | None = None
        self.whole = False
        self._crashes: list[Crash] = []
        self._stream = ""
        self._life: int | None = None
        self._next = 0
        self._oldest: tuple[int, int, int] | None = None  # how many lives ago, which life, from where on it is here
        self._early: list[LogMore] = []
        self._work: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._closed = False
        self._stop_hearing = link.on(LogMore, self._hear)
        link.listeners.append(self._phase)
        self._phase(link.phase)

    def _phase(self, phase: Phase) -> None:
        if phase is Phase.live and self._work is None and not self._closed:
            self._work = asyncio.create_task(self._begin())

    async def _begin(self) -> None:
        try:
            if self._life is None:
                await self._first_look()
            if self._closed:
                return
            followed = await self._link.call(
                LogFollow(name=self._name, after=self._next, life=self._life, every_ms=self._link.every_ms)
            )
            self._stream, self.error = followed.stream, None
        except AiwmError as error:
            self.error = error
        self._work = None
        if self._closed:
            await self._unfollow()
            return
        early, self._early = self._early, []
        for note in early:
            self._hear(note)
        self._listener()

    async def _first_look(self) -> None:
        self.row = next((row for row in await self._link.call(LogList()) if row.id == self._name), None)
        piece = await self._link.call(LogRead(name=self._name, lines=FIRST_LINES))
        self._crashes = await self._crashes_of(20)
        self._life, self._next = piece.life, piece.next
        self._oldest = (0, piece.life, piece.start)
        self.lines.append(piece.text)
        self._done_with_a_life()

    async def _crashes_of(self, limit: int) -> list[Crash]:
        """How lives of this process ended; none for what is no model process, or is forgotten."""
        if self.row is None or self.row.kind != "model":
            return []
        try:
            return await self._link.call(ModelCrashes(name=self._name, limit=limit))
        except AiwmError:
            return []

    # On, while it grows

    def _hear(self, note: LogMore) -> None:
        if self._work is not None:
            self._early.append(note)
        elif note.stream == self._stream and not self._closed:
            self._take(note.piece)
            self._listener()

    def _take(self, piece: LogText) -> None:
        if piece.life != self._life:
            number = self.lines.rule(_rule(("a new life began", form.clock(self._now()))))
            if self._oldest is not None:
                self._oldest = (self._oldest[0] + 1, *self._oldest[1:])
            self._telling = asyncio.create_task(self._say_how_it_ended(number))
        elif piece.start < self._next:
            self.lines.rule(_rule(("it passed its limit and was cut; what is left of it", "")))
        self._life, self._next = piece.life, piece.next
        self.lines.append(piece.text, piece.changed_ms)

    async def _say_how_it_ended(self, number: int) -> None:
        crashes = await self._crashes_of(1)
        if crashes and not self._closed:
            self.lines.reword(number, _rule(("a new life began", form.clock(self._now())), (_how(crashes[0]), "")))
            self._listener()

    # Back, as far as somebody looks

    def want_older(self, *, everything: bool = False) -> None:
        """Load what lies before the first line: a piece, or everything that is kept."""
        if self._loading is None and not self.whole and self._oldest is not None and not self._closed:
            self._loading = asyncio.create_task(self._load(everything))

    async def _load(self, everything: bool) -> None:
        try:
            while not self.whole and self._link.phase is Phase.live:
                await self._load_piece()
                self._listener()
                if not everything:
                    break
        except AiwmError as error:
            # A life that is gone by now was the oldest: nothing lies before it.
            self.whole = error.code == Code.not_found
        self._loading = None
        self._listener()

    async def _load_piece(self) -> None:
        assert self._oldest is not None
        ago, life, start = self._oldest
        if start:
            piece = await self._link.call(LogRead(name=self._name, previous=ago, before=start, life=life))
            if piece.life != life:
                # It moved one life further back while it was read.
                self._oldest = (ago + 1, life, start)
                return
        else:
            piece = await self._link.call(LogRead(name=self._name, previous=ago + 1, lines=FIRST_LINES))
            ago += 1
            self.lines.rule(self._end_of(piece), above=True)
        self.lines.prepend(piece.text, piece.changed_ms if not start else 0)
        self._oldest = (ago, piece.life, piece.start)
        self._done_with_a_life()

    def _done_with_a_life(self) -> None:
        assert self._oldest is not None
        ago, _, start = self._oldest
        self.whole = self.lines.full or (not start and ago >= (self.row.lives if self.row is not None else 0))

    def _end_of(self, piece: LogText) -> Line:
        """The line that stands where an earlier life ended."""
        near = [it for it in self._crashes if abs(it.ended_ms - piece.changed_ms) <= _SLACK_MS]
        crash = min(near, key=lambda it: abs(it.ended_ms - piece.changed_ms), default=None)
        ended = crash.ended_ms if crash is not None else piece.changed_ms
        how = _how(crash) if crash is not None else "this life ended"
        return _rule((how, ""), ("last written", form.moment(ended, self._now())))

    def close(self) -> None:
        """The page goes: stop following. What the engine is being asked just now is answered first: it may follow already by then."""
        self._closed = True
        self._stop_hearing()
        self._link.listeners.remove(self._phase)
        for task in (self._loading, self._telling):
            if task is not None:
                task.cancel()
        if self._work is None:
            self._work = asyncio.create_task(self._unfollow())

    async def _unfollow(self) -> None:
        if not self._stream or self._link.phase is not Phase.live:
            return
        try:
            await self._link.call(LogUnfollow(stream=self._stream))
        except AiwmError:
            pass  # the connection went, and the following with it


def _how(crash: Crash) -> str:
    """`SIGSEGV: crashed in native code: the log ends with where`."""
    name = crash.signal or f"exit code {crash.code}"
    return clean(f"{name}: {crash.verdict}", 200)


def _rule(*parts: tuple[str, str]) -> Line:
    text = " · ".join(" ".join(word for word in part if word) for part in parts)
    return (("── ", "rule"), (text, "head"), (" ──", "rule"))
