"""Requests about supervision, feedback and insights."""

from __future__ import annotations

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_id, task_seq
from engine.contract.records.knowledge import ReviewRow
from engine.contract.records.notes import Feedback, TaskNotes
from engine.contract.requests import supervisors as requests
from engine.contract.states import Durability
from engine.control.catalogue import Catalogue
from engine.control.supervision.agents import Agents
from engine.control.supervision.care import Care
from engine.control.supervision.notes import FEEDBACK, Notes
from engine.control.supervision.reviews import Reviews
from engine.control.supervision.rules import PREFIX, Verdict
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.journal import Journal
from engine.store.readers import Readers
from engine.store.rows import StoredTask

_MOST = 1_000
_ALL = 100_000


class SupervisionOperations:
    """Answers them."""

    def __init__(
        self,
        reviews: Reviews,
        notes: Notes,
        agents: Agents,
        care: Care,
        catalogue: Catalogue,
        journal: Journal,
        readers: Readers,
    ) -> None:
        self._reviews = reviews
        self._notes = notes
        self._agents = agents
        self._care = care
        self._catalogue = catalogue
        self._journal = journal
        self._readers = readers

    def register(self, table: RequestTable) -> None:
        table.register(requests.SupervisorList, self.all)
        table.register(requests.SupervisorPending, self.pending)
        table.register(requests.SupervisorFeedback, self.feedback)
        table.register(requests.SupervisorShow, self.show)
        table.register(requests.SupervisorReview, self.review)
        table.register(requests.InsightLog, self.log)
        table.register(requests.InsightList, self.insights)

    async def all(self, _: requests.SupervisorList, __: Caller) -> list[requests.Supervisor]:
        binds: dict[str, list[str]] = {}
        for level in ("workers", "pools", "queues", "templates"):
            for name, thing in getattr(self._catalogue, level).items():
                if thing.supervisor:
                    binds.setdefault(thing.supervisor, []).append(f"{level[:-1]} {name}")
        due: dict[str, int] = {}
        for row in self._reviews.pending("", _ALL):
            due[row.supervisor] = due.get(row.supervisor, 0) + 1
        ratings: dict[str, list[float]] = {}
        for said in self._said():
            ratings.setdefault(said.by, []).extend([] if said.rating is None else [said.rating])
        return [
            requests.Supervisor(
                name=name,
                kind="rules" if name.startswith(PREFIX) else self._agents.kind(name),
                binds=tuple(binds.get(name, ())),
                rated=len(ratings.get(name, ())),
                mean=round(sum(ratings[name]) / len(ratings[name]), 3) if ratings.get(name) else None,
                due=due.get(name, 0),
            )
            for name in sorted({*binds, *due, *ratings})
        ]

    async def pending(self, request: requests.SupervisorPending, _: Caller) -> list[ReviewRow]:
        return self._reviews.pending(request.supervisor, _limit(request.limit))

    async def feedback(self, request: requests.SupervisorFeedback, caller: Caller) -> Feedback:
        seq = task_seq(request.id)
        if request.rating is not None and not 0 <= request.rating <= 1:
            raise AiwmError(Code.bad_request, f"rating is {request.rating:g}: it lies between 0 and 1", field="rating")
        if request.rating is None and not request.comments.strip() and not request.corrections.strip():
            raise AiwmError(Code.bad_request, "nothing is said", field="comments", fix="--rating 0.8 --comments '…'")
        for field in ("comments", "corrections"):
            if len(getattr(request, field)) > 2_000:
                raise AiwmError(Code.bad_request, f"{field} has more than 2,000 characters", field=field)
        self._ran(seq)
        said = Verdict(rating=request.rating or 0.0, comments=request.comments, corrections=request.corrections)
        made, entry = self._reviews.feedback(seq, caller.principal, said, rated=request.rating is not None)
        await self._journal.write(entry, Durability.disk)
        return made

    async def show(self, request: requests.SupervisorShow, _: Caller) -> list[Feedback]:
        limit = _limit(request.limit)
        found = self._notes.of(task_seq(request.task)).feedback if request.task else self._said()
        return [said for said in found if not request.by or said.by == request.by][:limit]

    async def review(self, request: requests.SupervisorReview, _: Caller) -> ReviewRow:
        seq = task_seq(request.id)
        stored = self._ran(seq)
        supervisor = request.supervisor
        if not supervisor:
            given = self._care.of_stored(stored)
            if given is None:
                raise AiwmError(
                    Code.bad_request,
                    f"nobody looks after {request.id}",
                    field="supervisor",
                    fix=f"aiwm supervisor review {request.id} --supervisor rules/default",
                )
            supervisor = given.value
        if not supervisor.startswith(PREFIX) and self._agents.kind(supervisor) == "missing":
            raise AiwmError(
                Code.not_found,
                f'"{supervisor[:64]}" is neither a worker definition, nor a live instance, nor rules/NAME',
                field="supervisor",
                fix="aiwm worker list",
            )
        return await self._reviews.ask(seq, supervisor)

    async def log(self, request: requests.InsightLog, caller: Caller) -> TaskNotes:
        seq = task_seq(request.id)
        await self._notes.log(seq, request.level, request.message, request.details, caller.principal)
        return self._notes.of(seq)

    async def insights(self, request: requests.InsightList, _: Caller) -> TaskNotes:
        seq = task_seq(request.id)
        self._stored(seq)
        return self._notes.of(seq)

    def _said(self) -> list[Feedback]:
        stored = self._readers.documents(FEEDBACK, limit=_ALL)
        return [msgspec.json.decode(it.json, type=Feedback) for it in stored]

    def _stored(self, seq: int) -> StoredTask:
        stored = self._readers.task(seq)
        if stored is None:
            raise AiwmError(Code.not_found, f'task "{task_id(seq)}" does not exist', field="id", fix="aiwm task list")
        return stored

    def _ran(self, seq: int) -> StoredTask:
        """A task with a performance record: one that ran and ended."""
        stored = self._stored(seq)
        if self._readers.record_of(seq) is None:
            raise AiwmError(
                Code.conflict, f"{task_id(seq)} has not run to an end: there is nothing to rate", field="id"
            )
        return stored


def _limit(limit: int) -> int:
    if not 1 <= limit <= _MOST:
        raise AiwmError(Code.bad_request, f"limit is {limit}, but must lie between 1 and {_MOST}", field="limit")
    return limit
