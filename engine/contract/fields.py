"""The fields of each table in the words of the filter language, derived from the records."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Any, get_args, get_type_hints

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.records import TABLES
from engine.contract.suggest import nearest


class Kind(StrEnum):
    """How a field's values are written and compared. `age` is a time counted backwards from now: `age>5m` is older than 5 minutes;
    `span` a duration: `duration>5s`. `words` are looked for in texts that the record does not carry, and what belongs to a `chain` is
    found through other rows: only the store knows them."""

    text = "text"
    number = "number"
    size = "size"
    time = "time"
    age = "age"
    span = "span"
    since = "since"
    texts = "texts"
    words = "words"
    chain = "chain"


class Field(msgspec.Struct, frozen=True):
    """`name` in the filter language, `attribute` of the record it reads."""

    name: str
    attribute: str
    kind: Kind


FAULT_STATES: dict[str, frozenset[str]] = {
    "tasks": frozenset({"failed"}),
    "queues": frozenset({"stuck"}),
    "pools": frozenset({"broken", "at max"}),
    "models": frozenset({"backoff", "failed", "refused", "unreachable"}),
    "adapters": frozenset({"refused"}),
    "instances": frozenset({"broken", "stuck"}),
    "retired": frozenset({"failed"}),
    "events": frozenset({"error"}),
    "records": frozenset({"failed"}),
    "needs": frozenset({"broken", "wrong", "asks"}),
    "approvals": frozenset({"pending", "failed", "unknown"}),
    "operations": frozenset({"failed", "held"}),
    "batches": frozenset({"failed"}),
    "sources": frozenset({"missing", "denied"}),
}
"""States that `is:fault` (and the `!` key) selects. Events carry theirs in `level`."""

SEARCHED: dict[str, tuple[str, ...]] = {
    "tasks": ("id", "queue", "definition", "instance"),
    "events": ("type", "who", "about", "text"),
    "records": ("task", "queue", "definition", "instance", "summary"),
    "instances": ("id", "pool", "definition", "task"),
    "retired": ("id", "pool", "definition", "reason"),
    "needs": ("what", "why"),
}
"""Attributes that a bare word searches; tables not named here search their id."""

NAMES: dict[str, frozenset[str]] = {"tasks": frozenset({"adapter"}), "records": frozenset({"adapter"})}
"""Attributes that hold names with commas between them: each is found, and one with a version (`x@v3`) by its name alone (`x`) too."""

WORDY = frozenset({"tasks"})
"""Tables whose rows have bodies, searched by `text:` for words: `text:timeout`, `text:"no route"`, `text:time*`."""

CHAINED = frozenset({"events"})
"""Tables whose rows belong together by task, operation or request: `chain:t-4hq7x` is all that belongs to that task."""

AGE_OF = {
    "tasks": "submitted_ms",
    "queues": "head_ms",
    "instances": "since_ms",
    "retired": "retired_ms",
    "models": "since_ms",
    "events": "at_ms",
    "records": "ended_ms",
    "needs": "since_ms",
    "approvals": "asked_ms",
    "operations": "at_ms",
    "failures": "last_ms",
    "batches": "at_ms",
    "logs": "changed_ms",
}
_ALIASES = {
    "prio": "priority",
    "try": "attempt",
    "worker": "definition",
    "in": "in_per_min",
    "out": "out_per_min",
    "name": "id",
    "cost": "cost_usd",
}
SPANS = frozenset({"duration_ms", "spent_ms", "busy_ms", "latency_ms", "load_ms", "p50_ms", "p95_ms", "empty_ms"})
"""Attributes that are durations in ms; every other one in `_ms` is a point in time."""


def _kind(attribute: str, hint: Any) -> Kind:
    inner = [part for part in get_args(hint) or (hint,) if part is not type(None)]
    if attribute in SPANS:
        return Kind.span
    if attribute.endswith("_ms"):
        return Kind.time
    if attribute.endswith("_bytes"):
        return Kind.size
    if hint in (int, float) or (inner and all(part in (int, float) for part in inner)):
        return Kind.number
    if hint == tuple[str, ...]:
        return Kind.texts
    return Kind.text


@cache
def fields_of(table: str) -> dict[str, Field]:
    """The fields of a table by name, aliases included. Raises `bad_location` for a table that does not exist."""
    record = TABLES.get(table)
    if record is None:
        raise AiwmError(
            Code.bad_location,
            f'there is no table "{table[:40]}"',
            field="location",
            fix=nearest(table, TABLES) or "one of " + ", ".join(TABLES),
        )
    found: dict[str, Field] = {}
    for attribute, hint in get_type_hints(record).items():
        name = attribute.removesuffix("_ms").removesuffix("_bytes")
        found[name] = Field(name, attribute, _kind(attribute, hint))
    if hasattr(record, "tokens"):
        found.setdefault("tokens", Field("tokens", "tokens", Kind.number))
    for alias, attribute in _ALIASES.items():
        if attribute in found and alias not in found:
            found[alias] = found[attribute]
    if table in WORDY:
        found["text"] = Field("text", "", Kind.words)
    if table in CHAINED:
        found["chain"] = Field("chain", "", Kind.chain)
    if table in AGE_OF:
        found["age"] = Field("age", AGE_OF[table], Kind.age)
        found.setdefault("since", Field("since", AGE_OF[table], Kind.since))
    return found


def is_wordy(table: str, name: str) -> bool:
    """Whether a field of a table is searched for words."""
    return field_of(table, name).kind is Kind.words if name != "is" else False


def field_of(table: str, name: str) -> Field:
    """One field of a table; `bad_location` with the nearest name when it does not exist."""
    fields = fields_of(table)
    field = fields.get(name.lower())
    if field is None:
        raise AiwmError(
            Code.bad_location,
            f'"{name[:40]}" is not a field of {table}',
            field="location",
            fix=nearest(name, fields) or "fields: " + ", ".join(sorted(fields)),
        )
    return field
