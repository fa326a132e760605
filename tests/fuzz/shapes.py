"""Inputs with the right shape, mostly: what a careless or hostile client sends. Derived from the request classes."""

from __future__ import annotations

import json
import types
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from engine.contract.definitions import DataSource, PoolDefinition, QueueDefinition, TaskTemplate, WorkerDefinition
from engine.contract.fields import fields_of
from engine.contract.records import TABLES
from engine.contract.requests import catalogue
from tests.fuzz.house import APART

NAMES = (
    "echo",
    "demo",
    "nano",
    "t-10001",
    "t-10003",
    "i-01",
    "b",
    "q",
    "",
    "op-1",
    "state",
    "queue",
    "x" * 300,
    "..",
    "/etc/passwd",
    "a/b",
)
TEXT = st.sampled_from(NAMES) | st.text(max_size=12)
NUMBER = st.sampled_from([0, 1, -1, 2, 50, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**40]) | st.integers(
    -5, 5
)
REAL = st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.5, 1e308, 1e-320, 2.0**63]) | st.floats(
    allow_nan=False, allow_infinity=False
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBER | REAL | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def _words() -> st.SearchStrategy[str]:
    fields = sorted({name for table in TABLES for name in fields_of(table)})
    value = st.sampled_from(
        ["failed", "5", "8G", "5m", "-1", "*", "a*b*", '"a b"', '"', "10:00", "2026-11-20", "", "é", "a,b", "%", "\0"]
    )
    op = st.sampled_from([":", ">", "<", ">=", "<=", "=", "::"])
    term = st.builds(
        lambda no, name, how, what: f"{no}{name}{how}{what}",
        st.sampled_from(["", "!", "-"]),
        st.sampled_from([*fields, "text", "is", "x"]),
        op,
        value,
    )
    return term | st.builds("sort:{}".format, st.sampled_from(fields)) | value | st.text(max_size=8)


FILTER = st.lists(_words(), max_size=5).map(" ".join)
LOCATION = st.builds(
    lambda colon, table, item, rest: f"{colon}{table}{item} {rest}",
    st.sampled_from([":", "", " :"]),
    st.sampled_from([*TABLES, "logs", "x", ""]),
    st.sampled_from(["", "/t-10001", "/", "/a b", "/../x"]),
    FILTER,
)


def _of(hint: Any, name: str, depth: int) -> st.SearchStrategy[Any]:
    """Values of a type, and now and then something else."""
    if name in ("where", "location"):
        return LOCATION if name == "location" else FILTER
    if name in ("bundle", "workers"):
        return BUNDLE.map(json.dumps) | TEXT
    right = _right(hint, depth)
    return st.one_of(right, right, right, right, right, right, JSON)


def _right(hint: Any, depth: int) -> st.SearchStrategy[Any]:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of(*(_right(part, depth) for part in inner))
    if origin is Literal:
        return st.sampled_from(inner)
    if hint is types.NoneType:
        return st.none()
    if hint is str:
        return TEXT
    if hint is bool:
        return st.booleans()
    if hint is int:
        return NUMBER
    if hint is float:
        return REAL
    if origin in (tuple, list, frozenset, set):
        return st.lists(_right(inner[0], depth), max_size=3)
    if origin is dict:
        return st.dictionaries(TEXT, _right(inner[1], depth), max_size=3)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from([member.value for member in hint])
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and depth < 3:
        return struct(hint, depth + 1)
    return JSON


@cache
def struct(kind: type[msgspec.Struct], depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """Objects for a struct: its required fields, some others, rarely one that it does not have."""
    hints = get_type_hints(kind)
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in msgspec.structs.fields(kind):
        place = required if field.required else optional
        place[field.encode_name] = st.deferred(lambda hint=hints[field.name], name=field.name: _of(hint, name, depth))  # type: ignore[misc]
    shaped = st.fixed_dictionaries(required, optional=optional)
    extra = st.dictionaries(TEXT, JSON, max_size=1)
    return st.one_of(shaped, shaped, shaped, st.builds(lambda one, two: {**one, **two}, shaped, extra))


BUNDLE = st.fixed_dictionaries(
    {},
    optional={
        key: st.lists(struct(kind), max_size=3) | JSON
        for key, kind in {
            "workers": WorkerDefinition,
            "pools": PoolDefinition,
            "queues": QueueDefinition,
            "templates": TaskTemplate,
            "sources": DataSource,
        }.items()
    }
    | {"complete": st.booleans() | JSON, "v": NUMBER, "version": JSON, "lessons": JSON},
)
REQUEST = st.sampled_from(sorted(set(catalogue().by_method) - set(APART))).flatmap(
    lambda method: st.tuples(st.just(method), struct(catalogue().by_method[method]))
)
LINE = st.builds(
    lambda head, identifier, request: head | {"id": identifier, "method": request[0], "params": request[1]},
    st.fixed_dictionaries({"jsonrpc": st.sampled_from(["2.0", "1.0", 2])}, optional={"result": JSON, "error": JSON}),
    NUMBER | TEXT | JSON,
    REQUEST | st.tuples(TEXT, JSON),
)


def _spoiled(line: dict[str, Any], cut: int, put: bytes) -> bytes:
    """A line as it is, or with something in the middle of it."""
    text = json.dumps(line).encode()
    return text[:cut] + put + text[cut:] if put else text


LINES = st.lists(
    st.builds(_spoiled, LINE, st.integers(0, 120), st.just(b"") | st.binary(max_size=3)), min_size=1, max_size=3
).map(b"\n".join)
SCHEMA = JSON | st.recursive(
    st.sampled_from(
        [
            {},
            True,
            {"type": "string"},
            {"type": "object"},
            {"$ref": "#"},
            {"$ref": "http://127.0.0.1:1/x"},
            {"$ref": "file:///etc/passwd"},
        ]
    )
    | st.builds(
        lambda key, value: {key: value},
        st.sampled_from(["pattern", "format", "minimum", "multipleOf", "enum", "const", "$id", "required"]),
        JSON,
    ),
    lambda inner: (
        st.builds(
            lambda key, one: {key: one},
            st.sampled_from(["not", "items", "additionalProperties", "if", "contains", "propertyNames"]),
            inner,
        )
        | st.builds(
            lambda names, one: {"properties": dict.fromkeys(names, one), "required": names},
            st.lists(TEXT, max_size=2),
            inner,
        )
        | st.builds(
            lambda key, many: {key: many}, st.sampled_from(["anyOf", "allOf", "oneOf"]), st.lists(inner, max_size=3)
        )
    ),
    max_leaves=5,
)
