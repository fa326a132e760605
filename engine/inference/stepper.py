"""The one thread of a model process that owns the backend: it admits, steps, cancels, and reports.

Other threads hand it work through `do` (run between two steps) and `submit`. Requests are admitted strictly in the order they
came: what goes first was decided by the engine's scheduler, and is not decided again here."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from engine.contract.errors import AiwmError, Code
from engine.inference.adapter_cache import AdapterCache
from engine.inference.backends.base import (
    AdapterRef,
    Backend,
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Prepared,
    StagedAdapter,
)
from engine.inference.protocol import AppliedAdapter, DeltaNote, DoneNote, FailedNote, Note, StatusNote

DELTA_INTERVAL = 1 / 30  # seconds between two pieces of one text on the pipe; the first goes at once
STATUS_INTERVAL = 0.1  # seconds between two status notes at least, when something changes
HEARTBEAT_INTERVAL = 1.0  # seconds between two status notes at most, while requests run
EXIT_BROKEN = 70

Send = Callable[[list[Note]], None]


@dataclass(slots=True)
class Job:
    """A request from its arrival to its end. Times are seconds on the monotonic clock."""

    prepared: Prepared
    staged: Mapping[str, StagedAdapter]
    arrived: float
    deadline: float | None
    admitted: bool = False
    first_token: float | None = None
    pieces: list[str] = field(default_factory=list)  # text not yet on the pipe
    tokens: int = 0  # tokens not yet on the pipe
    counted: int = 0  # tokens that deltas told of
    sent: float | None = None

    @property
    def id(self) -> str:
        return self.prepared.request.id


class Stepper(threading.Thread):
    """`send` gets all notes of one step at once; it is called on this thread."""

    def __init__(self, send: Send) -> None:
        super().__init__(name="stepper", daemon=True)
        self._backend: Backend | None = None
        self._send = send
        self._wake = threading.Condition()
        self._inbox: deque[Callable[[], None]] = deque()
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._cache = AdapterCache(0, 0)
        self._slots = 0
        self._steps = 0
        self._tokens_out = 0
        self._status_sent = 0.0
        self._status_shown: tuple[int, int, int, tuple[str, ...]] = (0, 0, 0, ())
        self._deadlines = False

    # -- for other threads ---------------------------------------------------------------------------------------------

    def do(self, work: Callable[[], None]) -> None:
        """Run this between two steps, on the stepper's thread."""
        with self._wake:
            self._inbox.append(work)
            self._wake.notify()

    # -- work that `do` is given: on the stepper's thread ------------------------------------------------------------------

    def reset(self, backend: Backend | None, slots: int, cache: AdapterCache) -> None:
        """A model was loaded (or, without a backend, unloaded). Requests of the model before end with an error."""
        for job in list(self._jobs.values()):
            error = AiwmError(Code.model_unavailable, "the model was unloaded", retryable=True)
            self._send([*self._flushed(job), FailedNote(job.id, error.info)])
        self._jobs.clear()
        self._waiting.clear()
        self._backend, self._slots, self._cache = backend, slots, cache

    def submit(self, job: Job) -> None:
        if job.id in self._jobs:
            raise AiwmError(Code.conflict, f"request {job.id} is already running", field="id")
        self._jobs[job.id] = job
        self._waiting.append(job)
        self._deadlines = self._deadlines or job.deadline is not None

    def cancel(self, request_id: str, reason: FinishReason = "cancelled") -> bool:
        job = self._jobs.get(request_id)
        if job is None:
            return False
        if job.admitted and self._backend:
            finished = self._backend.cancel(request_id, reason)
        else:
            self._waiting.remove(job)
            finished = Finished(request_id, reason, len(job.prepared.tokens), 0)
        if finished is not None:
            self._send(self._end(job, finished))
        return finished is not None

    def make_ready(self, refs: Iterable[AdapterRef], staged: Mapping[str, StagedAdapter]) -> bool:
        """Attach adapters, making room where needed; False if there is no room now. `staged` has those that were not ready when
        the request came; one that was ready then and has left since is read again."""
        backend = self._loaded()
        wanted = {ref.digest: ref for ref in refs}
        in_use = {ref.digest for job in self._jobs.values() if job.admitted for ref in job.prepared.request.adapters}
        keep = in_use | set(wanted)
        for digest, ref in wanted.items():
            if digest in self._cache:
                self._cache.use(digest)
                continue
            adapter = staged.get(digest) or backend.stage(ref)
            self._cache.check_size(ref.name, adapter.resident_bytes)
            leaving = self._cache.room_for(adapter.resident_bytes, keep)
            if leaving is None:
                if in_use <= set(wanted):  # nothing will ever leave: they do not fit together
                    raise self._cache.too_many(len(wanted))
                return False
            for old in leaving:
                backend.detach(old)
                self._cache.remove(old)
            backend.attach(backend.upload(adapter))
            self._cache.add(digest, adapter.resident_bytes)
        return True

    def _loaded(self) -> Backend:
        if self._backend is None:
            raise AiwmError(Code.model_unavailable, "no model is loaded in this process", retryable=True)
        return self._backend

    def _active(self) -> int:
        return self._backend.active() if self._backend else 0

    @property
    def cache(self) -> AdapterCache:
        return self._cache

    # -- the loop --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            self._loop()
        except BaseException:
            traceback.print_exc()
            os._exit(EXIT_BROKEN)  # the model's state is unknown: the supervisor starts a fresh process

    def _loop(self) -> None:
        while True:
            self._take_work()
            now = time.monotonic()
            if self._deadlines:
                self._end_overdue(now)
            notes = self._admit()
            if self._backend and self._backend.active():
                events = self._backend.step()
                self._steps += 1
                notes += self._report(events, time.monotonic())
            notes += self._status(time.monotonic())
            if notes:
                self._send(notes)

    def _take_work(self) -> None:
        """Do what other threads asked for; with nothing else to do, sleep until they do."""
        while True:
            with self._wake:
                if not self._inbox and not self._jobs:
                    self._wake.wait(self._until_status())
                work = list(self._inbox)
                self._inbox.clear()
            for step in work:
                step()
            if not work or self._jobs:
                return

    def _until_status(self) -> float | None:
        """Seconds until a status is due that was held back; None when the last one sent is still true."""
        if self._status_shown == self._status_now():
            return None
        return max(0.0, self._status_sent + STATUS_INTERVAL - time.monotonic())

    def _end_overdue(self, now: float) -> None:
        for job in [job for job in self._jobs.values() if job.deadline is not None and now >= job.deadline]:
            self.cancel(job.id, "deadline")
        self._deadlines = any(job.deadline is not None for job in self._jobs.values())

    def _admit(self) -> list[Note]:
        """Admit waiting requests in order until one finds no slot or no room for its adapters."""
        notes: list[Note] = []
        while self._waiting and self._active() < self._slots:
            job = self._waiting[0]
            try:
                if not (
                    self.make_ready(job.prepared.request.adapters, job.staged) and self._loaded().admit(job.prepared)
                ):
                    break
            except AiwmError as error:
                self._waiting.popleft()
                del self._jobs[job.id]
                notes.append(FailedNote(job.id, error.info))
                continue
            self._waiting.popleft()
            job.admitted, job.staged = True, {}
        return notes

    def _report(self, events: list[Event], now: float) -> list[Note]:
        """Notes for what a step brought: pieces of one text are gathered for a thirtieth of a second."""
        notes: list[Note] = []
        for event in events:
            job = self._jobs[event.id]
            if isinstance(event, Delta):
                if job.first_token is None:
                    job.first_token = now
                job.pieces.append(event.text)
                self._count(job, event.tokens)
                if job.sent is None or now - job.sent >= DELTA_INTERVAL:
                    notes += self._flushed(job)
                    job.sent = now
            elif isinstance(event, Finished):
                notes += self._end(job, event)
            else:
                notes += self._fail(job, event)
        return notes

    def _flushed(self, job: Job) -> list[Note]:
        if not job.pieces:
            return []
        note = DeltaNote(job.id, "".join(job.pieces), job.tokens)
        job.pieces, job.tokens = [], 0
        return [note]

    def _count(self, job: Job, tokens: int) -> None:
        job.tokens += tokens
        job.counted += tokens
        self._tokens_out += tokens

    def _end(self, job: Job, finished: Finished) -> list[Note]:
        del self._jobs[job.id]
        if finished.tokens_out > job.counted:  # tokens without text: special ones, or the beginning of a stop string
            job.pieces.append("")
            self._count(job, finished.tokens_out - job.counted)
        now = time.monotonic()
        first = now if job.first_token is None else job.first_token
        done = DoneNote(
            id=job.id,
            reason=finished.reason,
            tokens_in=finished.tokens_in,
            tokens_out=finished.tokens_out,
            first_token_ms=(first - job.arrived) * 1000,
            total_ms=(now - job.arrived) * 1000,
            adapters=tuple(AppliedAdapter(a.name, a.digest, a.weight) for a in job.prepared.request.adapters),
            cached=finished.cached,
        )
        return [*self._flushed(job), done]

    def _fail(self, job: Job, failed: Failed) -> list[Note]:
        del self._jobs[job.id]
        return [*self._flushed(job), FailedNote(job.id, failed.error.info)]

    # -- status ------------------------------------------------------------------------------------------------------------

    def _status_now(self) -> tuple[int, int, int, tuple[str, ...]]:
        return self._slots, self._active(), len(self._waiting), self._cache.digests

    def _status(self, now: float) -> list[Note]:
        current = self._status_now()
        since = now - self._status_sent
        due = (
            since >= STATUS_INTERVAL
            if current != self._status_shown
            else bool(self._jobs) and since >= HEARTBEAT_INTERVAL
        )
        if not due:
            return []
        self._status_sent, self._status_shown = now, current
        slots, active, waiting, adapters = current
        status = StatusNote(
            step=self._steps,
            active=active,
            waiting=waiting,
            slots=slots,
            tokens_out_total=self._tokens_out,
            kv_used_bytes=self._backend.memory().kv_used_bytes if self._backend else 0,
            rss_bytes=resident_bytes(),
            adapters=adapters,
        )
        return [status]


def resident_bytes() -> int:
    """Memory that this process holds now; where the system does not tell, the most it ever held."""
    import resource
    import sys

    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
