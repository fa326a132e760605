"""A session as it is stored, and what is in force for it: its definition with its overrides."""

from __future__ import annotations

import msgspec

from engine.contract.definitions import DefinitionStatus, Sampling, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.records.instances import Overrides
from engine.contract.states import SEED_INSTANCE_STATES, InstanceState
from engine.control.definitions import digest

FINAL_STATES = (
    InstanceState.completed,
    InstanceState.exhausted,
    InstanceState.failed,
    InstanceState.full,
    InstanceState.spent,
)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A directly spawned instance. `revision` names the exact definition it was made from, `config` is what is in force for it.

    `turns` counts those that ended, `context` is how many tokens the conversation has; `by` spawned it."""

    id: str
    definition: str
    revision: str
    config: WorkerDefinition
    overrides: Overrides
    files: tuple[str, ...]
    by: str
    spawned_ms: int
    active_ms: int
    state: InstanceState = InstanceState.idle
    note: str = ""
    turns: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    context: int = 0
    context_max: int = 0


def revision(definition: WorkerDefinition) -> str:
    """What a session depends on of its definition: all but whether it may be used just now."""
    return digest(msgspec.structs.replace(definition, status=DefinitionStatus.active))


def in_force(definition: WorkerDefinition, overrides: Overrides) -> WorkerDefinition:
    """A definition with an instance's overrides. Raises `bad_request` naming the override that is out of range."""
    for name, low, high in (
        ("temperature", 0.0, 10.0),
        ("top_p", 1e-6, 1.0),
        ("max_tokens", 1, 1_000_000),
        ("context_tokens", 0, 2**24),
    ):
        value = getattr(overrides, name)
        if value is not None and not low <= value <= high:
            raise AiwmError(
                Code.bad_request,
                f"{name} is {value:g}, but must lie between {low:g} and {high:g}",
                field=f"overrides.{name}",
            )
    given = {name: value for name in Overrides.__struct_fields__ if (value := getattr(overrides, name)) is not None}
    drawn = {name: given.pop(name) for name in Sampling.__struct_fields__ if name in given}
    return msgspec.structs.replace(definition, sampling=msgspec.structs.replace(definition.sampling, **drawn), **given)


def final_state(word: str) -> InstanceState:
    """How an instance ended, from our word or the seeds'. As in the seeds, any other word is `exhausted`."""
    found = SEED_INSTANCE_STATES.get(word, word)
    return InstanceState(found) if found in FINAL_STATES else InstanceState.exhausted
