"""Requests about what was used, what failed, and what happened: sums, series, failures folded, the report."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from fnmatch import fnmatchcase

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.query import parse
from engine.contract.records import EventRow, TaskRow
from engine.contract.records.operations import FailureRow
from engine.contract.requests import failures as about
from engine.contract.requests import usage as requests
from engine.contract.states import TaskState
from engine.control.failures import Failures
from engine.control.sampling import STEPS_MS, Sampling
from engine.control.sessions.store import SessionStore
from engine.control.tally import WAITING, Tally
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.store import Store
from engine.store.usage import Used

_MOST = 10_000
_LINES = 200
_POINTS = 100_000
_PATTERN = frozenset("*?[")
_WHOLE = frozenset({"submitter", "definition", "queue", "pool", "model"})
"""Sums in which tasks without such a thing have a line too, so that nothing is missing; in the others they do not belong."""
_COMMON = ("definition", "adapter", "queue", "batch", "template", "pool", "instance", "by")


class UsageOperations:
    """Answers from records, samples, failures and events."""

    def __init__(
        self, failures: Failures, tally: Tally, store: Store, clock: Clock, chats: SessionStore, sampling: Sampling
    ) -> None:
        self._chats = chats
        self._sampling = sampling
        self._failures = failures
        self._tally = tally
        self._readers = store.readers
        self._windows = store.windows
        self._clock = clock

    def register(self, table: RequestTable) -> None:
        table.register(about.FailureList, self.failures)
        table.register(about.FailureShow, self.failure)
        table.register(requests.UsageRead, self.usage)
        table.register(requests.SamplesRead, self.samples)
        table.register(requests.ReportRead, self.report)

    # -- failures ------------------------------------------------------------------------------------------------------

    async def failures(self, request: about.FailureList, _: Caller) -> list[FailureRow]:
        _check_limit(request.limit)
        _check_since(request.since_ms)
        return self._failures.rows(request.since_ms, request.limit)

    async def failure(self, request: about.FailureShow, _: Caller) -> about.FailureDetail:
        identifier, known = self._find(request.id)
        now = self._clock.wall_ms()
        window = await self._windows.window(parse(f":tasks fail:{identifier} state:failed"), 0, _MOST, now)
        rows = [row for row in window.rows if isinstance(row, TaskRow)]
        return about.FailureDetail(
            row=known,
            failed_now=window.matched,
            tasks=tuple(row.id for row in rows[:20]),
            common=_common(rows),
            stderr=found.stderr if (found := self._failures.find(identifier)) is not None else (),
        )

    def _find(self, text: str) -> tuple[str, FailureRow]:
        """A fingerprint, whole or its beginning."""
        found = self._failures.find(text)
        if found is not None:
            return text, found.row(text)
        matching = [row for row in self._failures.rows(None, _MOST) if len(text) > 2 and row.id.startswith(text)]
        if len(matching) == 1:
            return matching[0].id, matching[0]
        why = f"begins {len(matching)} of them" if matching else "is none that happened"
        raise AiwmError(Code.not_found, f'failure "{text[:40]}" {why}', field="id", fix="aiwm failure list")

    # -- sums and series -------------------------------------------------------------------------------------------------

    async def usage(self, request: requests.UsageRead, _: Caller) -> list[requests.UsageRow]:
        _check_limit(request.limit)
        _check_since(request.since_ms)
        return await self._usage(request.by, request.since_ms, request.limit)

    async def _usage(self, by: str, since_ms: int | None, limit: int) -> list[requests.UsageRow]:
        sums = {it.key: it for it in await self._windows.usage(by, since_ms) if it.key or by in _WHOLE}
        chats = await self._chats.used(by, since_ms)
        for key, used in chats.items():
            sums[key] = _together(sums.get(key), used)
        return [
            requests.UsageRow(
                name=it.key or "-",
                turns=chats[it.key].tasks if it.key in chats else 0,
                tasks=it.tasks,
                completed=it.completed,
                failed=it.failed,
                tokens_in=it.tokens_in,
                tokens_out=it.tokens_out,
                cost_usd=it.cost_usd,
                spent_ms=it.busy_ms,
            )
            for it in sorted(sums.values(), key=lambda it: (-(it.tokens_in + it.tokens_out), -it.tasks))[:limit]
        ]

    async def samples(self, request: requests.SamplesRead, _: Caller) -> list[requests.Series]:
        if request.step_ms not in STEPS_MS:
            steps = ", ".join(map(str, STEPS_MS))
            raise AiwmError(
                Code.bad_request, f"step_ms is {request.step_ms}; there are points {steps} ms apart", field="step_ms"
            )
        _check_since(request.since_ms)
        since_ms = request.since_ms if request.since_ms is not None else 0
        wanted = request.names or ("*",)
        found: list[requests.Series] = []
        left = _POINTS
        for name in self._named(wanted):
            points = self._readers.samples(name, request.step_ms, since_ms)
            under_way = self._sampling.under_way(name, request.step_ms)
            if under_way is not None and under_way[0] >= since_ms:
                # A step that a restarted engine goes on with is there already.
                points = [*(points[:-1] if points and points[-1][0] == under_way[0] else points), under_way]
            first = self._readers.sample_before(name, request.step_ms, since_ms) if request.before else None
            points = ([first] if first is not None else []) + points
            points = points[-left:] if left else []
            left -= len(points)
            if points:
                found.append(requests.Series(name=name, step_ms=request.step_ms, points=points))
        return found

    def _named(self, wanted: tuple[str, ...]) -> list[str]:
        """The series with these names; only patterns need all names to be looked through."""
        if not any(set(pattern) & _PATTERN for pattern in wanted):
            return sorted(set(wanted))
        return [name for name in self._readers.series() if any(fnmatchcase(name, pattern) for pattern in wanted)]

    # -- the report ------------------------------------------------------------------------------------------------------

    async def report(self, request: requests.ReportRead, _: Caller) -> requests.Report:
        now, since = self._clock.wall_ms(), request.since_ms
        _check_since(since)
        if not 0 <= since <= now:
            raise AiwmError(Code.bad_request, "since_ms must lie in the past", field="since_ms")
        queues = await self._usage("queue", since, _MOST)
        cancelled = await self._windows.window(parse(f":tasks state:cancelled ended>={_at(since)}"), 0, 0, now)
        healed = await self._windows.window(parse(f":records state:completed attempt>1 ended>={_at(since)}"), 0, 0, now)
        errors = await self._windows.window(parse(f":events level:error at>={_at(since)}"), 0, 0, now)
        return requests.Report(
            since_ms=since,
            until_ms=now,
            completed=sum(it.completed for it in queues),
            failed=self._readers.failed_since(since),
            cancelled=cancelled.matched,
            healed=healed.matched,
            waiting=self._tally.total(*WAITING),
            running=self._tally.total(TaskState.processing),
            tokens_in=sum(it.tokens_in for it in queues),
            tokens_out=sum(it.tokens_out for it in queues),
            cost_usd=round(sum(it.cost_usd for it in queues), 6),
            queues=queues,
            failures=self._failures.rows(since, _LINES),
            asked=await self._events("ask", since),
            did=await self._events("audit", since),
            errors=errors.matched,
        )

    async def _events(self, level: str, since_ms: int) -> list[requests.ReportLine]:
        """The last events of a level, the newest last."""
        location = parse(f":events level:{level} at>={_at(since_ms)} sort:-id")
        window = await self._windows.window(location, 0, _LINES, self._clock.wall_ms())
        return [
            requests.ReportLine(at_ms=row.at_ms, who=row.who, what=row.type, about=row.about, text=row.text)
            for row in reversed(window.rows)
            if isinstance(row, EventRow)
        ]


def _common(rows: list[TaskRow]) -> tuple[about.Common, ...]:
    """For each field the value that most of the rows have, if it is more than half of them; the most telling first."""
    found = []
    for field in _COMMON:
        counts = Counter(value for row in rows if (value := getattr(row, field)))
        if counts:
            value, count = counts.most_common(1)[0]
            if count * 2 > len(rows):
                found.append(about.Common(field=field, value=value, count=count))
    return tuple(sorted(found, key=lambda it: -it.count))


def _at(ms: int) -> str:
    """A time as the filter language reads it, to the millisecond."""
    return datetime.fromtimestamp(ms / 1000).isoformat(timespec="milliseconds")


def _check_since(since_ms: int | None) -> None:
    if since_ms is not None and not 0 <= since_ms <= 2**53:
        raise AiwmError(Code.bad_request, "since_ms must lie between 0 and 2^53", field="since_ms")


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= _MOST:
        raise AiwmError(Code.bad_request, f"limit is {limit}, but must lie between 1 and {_MOST}", field="limit")


def _together(tasks: Used | None, chats: Used) -> Used:
    """What tasks and chats of one key used; turns are no tasks."""
    return Used(
        chats.key,
        tasks.tasks if tasks is not None else 0,
        tasks.failed if tasks is not None else 0,
        chats.tokens_in + (tasks.tokens_in if tasks is not None else 0),
        chats.tokens_out + (tasks.tokens_out if tasks is not None else 0),
        chats.cost_usd + (tasks.cost_usd if tasks is not None else 0.0),
        chats.busy_ms + (tasks.busy_ms if tasks is not None else 0),
        tasks.completed if tasks is not None else 0,
    )
