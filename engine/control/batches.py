"""Batches: who belongs to one, in which order, and how far it is."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.records.operations import BatchRow
from engine.contract.states import TaskState
from engine.contract.suggest import nearest
from engine.store.store import Store

KIND = "batch"
_ORDERS = 8
_PACE_MS = 300_000
_LOOKS = 64
_WAITING = (TaskState.pending, TaskState.scheduled, TaskState.retrying)
_ENDED = (TaskState.completed, TaskState.failed, TaskState.cancelled)


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a batch besides its tasks."""

    queue: str
    by: str
    at_ms: int
    template: str | None = None


class Order:
    """A batch's tasks in its order: strictly rising places and the tasks' numbers beside them."""

    def __init__(self, members: Sequence[tuple[int | None, int]]) -> None:
        self.places = array("q")
        self.seqs = array("q")
        last = -1
        # Tasks without a place of their own come behind those that have one.
        for place, seq in sorted(members, key=lambda it: (it[0] is None, it[0] or 0, it[1])):
            last = max(last + 1, place) if place is not None else last + 1
            self.places.append(last)
            self.seqs.append(seq)

    def __len__(self) -> int:
        return len(self.seqs)

    def after(self, place: int) -> int:
        """The index of the first task behind a place."""
        return bisect_right(self.places, place)


class Batches:
    """Finds batches, their orders (a few are remembered) and how far they are."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._orders: OrderedDict[str, tuple[int, Order]] = OrderedDict()
        self._looks: dict[str, deque[tuple[int, int]]] = {}

    def find(self, name: str) -> Batch | None:
        stored = self._store.readers.document(KIND, name)
        if stored is not None:
            return msgspec.json.decode(stored.json, type=Batch)
        # Tasks may name a batch that nobody made: then it is what its first task says.
        first = self._store.readers.batch_tasks(name, 1)
        task = self._store.readers.task(first[0]) if first else None
        return (
            None
            if task is None
            else Batch(queue=task.queue, by=task.by, at_ms=task.submitted_ms, template=task.template)
        )

    def get(self, name: str) -> Batch:
        """The batch; `not_found` with the nearest name otherwise."""
        found = self.find(name)
        if found is None:
            names = [it.key for it in self._store.readers.documents(KIND, limit=1_000)]
            raise AiwmError(
                Code.not_found,
                f'batch "{name[:80]}" does not exist',
                field="name",
                fix=nearest(name, names) or "aiwm batch list",
            )
        return found

    def row(self, name: str) -> BatchRow:
        return self._row(name, self.get(name), self._store.readers.batch(name))

    def rows(self, limit: int) -> list[BatchRow]:
        """Batches, the newest first."""
        counts = self._store.readers.batches()
        known = {
            it.key: msgspec.json.decode(it.json, type=Batch) for it in self._store.readers.documents(KIND, limit=limit)
        }
        for name in counts.keys() - known.keys():
            found = self.find(name)
            if found is not None:
                known[name] = found
        newest = sorted(known.items(), key=lambda it: -it[1].at_ms)[:limit]
        return [self._row(name, batch, counts.get(name, {})) for name, batch in newest]

    async def order(self, name: str) -> Order:
        """The batch's tasks in its order."""
        total = sum(self._store.readers.batch(name).values())
        known = self._orders.get(name)
        if known is None or known[0] != total:
            members = await self._store.windows.batch_members(name)
            known = self._orders[name] = (total, Order(members))
            while len(self._orders) > _ORDERS:
                self._orders.popitem(last=False)
        self._orders.move_to_end(name)
        return known[1]

    def _row(self, name: str, batch: Batch, counts: Mapping[str, int]) -> BatchRow:
        total = sum(counts.values())
        ended = sum(counts.get(state.value, 0) for state in _ENDED)
        per_min = self._pace(name, batch, ended)
        left = total - ended
        return BatchRow(
            id=name,
            state=_state(counts, total, left),
            queue=batch.queue,
            by=batch.by,
            at_ms=batch.at_ms,
            total=total,
            waiting=sum(counts.get(state.value, 0) for state in _WAITING),
            running=counts.get(TaskState.processing.value, 0),
            completed=counts.get(TaskState.completed.value, 0),
            failed=counts.get(TaskState.failed.value, 0),
            cancelled=counts.get(TaskState.cancelled.value, 0),
            per_min=round(per_min, 1) if left else 0.0,
            eta_ms=self._clock.wall_ms() + round(left / per_min * 60_000) if left and per_min > 0 else None,
            template=batch.template,
        )

    def _pace(self, name: str, batch: Batch, ended: int) -> float:
        """Tasks a minute: since the oldest look of the last minutes, else since the batch began."""
        now = self._clock.wall_ms()
        if name not in self._looks and len(self._looks) >= _LOOKS:
            del self._looks[next(iter(self._looks))]
        looks = self._looks.setdefault(name, deque(maxlen=_LOOKS))
        while looks and (looks[0][0] < now - _PACE_MS or looks[0][1] > ended):
            looks.popleft()
        before_ms, before = (
            looks[0] if looks and now - looks[0][0] >= 1_000 and ended > looks[0][1] else (batch.at_ms, 0)
        )
        if not looks or now - looks[-1][0] >= _PACE_MS // _LOOKS:
            looks.append((now, ended))
        return (ended - before) / max(now - before_ms, 1) * 60_000


def _state(counts: Mapping[str, int], total: int, left: int) -> str:
    if left or not total:
        started = counts.get(TaskState.processing.value, 0) or left < total
        return "processing" if started else "pending"
    if counts.get(TaskState.failed.value):
        return "failed"
    return "cancelled" if counts.get(TaskState.cancelled.value) else "completed"
