"""The one thread of a model process that owns the backend: it admits, steps, cancels, and reports.

Other threads hand it work through `do` (run between two steps). What goes first was decided by the engine's scheduler and is not decided
again here: requests are admitted in the order they came. One that waits for its adapters keeps its slot and lets others by, as long as
they take no room from it."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable

from engine.contract.errors import AiwmError, Code
from engine.inference.adapter_cache import AdapterCache
from engine.inference.adapter_loader import LoaderThread, SettlingLoader
from engine.inference.adapter_loads import AdapterLoads
from engine.inference.backends.base import AdapterRef, Backend, Broken, Delta, Event, Failed, Finished, FinishReason
from engine.inference.job import Job, tokens_told
from engine.inference.protocol import AdapterNote, FailedNote, Note, StatusNote

STATUS_INTERVAL = 0.1  # seconds between two status notes at least, when something changes
HEARTBEAT_INTERVAL = 1.0  # seconds between two status notes at most, while requests are in
EXIT_BROKEN = 70

Send = Callable[[list[Note]], None]
Shown = tuple[int, int, int, int]


class Stepper(threading.Thread):
    """`send` gets all notes of one step at once; it is called on this thread. `loader` replaces the thread that loads adapters."""

    def __init__(self, send: Send, loader: SettlingLoader | None = None) -> None:
        super().__init__(name="stepper", daemon=True)
        self._backend: Backend | None = None
        self._send_notes = send
        self._wake = threading.Condition()
        self._inbox: deque[Callable[[], None]] = deque()
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._loader = loader or LoaderThread(self.do)
        self._cache = AdapterCache()
        self._loads: AdapterLoads | None = None
        self._slots = 0
        self._steps = 0
        self._tokens_out = 0
        self._status_sent = 0.0
        self._status_shown: Shown = (0, 0, 0, 0)

    # -- for other threads ---------------------------------------------------------------------------------------------

    def do(self, work: Callable[[], None]) -> None:
        """Run this between two steps, on the stepper's thread."""
        with self._wake:
            self._inbox.append(work)
            self._wake.notify()

    # -- work that `do` is given: on the stepper's thread ------------------------------------------------------------------

    def unload(self) -> None:
        """Drop the model. Its requests end with an error."""
        error = AiwmError(Code.model_unavailable, "the model was unloaded", retryable=True)
        self._loader.settle()
        if self._loads:
            self._loads.close(error)
        for job in list(self._jobs.values()):
            self._send([*job.flushed(), FailedNote(job.id, error.info)])
        self._jobs.clear()
        self._waiting.clear()
        backend, self._backend, self._loads = self._backend, None, None
        self._slots, self._cache = 0, AdapterCache()
        if backend:
            backend.unload()

    def serve(self, backend: Backend, slots: int, cache: AdapterCache) -> None:
        """A model was loaded."""
        self._backend, self._slots, self._cache = backend, slots, cache
        self._loads = AdapterLoads(
            backend,
            cache,
            self._loader,
            waiting=self.awaited,
            refused=self._refused,
            tell=self._adapter_told,
        )

    def submit(self, job: Job) -> None:
        self.loaded()
        if job.id in self._jobs:
            raise AiwmError(Code.conflict, f"request {job.id} is already running", field="id")
        self._jobs[job.id] = job
        self._waiting.append(job)

    def cancel(self, request_id: str, reason: FinishReason = "cancelled") -> bool:
        job = self._jobs.get(request_id)
        if job is None:
            return False
        if job.admitted:
            finished = self.loaded()[0].cancel(request_id, reason)
        else:
            self._waiting.remove(job)
            finished = Finished(request_id, reason, len(job.prepared.tokens), 0)
        if finished is not None:
            self._send(self._ended(job, finished))
        return finished is not None

    def loaded(self) -> tuple[Backend, AdapterLoads]:
        """Raises model_unavailable."""
        if self._backend is None or self._loads is None:
            raise AiwmError(Code.model_unavailable, "no model is loaded in this process", retryable=True)
        return self._backend, self._loads

    @property
    def cache(self) -> AdapterCache:
        return self._cache

    @property
    def busy(self) -> bool:
        """Whether there are requests."""
        return bool(self._jobs)

    @property
    def waiting(self) -> int:
        """Requests that have no slot yet."""
        return len(self._waiting)

    # -- the loop --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            while True:
                self.turn()
        except BaseException as error:
            traceback.print_exc()
            # The model's state is unknown: the supervisor starts a fresh process.
            os._exit(error.exit_code if isinstance(error, Broken) else EXIT_BROKEN)

    def turn(self, *, sleep: bool = True) -> None:
        """What others asked for, admission, and one step. Without anything to do it sleeps, if it may."""
        self._take_work(sleep=sleep)
        self._end_overdue(time.monotonic())
        notes = self._admit()
        if self._backend and self._backend.active():
            events = self._backend.step()
            self._steps += 1
            notes += self._report(events, time.monotonic())
        notes += self._status(time.monotonic())
        self._send(notes)

    def _take_work(self, *, sleep: bool) -> None:
        """Do what other threads asked for. With nothing to step, sleep until they do, or until a note or a deadline is due."""
        with self._wake:
            if sleep and not self._inbox and not self._active():
                self._wake.wait(self._until_due(time.monotonic()))
            work = list(self._inbox)
            self._inbox.clear()
        for piece in work:
            piece()

    def _until_due(self, now: float) -> float | None:
        """Seconds; None when nothing will be due."""
        due = [job.deadline for job in self._jobs.values() if job.deadline is not None]
        if self._status_shown != self._shown():
            due.append(self._status_sent + STATUS_INTERVAL)
        elif self._jobs:
            due.append(self._status_sent + HEARTBEAT_INTERVAL)
        return max(0.0, min(due) - now) if due else None

    def _active(self) -> int:
        return self._backend.active() if self._backend else 0

    def _end_overdue(self, now: float) -> None:
        for job in [job for job in self._jobs.values() if job.deadline is not None and now >= job.deadline]:
            self.cancel(job.id, "deadline")

    # -- admission ---------------------------------------------------------------------------------------------------------

    def _admit(self) -> list[Note]:
        """Give free slots to waiting requests in order. Those whose adapters are on their way keep one; where there is no room for
        them, only requests without adapters pass."""
        notes: list[Note] = []
        free = self._slots - self._active() if self._waiting else 0
        ahead: set[str] = set()
        blocked = False
        for job in list(self._waiting):
            if free <= 0:
                break
            wanted = job.adapters
            if blocked and wanted:
                free -= 1
                continue
            try:
                outcome = self._advance(job, ahead)
            except AiwmError as error:
                self._waiting.remove(job)
                notes += self._failed(job, Failed(job.id, error))
                continue
            if outcome == "full":
                break
            free -= 1
            ahead |= set(wanted)
            blocked = blocked or outcome == "no room"
        return notes

    def _advance(self, job: Job, ahead: set[str]) -> str:
        """Admit it, or do what is missing for that. Raises AiwmError."""
        backend, loads = self.loaded()
        wanted = job.adapters
        readiness = loads.bring(wanted.values(), ahead) if wanted else "ready"
        if readiness != "ready":
            job.waited_for |= {digest for digest in wanted if self._cache.state(digest) not in ("resident", "pinned")}
            return readiness
        if not backend.admit(job.prepared):
            return "full"
        self._waiting.remove(job)
        job.admitted = True
        for digest, ref in wanted.items():
            self._cache.pin(digest, ref.name, waited=digest in job.waited_for)
        return "admitted"

    def awaited(self) -> set[str]:
        """The adapters of all requests that wait."""
        return {ref.digest for job in self._waiting for ref in job.prepared.request.adapters}

    def _refused(self, ref: AdapterRef, error: AiwmError) -> None:
        """An adapter cannot be loaded: requests that wait for it, from there, fail."""
        for job in list(self._waiting):
            if ref.path in {mine.path for mine in job.prepared.request.adapters if mine.digest == ref.digest}:
                self._waiting.remove(job)
                self._send(self._failed(job, Failed(job.id, error)))

    def _adapter_told(self, note: AdapterNote) -> None:
        self._steps += 1  # for who watches whether this process gets on
        self._send([note])

    # -- ends and notes ----------------------------------------------------------------------------------------------------

    def _report(self, events: list[Event], now: float) -> list[Note]:
        notes: list[Note] = []
        for event in events:
            job = self._jobs[event.id]
            if isinstance(event, Delta):
                notes += job.wrote(event, now)
            elif isinstance(event, Finished):
                notes += self._ended(job, event)
            else:
                notes += self._failed(job, event)
        return notes

    def _ended(self, job: Job, finished: Finished) -> list[Note]:
        self._gone(job)
        return job.ended(finished, time.monotonic())

    def _failed(self, job: Job, failed: Failed) -> list[Note]:
        self._gone(job)
        return job.failed(failed)

    def _gone(self, job: Job) -> None:
        del self._jobs[job.id]
        if job.admitted:
            for digest in job.adapters:
                self._cache.unpin(digest)
        elif self._loads:
            self._loads.forsaken()

    def _send(self, notes: list[Note]) -> None:
        if notes:
            self._tokens_out += tokens_told(notes)
            self._send_notes(notes)

    # -- status ------------------------------------------------------------------------------------------------------------

    def _shown(self) -> Shown:
        return self._slots, self._active(), len(self._waiting), self._cache.version

    def _status(self, now: float) -> list[Note]:
        current = self._shown()
        since = now - self._status_sent
        due = (
            since >= STATUS_INTERVAL
            if current != self._status_shown
            else bool(self._jobs) and since >= HEARTBEAT_INTERVAL
        )
        if not due:
            return []
        self._status_sent, self._status_shown = now, current
        slots, active, waiting, _ = current
        status = StatusNote(
            step=self._steps,
            active=active,
            waiting=waiting,
            slots=slots,
            tokens_out_total=self._tokens_out,
            kv_used_bytes=self._backend.memory().kv_used_bytes if self._backend else 0,
            rss_bytes=resident_bytes(),
            adapters=self._cache.ready(),
            cache=self._cache.note(),
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
