"""Requests about performance and rate limits: records, what they sum up to, and what is left of the limits."""

from __future__ import annotations

import msgspec

from engine.clock import Clock
from engine.contract.definitions import DefinitionStatus, RateLimits, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.query import Location, Term, parse
from engine.contract.records import RecordRow, SummaryRow
from engine.contract.requests import limits as about
from engine.contract.requests import performance as requests
from engine.control.budget import Budget
from engine.control.catalogue import Catalogue
from engine.control.dispatcher import Dispatcher
from engine.control.instances import Instances
from engine.control.numbering import Numbering
from engine.control.performance import Performance, Sums
from engine.control.sessions.store import Chatted, SessionStore
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.performance import rated
from engine.store.window import Windows

_MOST = 5_000
_STATELESS = "stateless"


class PerformanceOperations:
    """Answers from performance records and from the budget."""

    def __init__(
        self,
        performance: Performance,
        sessions: SessionStore,
        windows: Windows,
        catalogue: Catalogue,
        instances: Instances,
        numbering: Numbering,
        dispatcher: Dispatcher,
        budget: Budget,
        clock: Clock,
    ) -> None:
        self._performance = performance
        self._sessions = sessions
        self._windows = windows
        self._catalogue = catalogue
        self._instances = instances
        self._numbering = numbering
        self._dispatcher = dispatcher
        self._budget = budget
        self._clock = clock

    def register(self, table: RequestTable) -> None:
        table.register(requests.PerfList, self.records)
        table.register(requests.PerfSummary, self.summary)
        table.register(about.LimitsList, self.limits)
        table.register(about.LimitsShow, self.limit)

    # -- performance ---------------------------------------------------------------------------------------------------

    async def records(self, request: requests.PerfList, _: Caller) -> requests.RecordPage:
        if not 0 <= request.limit <= _MOST:
            raise AiwmError(Code.bad_request, f"limit is {request.limit}: 0 to {_MOST} rows", field="limit")
        if request.offset < 0:
            raise AiwmError(Code.bad_request, f"offset is {request.offset}: it counts from 0", field="offset")
        location = _one_shot(parse(f":records {request.where}"))
        window = await self._windows.window(location, request.offset, request.limit, self._clock.wall_ms())
        # A window moves back when there are too few rows behind its top; a page past the end is empty.
        rows = [row for row in window.rows if isinstance(row, RecordRow)][max(0, request.offset - window.top) :]
        return requests.RecordPage(rows=rows, total=window.matched, exact=window.exact)

    async def summary(self, request: requests.PerfSummary, _: Caller) -> list[SummaryRow]:
        by = request.by
        sums = await self._performance.sums()
        known = {name: it for (dimension, name), it in sums.items() if dimension == by}
        ratings: dict[str, tuple[float, int]] = {}
        for group in await rated(self._windows):
            name = getattr(group, by)
            rating, count = ratings.get(name, (0.0, 0))
            ratings[name] = (rating + group.rating, count + group.count)
        chats = await self._sessions.chatted() if by == "definition" else {}
        live = [instance.definition.name if by == "definition" else instance.pool for instance in self._instances.all()]
        spawned = self._numbering.definitions if by == "definition" else self._numbering.pools
        here: dict[str, object] = {**getattr(self._catalogue, "workers" if by == "definition" else f"{by}s")}
        return [
            _row(
                by,
                name,
                known.get(name, Sums()),
                ratings.get(name, (0.0, 0)),
                chats.get(name, Chatted()),
                spawned=0 if by == "queue" else spawned[name],
                active=0 if by == "queue" else live.count(name),
            )
            for name in sorted({*here, *known, *chats})
        ]

    # -- limits --------------------------------------------------------------------------------------------------------

    async def limits(self, _: about.LimitsList, __: Caller) -> list[about.LimitRow]:
        return [self._limit(worker) for worker in self._catalogue.workers.values() if worker.limits != RateLimits()]

    async def limit(self, request: about.LimitsShow, _: Caller) -> about.LimitRow:
        return self._limit(self._catalogue.worker(request.name))

    def _limit(self, worker: WorkerDefinition) -> about.LimitRow:
        state = self._dispatcher.budget(worker.name)
        waiting, held = self._budget.held(worker.name)
        windows = [
            about.LimitWindow(name=it.name, used=it.used, limit=it.limit, opens_ms=it.opens_ms) for it in state.windows
        ]
        live = sum(instance.definition.name == worker.name for instance in self._instances.all())
        opens_ms = state.free_ms if state.free_ms is not None else held.until_ms if held is not None else None
        word = "limited" if opens_ms is not None else "open"
        return about.LimitRow(
            id=worker.name,
            state=word if worker.status is DefinitionStatus.active else worker.status.value,
            requests_per_minute=windows[0],
            tokens_per_minute=windows[1],
            tokens_per_day=windows[2],
            instances=about.LimitWindow(name="instances", used=live, limit=worker.limits.max_instances),
            under_way=state.under_way,
            waiting=max(waiting, state.waiting),
            opens_ms=opens_ms,
            why="" if held is None else held.reason,
        )


def _row(
    by: str,
    name: str,
    sums: Sums,
    ratings: tuple[float, int],
    chats: Chatted,
    *,
    spawned: int,
    active: int,
) -> SummaryRow:
    judged = sums.completed + sums.failed
    return SummaryRow(
        id=name,
        by=by,
        attempted=sums.tasks,
        completed=sums.completed,
        failed=sums.failed,
        rate=sums.completed / judged if judged else None,
        mean_ms=sums.duration_ms / sums.timed if sums.timed else None,
        tokens_in=sums.tokens_in,
        tokens_out=sums.tokens_out,
        cost_usd=sums.cost_usd,
        quality=ratings[0] / ratings[1] if ratings[1] else None,
        rated=ratings[1],
        last_ms=max(sums.ended_ms, chats.last_ms) or None,
        spawned=spawned,
        active=active,
        turns=chats.turns,
        chat_tokens=chats.tokens,
        chat_cost_usd=chats.cost_usd,
    )


def _one_shot(location: Location) -> Location:
    """Without `instance:stateless*`: every record is of a one-shot call, made by a pool's instance."""

    def all_of_them(term: Term) -> bool:
        return term.field == "instance" and not term.negated and any(it.startswith(_STATELESS) for it in term.values)

    return msgspec.structs.replace(location, terms=tuple(term for term in location.terms if not all_of_them(term)))
