"""From a start's decision to an end's commit: the one place where tasks run (DESIGN §3.3, start and end)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_id
from engine.contract.states import TaskState
from engine.control.book import Book
from engine.control.budget import Budget
from engine.control.dispatcher import Dispatcher
from engine.control.entries import End, Entries, Running, durability, given_back, started, stopped
from engine.control.execution import Ended, TaskContext, decode_payload, execute
from engine.control.failures import Failures, whole
from engine.control.instances import Instance, Instances
from engine.control.pinning import Pins, asked
from engine.control.supervision.care import Care
from engine.control.tempo import Tempo
from engine.ports import ContextFile, Keys, Models, Texts, ToolBox
from engine.scheduling.decisions import CancelTask, StartTask
from engine.scheduling.inputs import StartRefused, TaskEnded
from engine.store.journal import Journal
from engine.workers.template import TaskInput


class Attempts:
    """Performs StartTask and the cancelling of running tasks; commits how attempts end and tells the scheduler."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        journal: Journal,
        book: Book,
        instances: Instances,
        models: Models,
        budget: Budget,
        texts: Texts,
        failures: Failures,
        clock: Clock,
        *,
        max_result_bytes: int,
        keep_prompt_chars: int,
        tools: Callable[[int, Instance], ToolBox | None],
        keys: Keys | None,
        files: Callable[[int, Instance], Awaitable[tuple[ContextFile, ...]]],
        ended: Callable[[int, int, Ended], None],
        tempo: Tempo,
        care: Care,
    ) -> None:
        self._dispatcher = dispatcher
        self._journal = journal
        self._book = book
        self._instances = instances
        self._models = models
        self._budget = budget
        self._texts = texts
        self._entries = Entries(failures, care, keep_prompt_chars)
        self._clock = clock
        self._max_result_bytes = max_result_bytes
        self._tell_ended = ended
        self._care = care
        self._tempo = tempo
        self._tools = tools
        self._keys = keys
        self._files = files
        self._running: dict[int, Running] = {}
        self.idle = asyncio.Event()
        self.idle.set()
        self._unwritten: list[End] = []
        dispatcher.performs(StartTask, self._start)

    @property
    def unwritten(self) -> int:
        """Ends that happened and could not be stored: they are written when storage works again."""
        return len(self._unwritten)

    def __len__(self) -> int:
        return len(self._running)

    def using(self) -> dict[str, list[str]]:
        """The running tasks by the exact names of their adapters."""
        found: dict[str, list[str]] = {}
        for seq, running in self._running.items():
            for name in running.pins.names:
                found.setdefault(name, []).append(task_id(seq))
        return found

    def write_again(self) -> None:
        """Storage works again: commit the ends that could not be."""
        unwritten, self._unwritten = self._unwritten, []
        for end in unwritten:
            self._commit(end)

    def _start(self, decision: StartTask) -> None:
        brief = self._book.take(decision.seq)
        instance = self._instances.get(decision.instance)
        if brief is None or instance is None:
            self._dispatcher.feed(StartRefused(decision.seq, decision.attempt, gone=brief is None))
            return
        now = self._clock.wall_ms()
        pins = Pins(self._models.pinned)
        if instance.worker.uses_model:
            pins(asked(instance.definition, brief.payload))
        running = Running(
            seq=decision.seq,
            attempt=decision.attempt,
            instance=instance,
            brief=brief,
            started_ms=now,
            replica=decision.replica,
            pins=pins,
        )
        self._running[decision.seq] = running
        self.idle.clear()
        instance.take(task_id(decision.seq), now)
        running.lessons, given = self._care.begin(running.seq, running.attempt, brief, instance)
        running.start = (*started(running, decision.pool), *given)
        if instance.worker.idempotent and not instance.definition.tools_allow:
            # Running it twice does no harm, so it need not wait until its start is on disk. What ends in its first step is
            # written with its start, in one commit: the loop calls in the order in which it was asked.
            self._launch(running)
            asyncio.get_running_loop().call_soon(self._write_start, running)
        else:
            self._write_start(running)

    def _write_start(self, running: Running) -> None:
        if running.start:
            entry, running.start = running.start, ()
            written = self._journal.write(entry, durability(running.brief))
            written.add_done_callback(lambda receipt: self._started(running, receipt))

    def _started(self, running: Running, receipt: asyncio.Future[Any]) -> None:
        refused = receipt.cancelled() or receipt.exception() is not None
        if refused or receipt.result().fenced:
            self._refuse(running, gone=not refused)
        elif running.task is None and running.stopping is None:
            self._launch(running)
        elif running.task is None:
            self._finish(running, stopped(running))

    def _refuse(self, running: Running, *, gone: bool) -> None:
        """The start is not on disk: whatever runs of it must not count. Its attempt number may be used again, so the scheduler
        hears of it only when nothing of it runs any more."""
        running.stopping = "refused"

        def told(_: object) -> None:
            self._forget(running)
            self._dispatcher.feed(StartRefused(running.seq, running.attempt, gone=gone))

        if running.task is None or running.task.done():
            told(None)
        else:
            running.task.add_done_callback(told)
            running.task.cancel()

    def _launch(self, running: Running) -> None:
        running.task = asyncio.get_running_loop().create_task(self._run(running))

    async def _run(self, running: Running) -> None:
        running.begun = True
        if self._was_stopped(running):
            return
        instance, brief = running.instance, running.brief
        work = TaskInput(
            id=task_id(running.seq),
            attempt=running.attempt,
            payload=decode_payload(brief.payload),
            deadline_ms=brief.deadline_ms,
            lessons=running.lessons,
        )
        notes = self._care.notes(running.seq, running.attempt, instance)
        context = TaskContext(
            self._models,
            self._budget,
            instance.definition,
            work,
            partial(self._write, running),
            partial(self._instances.hold, instance),
            self._tools(running.seq, instance) if instance.definition.tools_allow else None,
            notes.insight,
            self._keys,
            partial(self._files, running.seq, instance) if instance.definition.files else None,
            instance.pulse,
        )
        context.replica = running.replica
        context.pins = running.pins
        try:
            ended = await execute(instance, work, context, self._max_result_bytes)
        except asyncio.CancelledError:
            if running.stopping is None:
                raise
            ended = context.spent(stopped(running))
        if notes.reflection:
            ended = msgspec.structs.replace(ended, reflection=notes.reflection)
        context.note(instance)
        if running.stopping != "refused":
            self._finish(running, ended)

    def _was_stopped(self, running: Running) -> bool:
        """Whether the attempt was stopped before its first step; its end is then on its way."""
        if running.stopping is None:
            return False
        if running.stopping != "refused":
            self._finish(running, stopped(running))
        return True

    def _write(self, running: Running, text: str) -> None:
        if not running.wrote:
            running.wrote = True
            self._texts.open(running.seq, running.attempt)
        self._texts.append(running.seq, running.attempt, text)

    # -- ends ------------------------------------------------------------------------------------------------------

    def _finish(self, running: Running, ended: Ended) -> None:
        """Commit the end; only then tell the scheduler, whoever waits, and the stream's readers."""
        now = self._clock.wall_ms()
        if ended.outcome == "released":
            entry, final = given_back(running, now), TaskState.pending
        else:
            if ended.error is not None:
                ended = msgspec.structs.replace(ended, error=whole(ended.error, running.seq))
            error = ended.error
            verdict = self._dispatcher.verdict(
                running.seq,
                running.attempt,
                ended.outcome,  # type: ignore[arg-type]
                retryable=error is not None and error.retryable,
                error_code=error.code if error is not None else None,
                retry_after_ms=error.retry_after_ms if error is not None else None,
            )
            if verdict is None:
                self._forget(running)
                return
            entry, final = self._entries.end(running, ended, verdict, now), verdict.state
        start, running.start = running.start, ()
        self._commit(End(running, ended, final, now, (*start, *entry)))

    def _commit(self, end: End) -> None:
        written = self._journal.write(end.entry, durability(end.running.brief))
        written.add_done_callback(lambda receipt: self._finished(end, receipt))

    def _finished(self, end: End, receipt: asyncio.Future[Any]) -> None:
        if end.running.stopping == "refused":
            return
        failure = None if receipt.cancelled() else receipt.exception()
        if receipt.cancelled() or (isinstance(failure, AiwmError) and failure.code == Code.storage_failed):
            # The end is not on disk, so nobody hears of it. It is written again when storage works; until then the task holds its place.
            self._unwritten.append(end)
            return
        if failure is not None and not end.plain:
            # Storage works, but this end cannot be stored as it is: the task fails, and says so.
            self._commit(self._entries.plain(end, failure, self._clock.wall_ms()))
            return
        running, ended, state = end.running, end.ended, end.state
        self._forget(running)
        error = ended.error
        self._texts.end(running.seq, running.attempt, state.value)
        instance = running.instance
        instance.done += ended.outcome == "completed"
        instance.failed += ended.outcome in ("failed", "crashed")
        instance.used(ended.tokens_in or 0, ended.tokens_out or 0, ended.cost_usd or 0.0)
        if error is not None:
            instance.note = f"{error.code}: {error.message}"[:200]
        if ended.outcome == "released":
            return
        self._dispatcher.feed(
            TaskEnded(
                running.seq,
                running.attempt,
                ended.outcome,  # type: ignore[arg-type]
                retryable=error is not None and error.retryable,
                error_code=error.code if error is not None else None,
                retry_after_ms=error.retry_after_ms if error is not None else None,
            )
        )
        if state.ended and failure is None and not receipt.result().fenced:
            self._tempo.ended(
                running.brief.queue,
                instance.pool,
                end.at_ms - running.started_ms,
                completed=state is TaskState.completed,
            )
            self._tell_ended(running.seq, running.attempt, msgspec.structs.replace(ended, state=state))

    def _forget(self, running: Running) -> None:
        if self._running.get(running.seq) is running:
            del self._running[running.seq]
            if not self._running:
                self.idle.set()
            if running.instance.task == task_id(running.seq):
                running.instance.release(self._clock.wall_ms())

    # -- stopping --------------------------------------------------------------------------------------------------

    def cancel(self, decision: CancelTask) -> bool:
        """Tell a running task to stop; False if it does not run here."""
        running = self._running.get(decision.seq)
        if running is None:
            return False
        self._stop(running, "cancelled")
        return True

    def release_all(self) -> None:
        """Give every running task back to its queue: the engine stops now."""
        for running in list(self._running.values()):
            self._stop(running, "released")

    def _stop(self, running: Running, why: str) -> None:
        running.stopping = running.stopping or why
        # A coroutine that is cancelled before its first step never runs a line, not even of its cleaning up: it looks for itself.
        if running.task is not None and running.begun:
            running.task.cancel()
