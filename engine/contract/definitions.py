"""Definitions: what an operator writes down. Immutable once loaded; a change is a new value."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.states import Durability

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`max_retries` further attempts after the first; the n-th waits delay_ms * backoff^(n-1), at most max_delay_ms, ± jitter (a share)."""

    max_retries: int = 2
    delay_ms: int = 1_000
    backoff: float = 2.0
    max_delay_ms: int = 300_000
    jitter: float = 0.1


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How text is drawn. temperature 0 is greedy; `seed` None draws a new one per task; `stop` ends the text before the string."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 128
    seed: int | None = None
    stop: tuple[str, ...] = ()


class AdapterUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A LoRA adapter by name and the weight it is applied with (1.0 = as trained)."""

    name: str
    weight: float = 1.0


class WorkerDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An immutable blueprint of a worker. `kind` is the Python class that processes a task (entry point), `model` what it talks to
    (empty for kinds without one), `system` its instruction, `capabilities` what tasks may ask for."""

    name: str
    kind: str = "goat"
    description: str = ""
    model: str = ""
    system: str = ""
    adapters: tuple[AdapterUse, ...] = ()
    sampling: Sampling = Sampling()
    capabilities: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}


class PoolDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keeps between `min_idle` idle and `max_total` instances of one worker definition."""

    name: str
    definition: str
    min_idle: int = 0
    max_total: int = 1


class QueueDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tasks waiting, the pools that serve them (in order of preference), and how failures are retried.

    A task's rank is its due time minus priority * aging_ms: one priority step is worth `aging_ms` of waiting.
    `max_length` bounds the waiting tasks (None: no bound)."""

    name: str
    pools: tuple[str, ...] = ()
    default_priority: int = 0
    aging_ms: int = 60_000
    retry: RetryPolicy = RetryPolicy()
    durability: Durability = Durability.disk
    max_length: int | None = None
    paused: bool = False
