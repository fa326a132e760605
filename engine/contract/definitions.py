"""Definitions: what an operator writes down. Immutable once loaded; a change is a new value."""

from __future__ import annotations

from enum import StrEnum
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


class RateLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a definition's calls may use. Each model call counts, not each task; tokens are those in and out. 0: no limit.

    Minutes slide; days begin at local midnight."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    tokens_per_day: int = 0
    max_instances: int = 0


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What tokens cost, in US dollars per 1,000."""

    input_usd_per_1k: float = 0.0
    output_usd_per_1k: float = 0.0


class DefinitionStatus(StrEnum):
    """Only an active definition gets new instances and tasks."""

    active = "active"
    disabled = "disabled"
    archived = "archived"


class Provider(StrEnum):
    """Who runs the model. `local` is this engine's own model processes."""

    local = "local"
    openai = "openai"
    anthropic = "anthropic"
    google = "google"
    ollama = "ollama"
    custom = "custom"


class Interaction(StrEnum):
    """How a worker may be used: talked to over several turns, asked once, or both."""

    conversational = "conversational"
    stateless_task = "stateless_task"
    both = "both"


class Backend(StrEnum):
    """What runs a model. `reference` and `exllamav2` run in a process of this engine; `openai` and `anthropic` are servers that speak these
    protocols; `command` is a server program that this engine starts; `hybrid` tries other models in order."""

    reference = "reference"
    exllamav2 = "exllamav2"
    openai = "openai"
    anthropic = "anthropic"
    command = "command"
    hybrid = "hybrid"


class KvPrecision(StrEnum):
    """How keys and values are kept: 16, 8, 6 or 4 bits a number."""

    fp16 = "fp16"
    q8 = "q8"
    q6 = "q6"
    q4 = "q4"


class ModelDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that workers may name, and how it is run. 0 and empty mean: as config.toml's [models] says, or as the model itself does.

    Local ones have a `path` (a directory, or a file for a server's program). Servers have a `url`, and `remote`, the model's name there;
    `key` names the API key of config.toml that is sent. A `command` is started with `{port}`, `{path}`, `{name}`, `{context}`, `{slots}`
    and `{total_context}` (of all slots) replaced, and answers at `health` when it is ready; without one, a server at `url` is looked at.
    `hybrid` tries the models of `route` in order; `policy` says when to go on to the next.

    `slots` requests run at once in each of at most `replicas` processes, each with room for `context` tokens. `devices` are GPU numbers
    (none: chosen by free memory), `split` how many GB of weights go to each. A process without work for `idle_ms` is unloaded (0: config's
    idle_ms, -1: never). `memory_bytes` bounds the process (0: no bound)."""

    name: str
    backend: Backend = Backend.reference
    path: str = ""
    url: str = ""
    remote: str = ""
    key: str = ""
    command: tuple[str, ...] = ()
    health: str = "/health"
    route: tuple[str, ...] = ()
    policy: str = ""
    slots: int = 0
    context: int = 0
    replicas: int = 0
    devices: tuple[int, ...] = ()
    split: tuple[float, ...] = ()
    kv: KvPrecision = KvPrecision.fp16
    kv_bytes: int = 0
    adapter_slots: int = 0
    adapter_bytes: int = 0
    idle_ms: int = 0
    memory_bytes: int = 0
    description: str = ""
    metadata: dict[str, Any] = {}


class WorkerDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An immutable blueprint of a worker. `kind` is the Python class that processes a task (entry point), `model` what it talks to
    (empty for kinds without one), `system` its instruction, `capabilities` what tasks may ask for.

    `key` names an API key of config.toml (empty: none). `tools_allow` empty means no tools; `tools_deny` beats it. `sources` are data
    sources by name, `files` contexts that every instance begins with, `supervisor` a definition, a live instance or `rules/NAME`.
    `max_steps` bounds the model calls of one task with tools. `context_tokens` 0 takes the model's own limit. `answer_schema` is a JSON
    Schema that every answer satisfies (none: text); a task's own `schema` stands in for it."""

    name: str
    kind: str = "goat"
    description: str = ""
    provider: Provider = Provider.local
    model: str = ""
    system: str = ""
    adapters: tuple[AdapterUse, ...] = ()
    sampling: Sampling = Sampling()
    context_tokens: int = 0
    options: dict[str, Any] = {}
    key: str = ""
    interaction: Interaction = Interaction.both
    capabilities: tuple[str, ...] = ()
    limits: RateLimits = RateLimits()
    cost: Cost = Cost()
    status: DefinitionStatus = DefinitionStatus.active
    files: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    tools_allow: tuple[str, ...] = ()
    tools_deny: tuple[str, ...] = ()
    max_steps: int = 8
    answer_schema: dict[str, Any] = {}
    supervisor: str = ""
    metadata: dict[str, Any] = {}


class Retirement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an instance has served enough: after so many tasks, or at this age. 0: never."""

    max_tasks: int = 0
    max_age_ms: int = 0


class PoolDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keeps between `min_idle` idle and `max_total` instances of one worker definition.

    An idle instance above `min_idle` is retired after `cooldown_ms` without work. `mission_critical`: an alert when it fails."""

    name: str
    definition: str
    min_idle: int = 0
    max_total: int = 1
    retirement: Retirement = Retirement()
    cooldown_ms: int = 60_000
    sources: tuple[str, ...] = ()
    supervisor: str = ""
    mission_critical: bool = False
    metadata: dict[str, Any] = {}


class QueueDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tasks waiting, the pools that serve them (in order of preference), and how failures are retried.

    A task's rank is its due time minus priority * aging_ms: one priority step is worth `aging_ms` of waiting.
    `max_length` bounds the waiting tasks (None: no bound). A `draining` queue works off what it has and takes nothing new.
    `retention_ms` is how long ended tasks are kept (None: the engine's retention)."""

    name: str
    pools: tuple[str, ...] = ()
    default_priority: int = 0
    aging_ms: int = 60_000
    retry: RetryPolicy = RetryPolicy()
    durability: Durability = Durability.disk
    max_length: int | None = None
    paused: bool = False
    pause_reason: str = ""
    draining: bool = False
    retention_ms: int | None = None
    sources: tuple[str, ...] = ()
    supervisor: str = ""
    mission_critical: bool = False
    metadata: dict[str, Any] = {}


class TaskTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults for tasks of one sort; what a submit says explicitly wins. `payload_schema` is a JSON Schema (2020-12) that the merged
    payload must satisfy; `defaults` are merged under the payload, objects deeply. `answer_schema` is the JSON Schema of the answers that
    are asked for: it becomes the payload's `schema`, unless the payload has one."""

    name: str
    description: str = ""
    queue: str = ""
    definition: str = ""
    capabilities: tuple[str, ...] = ()
    payload_schema: dict[str, Any] = {}
    answer_schema: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    priority: int | None = None
    sources: tuple[str, ...] = ()
    supervisor: str = ""
    metadata: dict[str, Any] = {}


class SourceType(StrEnum):
    """`local_directory` is a directory of this machine, `file_store` a folder of the home's own store (`fm:/…`)."""

    local_directory = "local_directory"
    file_store = "file_store"


class DataSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named, guarded place to read files from. `path` is absolute, or relative to the home's files/; outside the home it must lie
    beneath a directory listed in config.toml and `external` must be true. For a file store `path` is `fm:/…`. `filters` are globs (none:
    every file), `target` is the `fm:/…` folder that a sync fills."""

    name: str
    type: SourceType = SourceType.local_directory
    description: str = ""
    path: str
    external: bool = False
    target: str = ""
    read_only: bool = True
    filters: tuple[str, ...] = ()
    recursive: bool = False
    metadata: dict[str, Any] = {}
