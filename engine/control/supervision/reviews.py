"""Reviews: due with the end of a task, done afterwards, one line each until then. They outlast the engine."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.ids import task_id, task_seq
from engine.contract.records import RecordRow
from engine.contract.records.knowledge import ReviewRow
from engine.contract.records.notes import Feedback
from engine.contract.states import Durability
from engine.control.supervision.agents import Agents, Answer
from engine.control.supervision.asking import question, verdict
from engine.control.supervision.notes import FEEDBACK
from engine.control.supervision.rules import PREFIX, Verdict, judge, rules_of
from engine.scheduling.context import Given
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

KIND: Final = "review"
AT_ONCE: Final = 2
"""Agents that are asked at the same time, of all that wait."""
PER_MINUTE: Final = 60
"""Questions to agents in a minute, whatever their own limits allow."""
TRIES: Final = 3
ALERT_BELOW: Final = 0.2
"""A completed task with a lower rating is an alert."""
_MOST = 100_000
_SAMPLES = 51
_RETRY_S = 5.0
_LEAST_ROOM = 64
_EVENTS = 50

_log = logging.getLogger(__name__)


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A review as it is stored: one of each supervisor for a task."""

    supervisor: str
    level: str
    name: str
    attempt: int
    at_ms: int
    tries: int = 0
    note: str = ""

    def row(self, task: str) -> ReviewRow:
        level = f"{self.level} {self.name}".strip()
        return ReviewRow(
            id=f"{task}/{self.supervisor}",
            task=task,
            supervisor=self.supervisor,
            level=level,
            attempt=self.attempt,
            due_ms=self.at_ms,
            tries=self.tries,
            note=self.note,
        )


class Reviews:
    """Does them. `metadata` gives, for a record, the metadata in which rules may stand, the most special first."""

    def __init__(
        self,
        journal: Journal,
        readers: Readers,
        agents: Agents,
        clock: Clock,
        metadata: Callable[[RecordRow], Iterable[Mapping[str, Any]]],
        changed: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._readers = readers
        self._agents = agents
        self._clock = clock
        self._metadata = metadata
        self._changed = changed
        self._expected: dict[int, Due] = {}
        self._waiting: deque[tuple[int, Due]] = deque()
        self._under_way: set[tuple[int, str]] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._asked: deque[float] = deque()
        self._durations: dict[str, deque[int]] = {}
        self._started = False
        self._closed = False

    # -- life ------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with what earlier engines left. Asked again, nothing happens."""
        if self._started:
            return
        self._started = True
        for stored in self._readers.documents(KIND, limit=_MOST, newest_first=False):
            self._take(task_seq(stored.ref), msgspec.json.decode(stored.json, type=Due))

    async def close(self) -> None:
        """Stop; what is not done stays due."""
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    @property
    def busy(self) -> bool:
        """Whether an agent is being asked."""
        return bool(self._running)

    # -- what is due -----------------------------------------------------------------------------------------------------

    def due(self, seq: int, attempt: int, given: Given, now_ms: int) -> ops.PutDocument:
        """A task ends under a supervisor: what must be written with its end. `ended` then begins it."""
        due = Due(supervisor=given.value, level=given.level.value, name=given.name, attempt=attempt, at_ms=now_ms)
        self._expected[seq] = due
        return _put(seq, due)

    def ended(self, seq: int) -> None:
        """A task's end is on disk."""
        due = self._expected.pop(seq, None)
        if due is not None and self._started:
            self._take(seq, due)

    async def ask(self, seq: int, supervisor: str) -> ReviewRow:
        """Let a task be reviewed because somebody says so."""
        now = self._clock.wall_ms()
        record = self._readers.record_of(seq)
        attempt = record.attempt if record is not None else 0
        due = Due(supervisor=supervisor, level="task", name="", attempt=attempt, at_ms=now)
        await self._journal.write((_put(seq, due),), Durability.os)
        if not self._started:
            self.start()
        elif (seq, supervisor) not in self._under_way:
            self._take(seq, due)
        return due.row(task_id(seq))

    def pending(self, supervisor: str, limit: int) -> list[ReviewRow]:
        """Reviews that are due, the oldest first."""
        stored = self._readers.documents(KIND, limit=_MOST, newest_first=False)
        rows = [msgspec.json.decode(it.json, type=Due).row(it.ref) for it in stored]
        return [row for row in rows if not supervisor or row.supervisor == supervisor][:limit]

    # -- doing it --------------------------------------------------------------------------------------------------------

    def _take(self, seq: int, due: Due) -> None:
        if self._closed:
            return
        if due.supervisor.startswith(PREFIX):
            self._by_rules(seq, due)
            return
        self._under_way.add((seq, due.supervisor))
        self._waiting.append((seq, due))
        if len(self._running) < AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._work())
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _work(self) -> None:
        while self._waiting:
            seq, due = self._waiting.popleft()
            try:
                await self._by_agent(seq, due)
                self._under_way.discard((seq, due.supervisor))
            except AiwmError as error:
                await self._put_off(seq, due, error.info)
            except Exception as error:
                _log.exception("the review of %s failed", task_id(seq))
                await self._put_off(seq, due, ErrorInfo(code="internal", message=f"{type(error).__name__}: {error}"))

    async def _put_off(self, seq: int, due: Due, error: ErrorInfo) -> None:
        try:
            await self._failed(seq, due, error)
        except AiwmError as failure:
            # It is due still, as it was: the next engine, or whoever asks for it again, has it done. The others must not wait for that.
            _log.warning("what became of the review of %s could not be stored: %s", task_id(seq), failure)
            self._under_way.discard((seq, due.supervisor))

    def _by_rules(self, seq: int, due: Due) -> None:
        record = self._readers.record_of(seq)
        if record is None:
            self._write((_done(seq, due.supervisor),))
            return
        try:
            rules = rules_of(due.supervisor.removeprefix(PREFIX), self._metadata(record))
        except AiwmError as error:
            self._write(self._refused(seq, due, error.info))
            return
        durations = self._durations.setdefault(record.definition or "", deque(maxlen=_SAMPLES))
        said = judge(rules, record, self._output(seq), durations)
        if record.success and record.duration_ms is not None:
            durations.append(record.duration_ms)
        self._write(self._said(seq, due.supervisor, said, record))

    async def _by_agent(self, seq: int, due: Due) -> None:
        record = self._readers.record_of(seq)
        if record is None:
            await self._journal.write((_done(seq, due.supervisor),), Durability.os)
            return
        await self._pace()
        payload = msgspec.json.decode(self._readers.payload(seq) or b"null")
        answer = await self._answer(seq, due.supervisor, record, payload)
        audit = self._event(
            "audit", "supervisor.asked", due.supervisor, seq, f"{answer.tokens_in} tokens in, {answer.tokens_out} out"
        )
        try:
            said = verdict(answer.said)
        except AiwmError as error:
            text = f"{error.info.message}: {_beginning(answer.said)}"
            event = self._event("warn", "supervisor.unparsable", due.supervisor, seq, text)
            await self._journal.write((_done(seq, due.supervisor), audit, event), Durability.os)
        else:
            await self._journal.write((*self._said(seq, due.supervisor, said, record), audit), Durability.os)
        self._changed()

    async def _answer(self, seq: int, supervisor: str, record: RecordRow, payload: Any) -> Answer:
        """Ask. How many tokens a text has is only known to the model: what is too long for it is asked again, shorter."""
        room = self._agents.room(supervisor)
        while True:
            events = self._readers.events_of(seq, _EVENTS)
            asked = question(record, events, payload, self._output(seq), secrets.token_hex(4), room)
            try:
                return await self._agents.ask(supervisor, task_id(seq), asked)
            except AiwmError as error:
                if error.code != Code.prompt_too_long or room < _LEAST_ROOM:
                    raise
                room //= 2

    async def _pace(self) -> None:
        """Wait until the last minute has room for another question."""
        loop = asyncio.get_running_loop()
        while self._asked and self._asked[0] <= loop.time() - 60:
            self._asked.popleft()
        if len(self._asked) >= PER_MINUTE:
            await asyncio.sleep(self._asked[0] + 60 - loop.time())
            self._asked.popleft()
        self._asked.append(loop.time())

    def _output(self, seq: int) -> Any:
        result, error = self._readers.result(seq)
        return msgspec.json.decode(result or error or b"null")

    # -- what becomes of it ------------------------------------------------------------------------------------------------

    def feedback(self, seq: int, by: str, said: Verdict, *, rated: bool) -> tuple[Feedback, tuple[ops.Op, ...]]:
        """What feedback writes. One task has one of each supervisor or person; a new one replaces it."""
        now, task = self._clock.wall_ms(), task_id(seq)
        feedback = Feedback(
            id=f"{task}/{by}",
            task=task,
            rating=said.rating if rated else None,
            comments=said.comments,
            corrections=said.corrections,
            by=by,
            at_ms=now,
        )
        put = ops.PutDocument(FEEDBACK, feedback.id, task, now, msgspec.json.encode(feedback))
        words = f"rating {said.rating:g}: {said.comments}" if rated else said.comments
        event = self._event("info", "supervisor.feedback", by, seq, words)
        rate = (ops.RateRecord(seq, said.rating, said.comments[:500]),) if rated else ()
        return feedback, (put, event, *rate)

    def _said(self, seq: int, by: str, said: Verdict, record: RecordRow) -> tuple[ops.Op, ...]:
        _, entry = self.feedback(seq, by, said, rated=True)
        if record.success and said.rating < ALERT_BELOW:
            text = f"{record.definition}: rating {said.rating:g}: {said.comments}"
            entry = (*entry, self._event("error", "alert.supervisor", by, seq, text))
        return (*entry, _done(seq, by))

    async def _failed(self, seq: int, due: Due, error: ErrorInfo) -> None:
        if not error.retryable or due.tries + 1 >= TRIES:
            self._under_way.discard((seq, due.supervisor))
            await self._journal.write(self._refused(seq, due, error), Durability.os)
            self._changed()
            return
        again = msgspec.structs.replace(due, tries=due.tries + 1, note=f"{error.code}: {error.message}"[:200])
        await self._journal.write((_put(seq, again),), Durability.os)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(_RETRY_S * 2**due.tries, lambda: self._take(seq, again))
        self._timers = {it for it in self._timers if it.when() > loop.time()} | {timer}

    def _refused(self, seq: int, due: Due, error: ErrorInfo) -> tuple[ops.Op, ...]:
        text = f"not reviewed by {due.supervisor}: {error.message}"
        return _done(seq, due.supervisor), self._event("error", "supervisor.failed", due.supervisor, seq, text)

    def _event(self, level: str, type_: str, who: str, seq: int, text: str) -> ops.AppendEvent:
        return ops.AppendEvent(
            at_ms=self._clock.wall_ms(),
            level=level,
            type=type_,
            who=who[:200],
            about=task_id(seq),
            text=text[:2_000],
            task_seq=seq,
        )

    def _write(self, entry: tuple[ops.Op, ...]) -> None:
        """Nobody waits for it: what is lost with the storage is due still, and done by the next engine."""
        self._journal.write(entry, Durability.os)
        self._changed()


def _put(seq: int, due: Due) -> ops.PutDocument:
    task = task_id(seq)
    return ops.PutDocument(KIND, f"{task}/{due.supervisor}", task, due.at_ms, msgspec.json.encode(due))


def _done(seq: int, supervisor: str) -> ops.DeleteDocument:
    return ops.DeleteDocument(KIND, f"{task_id(seq)}/{supervisor}")


def _beginning(said: Any) -> str:
    text = said.get("text") if isinstance(said, dict) else said
    return (text if isinstance(text, str) else msgspec.json.encode(said).decode())[:200]
