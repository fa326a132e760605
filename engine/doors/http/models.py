"""What HTTP clients call a model: a worker that a queue serves, a queue, or a worker with an adapter (`WORKER+ADAPTER`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.records import QueueRow, WorkerRow
from engine.contract.suggest import nearest


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes. `definition` None: whichever worker of the queue takes it."""

    queue: str
    definition: str | None
    adapter: str | None = None


def offered(workers: Sequence[WorkerRow], queues: Sequence[QueueRow]) -> dict[str, Target]:
    """Every name that a client may use, with what it means. A worker goes before a queue of the same name: both mean that worker."""
    found = {queue.id: Target(queue=queue.id, definition=None) for queue in queues}
    for worker in workers:
        queue = _queue_of(worker, queues)
        if queue is not None and worker.model and worker.status == "active" and worker.interaction != "conversational":
            found[worker.id] = Target(queue=queue, definition=worker.id)
    return found


def _queue_of(worker: WorkerRow, queues: Sequence[QueueRow]) -> str | None:
    """The queue by which a worker is reached: the one of its name, else an open one with the fewest other pools."""
    pools = set(worker.pools)
    serving = [queue for queue in queues if pools & set(queue.pools)]
    rank = {queue.id: (queue.id != worker.id, queue.state != "open", len(queue.pools), queue.id) for queue in serving}
    return min(rank, key=lambda name: rank[name], default=None)


def target(model: str, names: dict[str, Target]) -> Target:
    """What a request's `model` means. Raises `model_not_found`."""
    plain, plus, adapter = model.partition("+")
    found = names.get(plain)
    if found is None or (plus and not adapter):
        raise AiwmError(
            Code.model_not_found,
            f'no worker or queue is called "{plain[:80]}"',
            field="model",
            fix=nearest(plain, names) or "GET /v1/models lists what there is",
        )
    return msgspec.structs.replace(found, adapter=adapter) if adapter else found


def listing(names: dict[str, Target], created: int) -> dict[str, Any]:
    """The answer to `GET /v1/models`."""
    return {"object": "list", "data": [entry(name, created) for name in sorted(names)]}


def entry(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "aiwm"}
