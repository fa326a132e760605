"""One file of a recording: a header, a snapshot, then what changed, written by a thread behind the event loop.

What changes while the snapshot is still being written waits in memory; so does what comes within a quarter of a second. A file that
cannot keep up, or cannot be written, ends: the engine waits for no recording."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from engine.contract.errors import AiwmError, Code
from engine.recording import lines
from engine.recording.looking import PLAIN, Answer
from engine.recording.redact import redacted_op, redacted_part, redacted_rows
from engine.store.image import Limits, marks, read_out, totals
from engine.store.ops import Op

FLUSH_S: Final = 0.25
MAX_WAITING: Final = 400_000
"""Operations that may wait to be written."""


class Sink:
    """A file that takes lines. `ended` is called when it ended by itself; `bytes` and `changes` count what was written. It ends when it has
    `most_bytes` behind its snapshot."""

    def __init__(
        self, path: Path, *, redact: bool, limits: Limits, ended: Callable[[], None], most_bytes: int | None = None
    ) -> None:
        self.path = path
        self.redact = redact
        self.bytes = 0
        self.changes = 0
        self.from_ms = 0
        self.left_out = ""
        self.problem = ""
        self.written = False
        """Whether the snapshot is in the file."""
        self.closed = False
        self._limits = limits
        self._most = most_bytes
        self._began = 0
        self._ended = ended
        self._waiting: list[Callable[[], bytes | None]] = []
        self._weight = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._file: BinaryIO = _create(path)

    # -- what comes in (the loop's side) -------------------------------------------------------------------------------

    def take_ops(self, at_ms: int, entries: list[Sequence[Op]]) -> None:
        self._put(lambda: lines.ops_line(at_ms, self._redacted(entries)), sum(map(len, entries)))

    def take_rows(self, at_ms: int, table: str, rows: list[dict[str, Any]], gone: list[str]) -> None:
        kept = redacted_rows(table, rows) if self.redact else rows
        if kept or gone:
            self._put(lambda: lines.table_line(at_ms, table, kept, gone), 1)

    def take_answers(self, at_ms: int, answers: list[Answer]) -> None:
        kept = [answer for answer in answers if answer[0] in PLAIN] if self.redact else answers
        if kept:
            self._put(lambda: lines.answers_line(at_ms, kept), 1)

    def _put(self, line: Callable[[], bytes | None], weight: int) -> None:
        if self.closed:
            return
        self._weight += weight
        if self._weight > MAX_WAITING:
            self._fail("the disk cannot keep up with what happens")
            return
        self._waiting.append(line)
        if self._timer is None and self.written:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._due)

    def _redacted(self, entries: list[Sequence[Op]]) -> list[Sequence[Op]]:
        if not self.redact:
            return entries
        return [[kept for op in entry if (kept := redacted_op(op)) is not None] for entry in entries]

    # -- what goes out ---------------------------------------------------------------------------------------------------

    async def begin(self, connection: sqlite3.Connection, now_ms: int, **about: Any) -> None:
        """Write header and snapshot from a connection that is pinned to the moment from which on lines come in. Closes it."""
        self.from_ms = now_ms
        async with self._writing:
            try:
                await asyncio.to_thread(self._snapshot, connection, now_ms, about)
            except (OSError, sqlite3.Error) as error:
                self._fail(str(error))
                raise AiwmError(Code.storage_failed, f"{self.path}: {error}", field="path") from None
        self.written = True
        await self.flush()

    def _snapshot(self, connection: sqlite3.Connection, now_ms: int, about: dict[str, Any]) -> None:
        kept = dict.fromkeys(("tasks", "events", "records"), 0)
        try:
            there = totals(connection)
            self._write(lines.header_line(started_ms=now_ms, redacted=self.redact, **marks(connection), **about))
            for part in read_out(connection, self._limits, now_ms):
                if part.table in kept:
                    kept[part.table] += len(part.rows)
                shown = redacted_part(part) if self.redact else part
                self._write(lines.put_line(shown.table, shown.columns, shown.rows))
        finally:
            connection.close()
        self.left_out = ", ".join(
            f"{there[name] - n:,} of {there[name]:,} {name}" for name, n in kept.items() if n < there[name]
        )
        self._write(lines.snapshot_line(now_ms, self.left_out))
        self._began = self.bytes
        self._file.flush()

    async def flush(self) -> None:
        """Everything that came in until now is in the file."""
        async with self._writing:
            waiting, self._waiting, self._weight = self._waiting, [], 0
            if not waiting or self._file.closed:
                return
            try:
                await asyncio.to_thread(self._write_all, waiting)
            except OSError as error:
                self._fail(error.strerror or str(error))
            except (ValueError, TypeError) as error:
                # A recording with a hole would play what never was.
                self._fail(f"something cannot be written as JSON: {error}")
            if self._most is not None and self.bytes - self._began > self._most:
                self._fail(f"its file is full ({self.bytes >> 20} MB), and there is no next one")

    async def close(self, now_ms: int, why: str) -> None:
        """End the file: with `why` as its last line, or (empty) with none."""
        if not self.closed:
            if why:
                self._put(lambda: lines.end_line(now_ms, why), 0)
            self._stop()
            await self.flush()
        async with self._writing:
            try:
                self._file.close()
            except OSError as error:
                self.problem = self.problem or error.strerror or str(error)

    def _due(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self.flush())

    def _stop(self) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, why: str) -> None:
        if not self.closed:
            self.problem = why
            self._stop()
            self._waiting.clear()
            self._ended()

    def _write_all(self, waiting: list[Callable[[], bytes | None]]) -> None:
        for make in waiting:
            line = make()
            if line is not None:
                self._write(line)
                self.changes += 1
        self._file.flush()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.bytes += len(data)


def _create(path: Path) -> BinaryIO:
    """A new file that only its owner can read. Raises an error that names the path."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags, 0o600), "wb", buffering=262_144)
    except FileExistsError:
        raise AiwmError(Code.conflict, f"{path} exists already", field="path", fix="another name") from None
    except OSError as error:
        raise AiwmError(
            Code.storage_failed, f"{path} cannot be written: {error.strerror}", field="path", fix="another folder"
        ) from None
