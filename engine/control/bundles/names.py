"""How fields may be spelled: our names and the seeds', in snake_case and camelCase, and what becomes of the seeds' values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import product
from typing import Any, get_args, get_type_hints

import msgspec

from engine.contract.definitions import (
    Cost,
    DataSource,
    PoolDefinition,
    QueueDefinition,
    RateLimits,
    Retirement,
    RetryPolicy,
    TaskTemplate,
    WorkerDefinition,
)
from engine.control.bundles import folds
from engine.control.definitions import Kind

_ACRONYMS = frozenset({"ai", "id", "api", "usd"})

Schema = dict[str, Any]


class Known(msgspec.Struct, frozen=True):
    """A name that a struct's document may use. `field` is ours; `hint` its type where the value is taken as it is; else `fold` makes
    something of it, and `schema` is its form."""

    name: str
    field: str
    hint: Any = None
    fold: folds.Fold | None = None
    schema: Schema | None = None


class Spec(msgspec.Struct, frozen=True):
    """A struct as documents write it: every spelling, and what it stands for. `lenient`: unknown names are warned of, not refused."""

    type: type[msgspec.Struct]
    known: Mapping[str, Known]
    lenient: bool = False


KIND_KEYS: Mapping[Kind, tuple[str, ...]] = {
    Kind.source: ("sources", "global_data_sources", "ai_global_data_source_definitions"),
    Kind.worker: ("workers", "ai_worker_definitions"),
    Kind.pool: ("pools", "ai_worker_pool_definitions"),
    Kind.queue: ("queues", "work_queue_definitions", "ai_work_queue_definitions"),
    Kind.template: ("templates", "work_item_definitions", "ai_work_item_definitions"),
}
"""The lists of a bundle: ours first, then the seeds' in snake_case (their camelCase follows)."""

_Seeds = Mapping[str, str | tuple[str, folds.Fold, Schema]]

_ANYTHING: Schema = {}
_TEXT: Schema = {"type": ["string", "null"]}
_NUMBER: Schema = {"type": "number", "minimum": -1e12, "maximum": 1e12}
_SYSTEM_KEPT: _Seeds = {
    "created_timestamp": ("", folds.ignore, _ANYTHING),
    "modified_timestamp": ("", folds.ignore, _ANYTHING),
}
_CRITICAL: _Seeds = {"is_mission_critical": "mission_critical"}
_SHARED: _Seeds = {"data_source_refs": "sources", "supervisory_ai_ref": "supervisor", **_SYSTEM_KEPT}

_SEEDS: Mapping[type[msgspec.Struct], _Seeds] = {
    WorkerDefinition: {
        "definition_id": ("", folds.identity, _TEXT),
        "model_name": "model",
        "auth": ("key", folds.auth, folds.AUTH),
        "interaction_models": ("interaction", folds.interaction, folds.INTERACTION),
        "base_config": ("sampling", folds.base_config, folds.BASE_CONFIG),
        "cost_metrics": "cost",
        "rate_limits": "limits",
        "default_file_contexts": "files",
        "data_source_refs": "sources",
        "tool_allowlist": "tools_allow",
        "tool_denylist": "tools_deny",
        "default_supervisory_ai_ref": "supervisor",
        "aggregate_performance_summary": ("", folds.ignore, _ANYTHING),
        **_SYSTEM_KEPT,
    },
    PoolDefinition: {
        "pool_id": ("", folds.identity, _TEXT),
        "target_ai_worker_definition_name": "definition",
        "min_idle_instances": "min_idle",
        "max_total_instances": ("max_total", folds.max_total, {"type": "integer"}),
        "instance_retirement_policy": "retirement",
        **_CRITICAL,
        **_SHARED,
    },
    QueueDefinition: {
        "queue_id": ("", folds.identity, _TEXT),
        "associated_pool_names": "pools",
        "retry_policy": ("retry", folds.retry_policy, {"$ref": "#/$defs/RetryPolicy"}),
        "persist_tasks": ("durability", folds.persist_tasks, {"type": "boolean"}),
        **_CRITICAL,
        **_SHARED,
    },
    TaskTemplate: {
        "work_item_definition_id": ("", folds.identity, _TEXT),
        "default_target_worker_criteria": ("definition", folds.criteria, folds.CRITERIA),
        "default_payload_schema": ("payload_schema", folds.payload_schema, {"type": "object"}),
        "default_data_source_refs": "sources",
        "default_priority": "priority",
        "default_supervisory_ai_ref": "supervisor",
        **_SYSTEM_KEPT,
    },
    DataSource: {
        "local_path": ("path", folds.local_path, _TEXT),
        "file_api_path": ("path", folds.store_path("path"), _TEXT),
        "allow_external_read_access": "external",
        "remote_target_path": ("target", folds.store_path("target"), _TEXT),
        **_SYSTEM_KEPT,
    },
    RetryPolicy: {"retry_delay_seconds": ("delay_ms", folds.scaled("delay_ms", 1_000), _NUMBER)},
    Retirement: {
        "max_tasks_per_instance": "max_tasks",
        "max_instance_age_hours": ("max_age_ms", folds.scaled("max_age_ms", 3_600_000), _NUMBER),
    },
    RateLimits: {
        "max_requests_per_minute": "requests_per_minute",
        "max_tokens_per_minute": "tokens_per_minute",
        "max_tokens_per_day": "tokens_per_day",
        "max_concurrent_active_instances": "max_instances",
    },
    Cost: {
        "input_tokens_usd_per_1k": "input_usd_per_1k",
        "output_tokens_usd_per_1k": "output_usd_per_1k",
        "input_cost_per_token": ("input_usd_per_1k", folds.scaled("input_usd_per_1k", 1_000, whole=False), _NUMBER),
        "output_cost_per_token": ("output_usd_per_1k", folds.scaled("output_usd_per_1k", 1_000, whole=False), _NUMBER),
    },
}

VALUES: Mapping[tuple[type[msgspec.Struct], str], Mapping[str, str]] = {
    (WorkerDefinition, "status"): {"inactive": "disabled"},
    (DataSource, "type"): {"file_api": "file_store"},
}
"""The seeds' words for enum values, by the field that has them."""

QUIET_VALUES = frozenset({"file_api"})
"""Those that are a name of the seeds, not a slip in them: they are taken without a warning."""


def spellings(snake: str) -> list[str]:
    """snake_case, then camelCase with acronyms both ways: file_api_path, fileApiPath, fileAPIPath."""
    first, *rest = snake.split("_")
    ways = [((part.capitalize(), part.upper()) if part in _ACRONYMS else (part.capitalize(),)) for part in rest]
    return list(dict.fromkeys([snake, *(first + "".join(way) for way in product(*ways))]))


@cache
def spec_of(type_: type[Any]) -> Spec:
    """Every way to write the fields of a struct."""
    hints = get_type_hints(type_)
    entries = [Known(name, name, hint) for name, hint in hints.items()]
    for name, seed in _SEEDS.get(type_, {}).items():
        if isinstance(seed, str):
            entries.append(Known(name, seed, hints[seed]))
        else:
            field, fold, schema = seed
            entries.append(Known(name, field, None, fold, schema))
    known = {spelling: entry for entry in entries for spelling in spellings(entry.name)}
    return Spec(type_, known, lenient=type_ is Cost)


def struct_in(hint: Any) -> type[msgspec.Struct] | None:
    """The struct that a type is made of: itself, or what a tuple or an optional holds."""
    for part in (hint, *get_args(hint)):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return part
    return None


def kind_spellings() -> Iterable[tuple[str, Kind]]:
    """Every name of a bundle's lists."""
    for kind, names in KIND_KEYS.items():
        for name in names:
            for spelling in spellings(name):
                yield spelling, kind
