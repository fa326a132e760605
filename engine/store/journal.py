"""The journal: a writer thread with group commit and no timer.

While a commit is in flight the next batch collects by itself, so a batch is one entry when idle and hundreds under load. All futures
of a batch resolve in one hop back to the event loop, after the commit. `write` and the callbacks belong to the loop's thread; the
connection belongs to the writer's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from engine.contract.errors import AiwmError, Code
from engine.contract.states import Durability
from engine.store.commit import CommittedBatch, Entry, Outcome
from engine.store.ops import InsertTask, Op, Receipt
from engine.store.writer import StorageError, Writer

BATCH_ENTRIES: Final = 2_048
MAX_WAITING_ENTRIES: Final = 50_000
MAX_WAITING_BYTES: Final = 256 * 2**20
PROBE_FIRST_S: Final = 0.05
PROBE_LAST_S: Final = 5.0
_ACKNOWLEDGED = _WRITTEN = Receipt(False)


class Journal:
    """The only way to write. `state` is working, failed (a commit failed; probes go on) or closed."""

    def __init__(
        self,
        writer: Writer,
        task_seq: int,
        counts: Mapping[tuple[str, str], int],
        event_counts: Mapping[str, int],
        record_counts: Mapping[str, int],
    ) -> None:
        self._writer = writer
        self._task_seq = task_seq
        self._counts = dict(counts)
        self._event_counts = dict(event_counts)
        self._record_counts = dict(record_counts)
        self._unwritten: dict[int, InsertTask] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._on_commit: list[Callable[[CommittedBatch], None]] = []
        self._on_written: list[Callable[[list[Sequence[Op]]], None]] = []
        self._on_failed: list[Callable[[AiwmError], None]] = []
        self._on_recovered: list[Callable[[], None]] = []
        # Shared with the thread, under the lock:
        self._lock = threading.Lock()
        self._waiting: list[Entry] = []
        self._waiting_bytes = 0
        self._errands: list[Callable[[], Callable[[], None]]] = []
        self._asleep = False
        self._closing = False
        self._failure: str | None = None
        self._wake = threading.Lock()
        self._wake.acquire()
        self._close_asked = threading.Event()

    # The loop's side ---------------------------------------------------------

    @property
    def state(self) -> str:
        if self._closing:
            return "closed"
        return "failed" if self._failure is not None else "working"

    @property
    def fenced(self) -> int:
        """How many entries were fenced off since the start: zombies' answers and lost races."""
        return self._writer.fenced

    def next_seq(self) -> int:
        """A number for a new task. Numbers of entries that are never written are not used again while this engine lives."""
        self._task_seq += 1
        return self._task_seq

    def counts(self) -> dict[tuple[str, str], int]:
        """Committed tasks by (queue, state). The journal's own, read only."""
        return self._counts

    def event_counts(self) -> dict[str, int]:
        """Committed events by level. The journal's own, read only."""
        return self._event_counts

    def record_counts(self) -> dict[str, int]:
        """Committed performance records by state. The journal's own, read only."""
        return self._record_counts

    def unwritten(self, seq: int) -> InsertTask | None:
        """A task of a `memory` queue that was acknowledged but is not on disk yet."""
        return self._unwritten.get(seq)

    def all_unwritten(self) -> list[InsertTask]:
        """All of these, in the order in which they came."""
        return list(self._unwritten.values())

    def on_commit(self, callback: Callable[[CommittedBatch], None]) -> None:
        """`callback` runs on the loop after every commit, in order, before the futures of the batch resolve."""
        self._on_commit.append(callback)

    def on_failed(self, callback: Callable[[AiwmError], None]) -> None:
        """`callback` runs on the loop when a commit failed; until `on_recovered` nothing can be written."""
        self._on_failed.append(callback)

    def on_recovered(self, callback: Callable[[], None]) -> None:
        self._on_recovered.append(callback)

    def on_written(self, callback: Callable[[list[Sequence[Op]]], None]) -> Callable[[], None]:
        """`callback` runs on the loop after every commit with the entries that took effect, in the order of writing, until what is
        returned is called. Costs nothing while nobody listens."""
        self._on_written.append(callback)
        return lambda: self._on_written.remove(callback)

    def between(self, errand: Callable[[], Callable[[], None]]) -> None:
        """Run `errand` in the writer's thread between two batches, and what it returns on the loop: after the callbacks of every batch
        that was written before it, before those of any other. It may not raise. While storage fails it waits; at the end it is dropped."""
        if self._loop is None:
            self._start()
        with self._lock:
            self._errands.append(errand)
            if self._asleep:
                self._asleep = False
                self._wake.release()

    def recount(
        self,
        task_seq: int,
        counts: Mapping[tuple[str, str], int],
        event_counts: Mapping[str, int],
        record_counts: Mapping[str, int],
    ) -> None:
        """The file was replaced by another state of it: what is counted is what that has. Nothing may be waiting to be written."""
        self._task_seq = task_seq
        self._counts = dict(counts)
        self._event_counts = dict(event_counts)
        self._record_counts = dict(record_counts)

    def write(self, ops: Sequence[Op], durability: Durability) -> asyncio.Future[Receipt]:
        """Write operations as one entry: all of them or none. The future resolves when they are as durable as asked.

        With `memory` durability it is resolved at once. It raises `storage_failed` when the commit failed (nothing was written;
        entries that were waiting fail too), `conflict` for a known idempotency key, `queue_full` when new tasks come faster than
        they can be written, `engine_stopping` after `close`."""
        loop = self._loop or self._start()
        future: asyncio.Future[Receipt] = loop.create_future()
        entry = Entry(ops, durability, future)
        refusal = self._enqueue(entry)
        if refusal is not None:
            _fail(future, refusal)
        elif durability is Durability.memory:
            for op in ops:
                if type(op) is InsertTask:
                    self._unwritten[op.seq] = op
            future.set_result(_ACKNOWLEDGED)
        return future

    def _enqueue(self, entry: Entry) -> AiwmError | None:
        with self._lock:
            if self._closing:
                return AiwmError(Code.engine_stopping, "the engine is stopping", retryable=True)
            if self._failure is not None and entry.durability is not Durability.memory:
                return _storage_failed(self._failure)
            full = len(self._waiting) >= MAX_WAITING_ENTRIES or self._waiting_bytes + entry.size > MAX_WAITING_BYTES
            if full and entry.size:
                return AiwmError(
                    Code.queue_full,
                    f"{len(self._waiting)} entries wait to be written",
                    fix="submit more slowly",
                    retryable=True,
                )
            self._waiting.append(entry)
            self._waiting_bytes += entry.size
            if self._asleep:
                self._asleep = False
                self._wake.release()
        return None

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()
        return self._loop

    async def close(self) -> None:
        """Write what waits, then end the thread. Further writes raise `engine_stopping`."""
        loop = self._loop or self._start()
        with self._lock:
            if self._stopped is None:
                self._stopped = loop.create_future()
                self._closing = True
                self._close_asked.set()
                if self._asleep:
                    self._asleep = False
                    self._wake.release()
        await self._stopped

    def _committed(self, batch: CommittedBatch, outcomes: list[Outcome]) -> None:
        for key, change in batch.counts.items():
            self._counts[key] = self._counts.get(key, 0) + change
        for level, change in batch.event_counts.items():
            self._event_counts[level] = self._event_counts.get(level, 0) + change
        for state, change in batch.record_counts.items():
            self._record_counts[state] = self._record_counts.get(state, 0) + change
        if self._unwritten:
            for changed in batch.changed:
                self._unwritten.pop(changed.seq, None)
        self._call(self._on_commit, batch)
        if self._on_written:
            self._call(self._on_written, [entry.ops for entry, outcome in outcomes if outcome == _WRITTEN])
        for entry, outcome in outcomes:
            if entry.future.done():
                continue
            if isinstance(outcome, AiwmError):
                _fail(entry.future, outcome)
            else:
                entry.future.set_result(outcome)

    def _failed(self, entries: list[Entry], cause: str) -> None:
        self._call(self._on_failed, _storage_failed(cause))
        for entry in entries:
            _fail(entry.future, _storage_failed(cause))

    def _call(self, callbacks: Sequence[Callable[..., None]], *arguments: object) -> None:
        for callback in callbacks:
            # A listener's mistake must not keep waiters from their answer.
            try:
                callback(*arguments)
            except Exception as error:
                assert self._loop is not None
                self._loop.call_exception_handler({"message": "a listener of the journal failed", "exception": error})

    # The thread's side -------------------------------------------------------

    def _run(self) -> None:
        while entries := self._take():
            try:
                batch, outcomes = self._writer.commit(entries)
            except StorageError as error:
                self._wait_for_storage(entries, str(error))
            else:
                self._post(self._committed, batch, outcomes)
        assert self._stopped is not None
        self._post(_resolve, self._stopped)

    def _take(self) -> list[Entry]:
        """The next batch; waits for one. Empty when there is nothing left and the journal closes."""
        while True:
            self._run_errands()
            with self._lock:
                if self._errands:
                    continue
                entries = self._waiting
                if entries:
                    self._waiting = entries[BATCH_ENTRIES:]
                    del entries[BATCH_ENTRIES:]
                    self._waiting_bytes -= sum(entry.size for entry in entries)
                    return entries
                if self._closing:
                    return []
                self._asleep = True
            self._wake.acquire()

    def _run_errands(self) -> None:
        with self._lock:
            errands, self._errands = self._errands, []
        for errand in errands:
            self._post(errand())

    def _wait_for_storage(self, entries: list[Entry], cause: str) -> None:
        """Fail what was asked for, then try again and again, ever more slowly, until a probe is written.

        Entries of `memory` queues were acknowledged already: they are kept, and written with the probe or after it."""
        kept = [entry for entry in entries if entry.durability is Durability.memory]
        refused = [entry for entry in entries if entry.durability is not Durability.memory]
        with self._lock:
            self._failure = cause
            refused += [entry for entry in self._waiting if entry.durability is not Durability.memory]
            self._waiting = [entry for entry in self._waiting if entry.durability is Durability.memory]
            self._waiting_bytes = sum(entry.size for entry in self._waiting)
        self._post(self._failed, refused, cause)
        delay = PROBE_FIRST_S
        while True:
            closing = self._close_asked.wait(delay)
            delay = min(delay * 2, PROBE_LAST_S)
            try:
                batch, outcomes = self._writer.commit(kept, probe=True)
            except StorageError as error:
                self._failure = str(error)
                if closing:
                    return
                continue
            self._failure = None
            self._post(self._committed, batch, outcomes)
            self._post(self._call, self._on_recovered)
            return

    def _post(self, callback: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # The loop was closed without closing the journal: nobody is left to be told.
            pass


def _fail(future: asyncio.Future[Receipt], error: AiwmError) -> None:
    if not future.done():
        future.set_exception(error)
        # Whoever wrote an event without waiting hears of the failure through on_failed; asyncio need not log it again.
        future.exception()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _storage_failed(cause: str) -> AiwmError:
    return AiwmError(
        Code.storage_failed,
        f"the database cannot be written: {cause}",
        fix="free disk space, see aiwm doctor",
        retryable=True,
    )
