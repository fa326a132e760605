"""Who is hit when a model goes: the queues whose tasks need it, in words."""

from __future__ import annotations

from engine.contract.models import model_name
from engine.control.catalogue import Catalogue
from engine.control.tally import Tally


def waits_for(model: str, catalogue: Catalogue, tally: Tally) -> tuple[str, ...]:
    """`inbox: 1,102 wait` for each queue that has tasks for it, else the pools that have it: `pool extract`."""
    mine = {name for name, worker in catalogue.workers.items() if model_name(worker) == model}
    pools = {name for name, pool in catalogue.pools.items() if pool.definition in mine}
    found = []
    for name, queue in catalogue.queues.items():
        waiting = tally.waiting(name)
        if waiting and pools & set(queue.pools):
            found.append(f"{name}: {waiting:,} wait")
    return tuple(found) or tuple(f"pool {name}" for name in sorted(pools))
