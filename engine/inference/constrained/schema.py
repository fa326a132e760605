"""What a JSON Schema may say here: pure checks that name the place and the keyword, before a grammar is compiled from it.

Supported are the keywords of draft 2020-12 that a grammar can express, see docs/json_schema.md of llguidance; a keyword that would
silently not hold is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code

MAX_BYTES = 65_536
"""A schema written as JSON."""
MAX_DEPTH = 64
"""Objects and lists in one another."""

_NO_GRAMMAR = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "contains",
        "minContains",
        "maxContains",
        "uniqueItems",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "additionalItems",
        "$dynamicRef",
        "$dynamicAnchor",
        "$recursiveRef",
        "$recursiveAnchor",
        "$vocabulary",
        "x-guidance",
    }
)
_ONE = ("items", "additionalProperties")
_LISTS = ("prefixItems", "anyOf", "oneOf", "allOf")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")

# What the compiler says of a schema that it cannot express → the keyword that is to blame.
_BLAMED = (
    ("oneof", "oneOf"),
    ("patternproperty", "patternProperties"),
    ("min/maxproperties", "minProperties"),
    ("format", "format"),
    ("regex", "pattern"),
    ("pattern", "pattern"),
    ("pointer", "$ref"),
    ("resource", "$ref"),
    ("multipleof", "multipleOf"),
    ("enum", "enum"),
    ("anyof is empty", "anyOf"),
    ("invalid type", "type"),
)


def check_size(schema: Mapping[str, Any], field: str = "schema") -> bytes:
    """The schema as JSON. Raises schema_unsupported when it is larger or deeper than any that is taken."""
    if _deeper(schema, MAX_DEPTH):
        raise AiwmError(
            Code.schema_unsupported,
            f"{field} is more than {MAX_DEPTH} levels deep",
            field=field,
            fix="a flatter schema",
        )
    text = msgspec.json.encode(schema)
    if len(text) > MAX_BYTES:
        message = f"{field} has {len(text):,} bytes; at most {MAX_BYTES:,} are taken"
        raise AiwmError(Code.schema_unsupported, message, field=field, fix="a smaller schema, shared parts under $defs")
    return text


def check_keywords(schema: Mapping[str, Any], field: str = "schema") -> None:
    """Raises schema_unsupported for the first keyword that no grammar can express."""
    for place, part in subschemas(schema, field):
        for keyword in part:
            if keyword in _NO_GRAMMAR and not (keyword == "uniqueItems" and part[keyword] is False):
                raise unsupported(f"{place}.{keyword}", keyword, "answers cannot be held to it while they are written")


def plain(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without `"uniqueItems": false`, which says nothing and which the compiler would refuse."""
    if all("uniqueItems" not in part for _, part in subschemas(schema, "")):
        return schema
    copied: dict[str, Any] = deepcopy(schema)
    for _, part in subschemas(copied, ""):
        if isinstance(part, dict) and part.get("uniqueItems") is False:
            del part["uniqueItems"]
    return copied


def blamed(schema: Mapping[str, Any], message: str, field: str = "schema") -> AiwmError:
    """The compiler's refusal as an error: its cause, and the place of the keyword that it is about, where that can be told."""
    cause = re.split(r"\n\s*(?:while processing|\d+ \|)", message.split("JSON schema: ", 1)[-1], maxsplit=1)[0]
    first = " ".join(cause.split())[:300]
    for words, keyword in _BLAMED:
        if words in first.lower():
            places = [f"{place}.{keyword}" for place, part in subschemas(schema, field) if keyword in part]
            if places:
                return unsupported(places[0], keyword, first)
    return AiwmError(Code.schema_unsupported, f"{field}: {first}", field=field, fix="a simpler schema")


def unsupported(place: str, keyword: str, why: str) -> AiwmError:
    return AiwmError(
        Code.schema_unsupported,
        f'{place}: the keyword "{keyword}" is not supported: {why}',
        field=place,
        fix=f'leave "{keyword}" out and check the result afterwards',
    )


def subschemas(schema: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema in a schema, itself first, with its place in dots. What is only data (`const`, `default`) is none."""
    if not isinstance(schema, Mapping):
        return
    yield place, schema
    for keyword in _ONE:
        yield from subschemas(schema.get(keyword), f"{place}.{keyword}")
    for keyword in _LISTS:
        parts = schema.get(keyword)
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            yield from subschemas(part, f"{place}.{keyword}[{index}]")
    for keyword in _MAPS:
        named = schema.get(keyword)
        for name, part in named.items() if isinstance(named, Mapping) else ():
            yield from subschemas(part, f"{place}.{keyword}.{name}")


def _deeper(value: Any, depth: int) -> bool:
    if not isinstance(value, (Mapping, list)):
        return False
    parts = value.values() if isinstance(value, Mapping) else value
    return depth == 0 or any(_deeper(part, depth - 1) for part in parts)
