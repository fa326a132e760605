"""Records of directly spawned instances: what was said, what it took, and what became of instances that are no more."""

from __future__ import annotations

import msgspec

from engine.contract.definitions import AdapterUse, WorkerDefinition
from engine.contract.records.core import InstanceRow, Record


class RetiredRow(Record, frozen=True, kw_only=True):
    """An instance that is no more. `state` is its final one, `reason` why it went; `pool` is "" if it was spawned directly."""

    state: str
    pool: str
    definition: str
    reason: str
    spawned_ms: int
    retired_ms: int
    done: int
    failed: int
    tokens_in: int
    tokens_out: int
    cost_usd: float
    by: str = ""
    files: tuple[str, ...] = ()


class Overrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an instance does differently from its definition; None keeps the definition's value."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    system: str | None = None
    adapters: tuple[AdapterUse, ...] | None = None
    context_tokens: int | None = None
    sources: tuple[str, ...] | None = None
    supervisor: str | None = None


class ChatTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a chat: what was said, what came back (`reason`: stop, length, cancelled), and what it took.

    `context` is how many tokens the conversation had after it. Times in ms, `first_token_ms` from the question on."""

    n: int
    at_ms: int
    message: str
    text: str
    reason: str
    tokens_in: int
    tokens_out: int
    context: int
    cost_usd: float = 0.0
    first_token_ms: float = 0.0
    total_ms: float = 0.0
    adapters: tuple[str, ...] = ()


class InstanceDetail(msgspec.Struct, frozen=True, kw_only=True):
    """An instance whole, live (`row`) or retired (`retired`). `definition` is what is in force for it: its definition with the overrides
    (None for a retired one of a pool). `files` are its active contexts."""

    row: InstanceRow | None = None
    retired: RetiredRow | None = None
    definition: WorkerDefinition | None = None
    overrides: Overrides = Overrides()
    files: tuple[str, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    turns: tuple[ChatTurn, ...] = ()


ROWS: dict[str, type[Record]] = {"retired": RetiredRow}
