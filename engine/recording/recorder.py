"""Makes recordings while somebody wants them; does nothing at all while nobody does."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.recordings import Recording, RecordStart
from engine.ports import EventSink
from engine.recording.looking import Looking
from engine.recording.ring import Made
from engine.recording.sink import Sink
from engine.store import image
from engine.store.journal import Journal
from engine.store.ops import Op

LOOK_S: Final = 1.0
_LEFT_OVER_S: Final = 86_400.0
_PIN_S: Final = 30.0


class Recorder:
    """`about` is what the header says of this engine (host, home). Recordings belong to connections (`client`) and end with them."""

    def __init__(
        self,
        journal: Journal,
        database: Path,
        folder: Path,
        looking: Looking,
        clock: Clock,
        events: EventSink,
        about: dict[str, Any],
    ) -> None:
        self._journal = journal
        self._database = database
        self._folder = folder
        self._looking = looking
        self._clock = clock
        self._events = events
        self._about = about
        self._made: dict[str, Made] = {}
        self._collecting: list[Sink] = []
        self._dirty: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._deaf: Callable[[], None] = lambda: None
        self._number = 0

    # -- what is asked ---------------------------------------------------------------------------------------------------

    async def start(self, request: RecordStart, client: int) -> Recording:
        """Begin a recording; the answer comes when its snapshot is written. Raises for a path that cannot be."""
        ring = not request.path
        if ring and (request.keep_ms < 10_000 or request.keep_bytes < 2**20):
            field = "keep_ms" if request.keep_ms < 10_000 else "keep_bytes"
            raise AiwmError(Code.bad_request, "a ring keeps at least 10 s and 1 MB", field=field, fix="keep_ms 600000")
        if not ring and not os.path.isabs(request.path):
            raise AiwmError(Code.bad_request, f'"{request.path[:200]}" is not absolute', field="path", fix="/…/FILE")
        self._number += 1
        name = f"{os.getpid()}-{self._number}"
        made = Made(
            id=f"rec-{self._number}",
            client=client,
            ring=ring,
            redact=request.redact,
            started_ms=self._clock.wall_ms(),
            keep_ms=request.keep_ms,
            keep_bytes=request.keep_bytes,
            path=lambda part: self._folder / f"ring-{name}-{part}.jsonl" if ring else Path(request.path),
        )
        # From here on it ends with its connection, in whatever of the following that goes.
        self._made[made.id] = made
        try:
            if ring:
                await asyncio.to_thread(_clear, self._folder)
            await self._open(made)
        except BaseException:
            self._made.pop(made.id, None)
            self._rest()
            raise
        return made.report()

    async def stop(self, identifier: str, client: int) -> Recording:
        """End a recording."""
        made = self._find(identifier, client)
        await self._look(set(self._dirty))
        await self._end(made, "stopped")
        return made.report()

    async def show(self, identifier: str, client: int) -> Recording:
        """How it is, with everything until now in its files."""
        made = self._find(identifier, client)
        # Whoever asks may go meanwhile: what is being written is written to its end, before anything that comes after it.
        await asyncio.shield(self._spawn(self._catch_up(made)))
        return made.report()

    async def _catch_up(self, made: Made) -> None:
        await self._look(set(self._dirty))
        for sink in list(made.sinks):
            await sink.flush()

    def client_left(self, client: int) -> None:
        """A connection is gone, and its recordings end."""
        for made in [made for made in self._made.values() if made.client == client]:
            self._spawn(self._end(made, "the one who recorded has left"))

    async def close(self) -> None:
        """The engine stops: every recording ends with that."""
        for made in list(self._made.values()):
            await self._end(made, "the engine stopped", keep=True)
        for task in list(self._tasks):
            await asyncio.gather(task, return_exceptions=True)

    # -- what happens ----------------------------------------------------------------------------------------------------

    def touch(self, table: str) -> None:
        """Rows of a table in memory may look different."""
        if self._made:
            self._dirty.add(table)
            self._look_soon()

    def _look_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._due)

    def _due(self) -> None:
        self._timer = None
        dirty, self._dirty = self._dirty, set()
        self._spawn(self._look(dirty))

    async def _look(self, dirty: set[str]) -> None:
        """Look at tables, ask, and give every recording what changed."""
        self._dirty -= dirty
        if not self._made:
            return
        now = self._clock.wall_ms()
        for change in self._looking.look(sorted(dirty)):
            for sink in self._collecting:
                sink.take_rows(now, *change)
        answers = await self._looking.ask() if dirty or self._looking.owes else []
        if self._looking.owes and self._made:
            self._look_soon()
        now = self._clock.wall_ms()
        for sink in self._collecting:
            sink.take_answers(now, answers)
        for made in list(self._made.values()):
            if made.full(now):
                made.turning = True
                self._spawn(self._turn(made))

    def _written(self, entries: list[Sequence[Op]]) -> None:
        now = self._clock.wall_ms()
        for sink in self._collecting:
            sink.take_ops(now, entries)

    # -- files -----------------------------------------------------------------------------------------------------------

    async def _open(self, made: Made) -> None:
        """The recording's next file takes over at one moment between two commits, then gets its snapshot."""
        if not self._collecting:
            self._deaf()
            self._deaf = self._journal.on_written(self._written)
            self._looking.forget()
            self._looking.look(self._looking.tables)
            await self._looking.ask()
        path = made.next_path()
        most = made.keep_bytes if made.ring else None
        sink = Sink(path, redact=made.redact, limits=made.limits, ended=lambda: self._failed(made), most_bytes=most)
        before = made.sinks[-1] if made.sinks else None
        try:
            connection = await self._pinned(sink, before)
            made.sinks.append(sink)
            await sink.begin(connection, self._clock.wall_ms(), ring=made.ring, **self._about)
            # Its file before may have failed too: nobody would turn or end what goes on behind an end.
            if made.id not in self._made or made.ended is not None:
                raise AiwmError(Code.connection_lost, "the recording ended before its file had begun")
        except BaseException:
            self._collecting = [other for other in self._collecting if other is not sink]
            ended_with_it = made.id not in self._made and sink.closed  # then it is as the end left it
            await sink.close(0, "")
            if not ended_with_it:
                path.unlink(missing_ok=True)
                made.sinks = [other for other in made.sinks if other is not sink]
            raise
        if self._looking.owes:
            self._look_soon()
        if before is not None:
            await before.close(self._clock.wall_ms(), "goes on in the next file")

    async def _pinned(self, sink: Sink, before: Sink | None) -> sqlite3.Connection:
        """A connection that sees what was committed before the sink began to collect, and nothing else. Raises `storage_failed`."""
        loop = asyncio.get_running_loop()
        pinned: asyncio.Future[sqlite3.Connection] = loop.create_future()

        def take(connection: sqlite3.Connection) -> None:
            if pinned.done():
                connection.close()
                return
            now = self._clock.wall_ms()
            self._collecting = [*(other for other in self._collecting if other is not before), sink]
            changes, answers = self._looking.everything()
            for change in changes:
                sink.take_rows(now, *change)
            sink.take_answers(now, answers)
            pinned.set_result(connection)

        def refuse(error: sqlite3.Error) -> None:
            if not pinned.done():
                pinned.set_exception(AiwmError(Code.storage_failed, f"the database cannot be read: {error}"))

        def errand() -> Callable[[], None]:
            try:
                connection = image.pin(self._database)
            except sqlite3.Error as error:
                failure = error
                return lambda: refuse(failure)
            return lambda: take(connection)

        self._journal.between(errand)
        try:
            async with asyncio.timeout(_PIN_S):
                return await pinned
        except TimeoutError:
            text = f"the database could not be looked at within {_PIN_S:g} s"
            raise AiwmError(Code.storage_failed, text, retryable=True) from None

    async def _turn(self, made: Made) -> None:
        """The ring goes on in another file, and its oldest ones go."""
        try:
            await self._open(made)
            made.stuck = False
        except AiwmError as error:
            # The file that there is goes on, unless it ended too; the next look tries again, and this is said once.
            if made.state == "recording" and made.id in self._made and not made.stuck:
                made.stuck = True
                self._events.emit("warn", "recording.failed", made.id, f"the ring cannot turn: {error}")
        finally:
            made.turning = False
        await self._drop(made)

    async def _drop(self, made: Made) -> None:
        """Remove the files that a ring need not keep; one that has to keep them grows no further."""
        held, why = [], ""
        for sink in made.spare(self._clock.wall_ms()):
            try:
                await asyncio.to_thread(sink.path.unlink, missing_ok=True)
            except OSError as error:
                held.append(sink)
                why = f"{sink.path.name} cannot be removed: {error.strerror}"
        made.sinks[:0] = held
        if held and made.ended is None:
            self._failed(made, why)

    async def _end(self, made: Made, why: str, *, keep: bool = False) -> None:
        if self._made.pop(made.id, None) is None:
            return
        made.ended = made.ended or ""
        mine = set(map(id, made.sinks))
        self._collecting = [sink for sink in self._collecting if id(sink) not in mine]
        for sink in made.sinks:
            await sink.close(self._clock.wall_ms(), why)
            if made.ring and not keep:
                with suppress(OSError):  # it goes with those that a killed engine leaves
                    await asyncio.to_thread(sink.path.unlink, missing_ok=True)
        self._rest()

    def _failed(self, made: Made, why: str = "") -> None:
        """A file ended by itself, or `why` the recording cannot go on."""
        problem = why or next((sink.problem for sink in made.sinks if sink.problem), "it cannot be written")
        made.ended = problem
        mine = set(map(id, made.sinks))
        self._collecting = [sink for sink in self._collecting if id(sink) not in mine]
        about = made.sinks[-1].path.name if made.sinks else made.id
        self._events.emit("warn", "recording.failed", about, f"the recording ended: {problem}")

    def _rest(self) -> None:
        """Listen no more when nobody records."""
        if self._made:
            return
        self._deaf()
        self._deaf = lambda: None
        self._dirty.clear()
        self._looking.forget()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _find(self, identifier: str, client: int) -> Made:
        made = self._made.get(identifier)
        if made is None or made.client != client:
            raise AiwmError(Code.not_found, f'recording "{identifier[:40]}" is not made by this connection', field="id")
        return made

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _clear(folder: Path) -> None:
    """Rings that an engine left when it was killed are worth looking at for a day."""
    for path in folder.glob("ring-*.jsonl"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT_OVER_S:
                path.unlink()
