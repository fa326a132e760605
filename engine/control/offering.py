"""What comes with a model so that prompts can be put to it: a worker definition, a pool and a queue of its name. Pure.

Such definitions are marked as made for their model. The marked worker definitions do not go when the operator's file of worker
definitions is read again: the file never had them. One of the same name in the file takes their place; `model remove` takes them away."""

from __future__ import annotations

import re
from typing import Any

from engine.contract.definitions import (
    DefinitionStatus,
    ModelDefinition,
    PoolDefinition,
    QueueDefinition,
    Sampling,
    WorkerDefinition,
)
from engine.contract.models import model_name
from engine.control.definitions import Definition, Definitions, Kind, kind_of

MADE_FOR = "made_for"
"""Key of a definition's metadata that names the model it was made for."""

_LONGEST_ANSWER = 2048
_INSTANCES = 8


def made_for(definition: Any) -> str:
    """The model that a definition was made for; empty for one that somebody wrote."""
    found = getattr(definition, "metadata", {}).get(MADE_FOR, "")
    return found if isinstance(found, str) else ""


def offer(
    definition: ModelDefinition, slots: int, context: int
) -> tuple[WorkerDefinition, PoolDefinition, QueueDefinition]:
    """The definitions for a model that runs `slots` requests at once, each with `context` tokens (0: not known)."""
    name, mark = plain_name(definition.name), {MADE_FOR: definition.name}
    longest = min(_LONGEST_ANSWER, context // 2) if context else _LONGEST_ANSWER
    worker = WorkerDefinition(
        name=name,
        model=definition.name,
        description=definition.description or f"prompts to {definition.name}",
        sampling=Sampling(max_tokens=max(1, longest)),
        capabilities=("text",),
        metadata=mark,
    )
    pool = PoolDefinition(name=name, definition=name, max_total=slots or _INSTANCES, metadata=mark)
    return worker, pool, QueueDefinition(name=name, pools=(name,), metadata=mark)


def plain_name(model: str) -> str:
    """What the definitions for a model are called: a provider's model (`openai/gpt-4o`) has letters in its name that none of ours may
    have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-._")[:64] or "model"


def of_model(model: str, among: Definitions) -> list[Definition]:
    """Everything that was made for a model: queues first, so that each can go before what it refers to."""
    found: list[Definition] = []
    for kind in (Kind.queue, Kind.pool, Kind.worker):
        found += [it for it in among.of(kind).values() if made_for(it) == model]
    return found


def queue_for(model: str, among: Definitions) -> str | None:
    """The queue that takes plain prompts for a model: the one of its name, else the first that is open and whose workers all are of this
    model and add nothing of their own (no instruction, no adapters, no tools)."""

    def plain(queue: QueueDefinition) -> bool:
        pools = [among.pools[name] for name in queue.pools if name in among.pools]
        workers = [among.workers[pool.definition] for pool in pools if pool.definition in among.workers]
        return bool(workers) and all(
            model_name(it) == model
            and it.kind == "goat"
            and it.status is DefinitionStatus.active
            and not (it.system or it.adapters or it.tools_allow)
            for it in workers
        )

    ordered = sorted(among.queues.values(), key=lambda queue: queue.name != model)
    return next((it.name for it in ordered if not it.paused and not it.draining and plain(it)), None)


def users(model: str, among: Definitions) -> tuple[list[str], list[str]]:
    """(workers that name a model, queues whose tasks may come to it)."""
    workers = {it.name for it in among.workers.values() if model_name(it) == model}
    pools = {it.name for it in among.pools.values() if it.definition in workers}
    return sorted(workers), sorted(it.name for it in among.queues.values() if pools & set(it.pools))


def words(definition: Definition) -> str:
    """`queue qwen14`."""
    return f"{kind_of(definition).value} {definition.name}"
