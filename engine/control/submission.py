"""Taking a task in: check everything, store it, acknowledge it, and only then let the scheduler know."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from engine.clock import Clock
from engine.contract.definitions import QueueDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_id, task_seq
from engine.contract.requests.tasks import TaskAck, TaskSubmit
from engine.contract.states import Durability, TaskState
from engine.contract.suggest import nearest
from engine.control import adapter_names
from engine.control.book import Book, Brief
from engine.control.catalogue import Catalogue
from engine.control.dependencies import Dependencies
from engine.control.dispatcher import Dispatcher
from engine.control.tally import Tally
from engine.control.templating import Templating
from engine.scheduling.inputs import Criteria, TaskRef, TaskSubmitted
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers
from engine.store.rows import StoredTask
from engine.workers.registry import KindRegistry
from engine.workers.template import WorkerTemplate

Found = TypeVar("Found")

MAX_METADATA_BYTES = 16_384


class Submission:
    """Submits tasks. `draining` refuses new ones while the engine stops; `is_instance` knows live instances by their id."""

    def __init__(
        self,
        catalogue: Catalogue,
        kinds: KindRegistry,
        journal: Journal,
        readers: Readers,
        book: Book,
        tally: Tally,
        dispatcher: Dispatcher,
        dependencies: Dependencies,
        clock: Clock,
        is_instance: Callable[[str], bool],
        *,
        max_payload_bytes: int,
    ) -> None:
        self._catalogue = catalogue
        self._kinds = kinds
        self._journal = journal
        self._readers = readers
        self._book = book
        self._tally = tally
        self._dispatcher = dispatcher
        self._dependencies = dependencies
        self._clock = clock
        self._is_instance = is_instance
        self._max_payload_bytes = max_payload_bytes
        self._templating = Templating()
        self._workers: dict[str, tuple[QueueDefinition, object, tuple[WorkerTemplate, ...]]] = {}
        self._keys_in_flight: dict[tuple[str, str], asyncio.Future[TaskAck]] = {}
        self._under_way: Counter[str] = Counter()
        self.draining: Callable[[], bool] = lambda: False

    async def submit(self, request: TaskSubmit, principal: str) -> TaskAck:
        """Store the task and acknowledge it. Raises not_found, payload_invalid, payload_too_large, queue_full, storage_failed."""
        if self.draining():
            raise AiwmError(Code.engine_stopping, "the engine is stopping and takes no new tasks", retryable=True)
        if request.template is not None:
            request = self._templating.applied(request, _named("template", request.template, self._catalogue.templates))
        key = request.idempotency_key
        if key is None:
            return await self._submit(request, principal)
        slot = (request.queue, key)
        known = self._keys_in_flight.get(slot)
        if known is not None:
            return msgspec.structs.replace(await asyncio.shield(known), duplicate=True)
        seq = self._readers.by_idempotency_key(request.queue, key)
        if seq is not None:
            return self._known(seq)
        under_way = asyncio.ensure_future(self._submit(request, principal))
        self._keys_in_flight[slot] = under_way
        under_way.add_done_callback(lambda _: self._keys_in_flight.pop(slot, None))
        return await asyncio.shield(under_way)

    def _known(self, seq: int) -> TaskAck:
        row = self._readers.task_row(seq)
        return TaskAck(id=task_id(seq), state=row.state if row is not None else TaskState.pending.value, duplicate=True)

    def queue_of(self, request: TaskSubmit) -> str:
        """The name of the queue that a submit would go to. Raises `not_found` for a queue or template that does not exist."""
        name = request.queue
        if not name and request.template is not None:
            name = _named("template", request.template, self._catalogue.templates).queue
        if not name:
            raise AiwmError(Code.bad_request, "no queue is named", field="queue", fix="aiwm queue list")
        return _named("queue", name, self._catalogue.queues).name

    def check(self, request: TaskSubmit) -> None:
        """Everything that a submit checks, and nothing else."""
        if request.template is not None:
            request = self._templating.applied(request, _named("template", request.template, self._catalogue.templates))
        self._check_payload(request, self._check(request), msgspec.json.encode(request.payload))

    def encoded(self, payload: dict[str, Any], stored: StoredTask) -> bytes:
        """A changed payload of a stored task as JSON, held against everything that its submit was."""
        if stored.template is not None and stored.template in self._catalogue.templates:
            payload = self._templating.checked(self._catalogue.templates[stored.template], payload)
        data = msgspec.json.encode(payload)
        queue = self._catalogue.queue(stored.queue)
        self._check_payload(TaskSubmit(queue=queue.name, payload=payload, definition=stored.wanted), queue, data)
        return data

    async def _submit(self, request: TaskSubmit, principal: str) -> TaskAck:
        queue = self._check(request)
        payload = msgspec.json.encode(request.payload)
        self._check_payload(request, queue, payload)
        now = self._clock.wall_ms()
        insert = self._insert(request, queue, payload, principal, now)
        seq, identifier = insert.seq, task_id(insert.seq)
        event = ops.AppendEvent(
            at_ms=now,
            level="info",
            type="task.submitted",
            who=principal,
            about=identifier,
            text=f"to {queue.name}",
            task_seq=seq,
        )
        # Two tasks with one key must meet in the file, and so must tasks that wait for each other: such a `memory` task is not
        # acknowledged before it is there.
        memory = queue.durability is Durability.memory
        shared = request.idempotency_key is not None or insert.after
        durability = Durability.os if memory and shared else queue.durability
        self._under_way[queue.name] += 1
        try:
            await self._journal.write((insert, event), durability)
        finally:
            self._under_way[queue.name] -= 1
        self._book.put(
            seq, Brief(queue.name, payload, queue.durability, request.deadline_ms, insert.template, insert.supervisor)
        )
        if insert.blocked:
            self._dependencies.settle(seq)
            return TaskAck(id=identifier, state=insert.state.value)
        self._dispatcher.feed(
            TaskSubmitted(
                TaskRef(
                    seq=seq,
                    queue=queue.name,
                    rank=insert.rank,
                    tenant=insert.tenant,
                    criteria=Criteria(insert.definition, frozenset(insert.capabilities)).key,
                    due_ms=insert.due_ms if insert.state is TaskState.scheduled else None,
                    max_attempts=insert.max_attempts,
                    deadline_ms=insert.deadline_ms,
                    submitted_ms=insert.submitted_ms,
                    adapters=adapter_names.read(insert.adapter),
                )
            )
        )
        return TaskAck(id=identifier, state=insert.state.value)

    def _insert(
        self, request: TaskSubmit, queue: QueueDefinition, payload: bytes, principal: str, now: int
    ) -> ops.InsertTask:
        priority = queue.default_priority if request.priority is None else request.priority
        later = request.due_ms is not None and request.due_ms > now
        due = request.due_ms if later and request.due_ms is not None else now
        after, blocked = self._dependencies.expect(request.after) if request.after else ((), 0)
        return ops.InsertTask(
            seq=self._journal.next_seq(),
            queue=queue.name,
            state=TaskState.scheduled if later else TaskState.pending,
            priority=priority,
            rank=due - priority * queue.aging_ms,
            payload=payload,
            submitted_ms=now,
            by=principal,
            tenant=request.tenant,
            definition=request.definition,
            capabilities=request.capabilities,
            due_ms=due if later else None,
            deadline_ms=request.deadline_ms,
            max_attempts=request.max_attempts or queue.retry.max_retries + 1,
            idempotency_key=request.idempotency_key,
            batch=request.batch,
            durability=queue.durability,
            after=after,
            blocked=blocked,
            adapter=adapter_names.asked(request.payload),
            template=request.template,
            supervisor=request.supervisor or None,
            sources=msgspec.json.encode(request.sources) if request.sources else None,
            metadata=msgspec.json.encode(request.metadata) if request.metadata else None,
            parent=task_seq(principal[5:]) if principal.startswith("task:") else None,
        )

    def _check(self, request: TaskSubmit) -> QueueDefinition:
        if not request.queue:
            raise AiwmError(
                Code.bad_request,
                "no queue is named" + (", and the template has none" if request.template is not None else ""),
                field="queue",
                fix="aiwm queue list",
            )
        try:
            queue = self._catalogue.open_queue(request.queue)
        except AiwmError as error:
            raise AiwmError(error.code, error.info.message, field="queue", fix=error.info.fix) from None
        if request.definition is not None:
            _named("worker", request.definition, self._catalogue.workers, field="definition")
        if request.sources or request.supervisor or request.metadata:
            self._check_references(request)
        if queue.draining:
            raise AiwmError(
                Code.conflict,
                f'queue "{queue.name}" drains: it takes nothing new',
                field="queue",
                fix=f"aiwm queue resume {queue.name}",
                retryable=True,
            )
        held = self._tally.waiting(queue.name) + self._under_way[queue.name]
        if queue.max_length is not None and held >= queue.max_length:
            raise AiwmError(
                Code.queue_full,
                f'queue "{queue.name}" holds {queue.max_length} waiting tasks, its max_length',
                field="queue",
                fix="wait, or raise its max_length",
                retryable=True,
            )
        for name, low, high in _BOUNDS:
            value = getattr(request, name)
            if value is not None and not low <= value <= high:
                raise AiwmError(
                    Code.bad_request, f"{name} is {value}, but must lie between {low} and {high}", field=name
                )
        return queue

    def _check_references(self, request: TaskSubmit) -> None:
        for source in request.sources:
            _named("source", source, self._catalogue.sources, field="sources")
        supervisor = request.supervisor
        if supervisor and not supervisor.startswith("rules/") and not self._is_instance(supervisor):
            _named("worker", supervisor, self._catalogue.workers, field="supervisor", what="supervisor")
        if request.metadata and len(msgspec.json.encode(request.metadata)) > MAX_METADATA_BYTES:
            raise AiwmError(
                Code.payload_too_large,
                f"metadata has more than the {MAX_METADATA_BYTES} bytes allowed",
                field="metadata",
                fix="put it into the payload",
            )

    def _check_payload(self, request: TaskSubmit, queue: QueueDefinition, payload: bytes) -> None:
        if len(payload) > self._max_payload_bytes:
            raise AiwmError(
                Code.payload_too_large,
                f"the payload has {len(payload)} bytes, more than the {self._max_payload_bytes} allowed",
                field="payload",
                fix="put large data into a file and name it in the payload",
            )
        refusal: AiwmError | None = None
        for worker in self._workers_of(request, queue):
            try:
                worker.check(request.payload)
                return
            except AiwmError as error:
                refusal = error
        if refusal is not None:
            raise refusal

    def _workers_of(self, request: TaskSubmit, queue: QueueDefinition) -> tuple[WorkerTemplate, ...]:
        """One worker of each definition that may get the task, to ask whether it could take the payload. Third-party kinds are asked in
        their own process, when they run."""
        known = self._workers.get(queue.name)
        now = self._catalogue.now
        if known is None or known[0] is not queue or known[1] is not now:
            # A pool whose worker definition is gone takes nothing, and has no say until it is back.
            named = [now.pools[name].definition for name in queue.pools if name in now.pools]
            definitions = [now.workers[name] for name in named if name in now.workers]
            if any(self._kinds.third_party(definition.kind) for definition in definitions):
                definitions = []
            workers = tuple(self._kinds.load(definition.kind)(definition) for definition in definitions)
            known = self._workers[queue.name] = (queue, now, workers)
        if request.definition is None:
            return known[2]
        return tuple(worker for worker in known[2] if worker.definition.name == request.definition)


_BOUNDS = (
    ("priority", -1000, 1000),
    ("max_attempts", 1, 1000),
    ("due_ms", 0, 2**53),
    ("deadline_ms", 1, 2**53),
)


def _named(
    kind: str, name: str, known: Mapping[str, Found], field: str | None = None, what: str | None = None
) -> Found:
    """The definition of this name; `not_found` with the nearest one otherwise."""
    found = known.get(name)
    if found is None:
        raise AiwmError(
            Code.not_found,
            f'{what or kind} "{name[:80]}" does not exist',
            field=field or kind,
            fix=nearest(name, known) or f"aiwm {kind} list",
        )
    return found
