"""The JSON Schema of a bundle, generated from the definitions' structs, and what it says about a document: every mistake at once.

Validation never fetches anything: the schema refers only to itself."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin

import msgspec

from engine.contract.suggest import nearest
from engine.control.bundles.names import VALUES, Schema, kind_spellings, spec_of, struct_in
from engine.control.definitions import TYPES

VERSION = 1
EXTRA_KEYS = {"$schema": {"type": "string"}, "version": {"const": VERSION}, "complete": {"type": "boolean"}}
"""What a bundle may have besides its lists."""

LESSON_KEYS = ("lessons", "distilledLessons", "distilled_lessons", "ai_knowledge_base")
"""Lessons are knowledge, not definitions: a bundle may have them, and they are left to whoever keeps lessons."""

_PLAIN: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_SECRET = frozenset({"auth"})

Path = tuple[str | int, ...]


class Mistake(msgspec.Struct, frozen=True):
    """Where in a document (`("pools", 2, "max_total")`), what, and what would be right."""

    path: Path
    message: str
    fix: str | None = None


@cache
def bundle_schema() -> Schema:
    """The schema of a bundle document in all its spellings, to validate by and for editors."""
    lists: Schema = {
        spelling: {"type": "array", "items": {"$ref": f"#/$defs/{TYPES[kind].__name__}"}}
        for spelling, kind in kind_spellings()
    }
    definitions: dict[str, Schema] = {}
    for type_ in TYPES.values():
        _define(type_, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "aiwm bundle",
        "type": "object",
        "properties": {**EXTRA_KEYS, **lists, **{key: {} for key in LESSON_KEYS}},
        "additionalProperties": False,
        "$defs": definitions,
    }


def _define(type_: type[msgspec.Struct], definitions: dict[str, Schema]) -> None:
    """The schema of a struct and of those inside it. Missing fields are found later, by whoever knows all spellings."""
    if type_.__name__ in definitions:
        return
    spec = spec_of(type_)
    properties: Schema = {}
    definitions[type_.__name__] = {"type": "object", "properties": properties}
    if not spec.lenient:
        definitions[type_.__name__]["additionalProperties"] = False
    for spelling, known in spec.known.items():
        properties[spelling] = known.schema if known.schema is not None else _of(known.hint, type_, known.field)
        inner = struct_in(known.hint)
        if inner is not None:
            _define(inner, definitions)


def _of(hint: Any, owner: type[msgspec.Struct], field: str) -> Schema:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return {"type": [_PLAIN[part] for part in get_args(hint)]}
    if origin is tuple:
        return {"type": "array", "items": _of(get_args(hint)[0], owner, field)}
    if origin is dict:
        return {"type": "object"}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [*(value.value for value in hint), *VALUES.get((owner, field), {})]}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return {"type": _PLAIN[hint]}


def mistakes(document: Any) -> list[Mistake]:
    """Everything about a document that its schema does not allow."""
    try:
        return [found for error in _validator().iter_errors(document) for found in _told(error)]
    except (ValueError, RecursionError) as error:
        return [Mistake((), f"cannot be validated: {error}"[:300])]


@cache
def _validator() -> Any:
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(bundle_schema(), retriever=_refuse)


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} lies elsewhere, and schemas are never fetched")


def _told(error: Any) -> Iterator[Mistake]:
    path: Path = tuple(error.instance_path)
    if error.kind.name == "additionalProperties":
        known = list(_at(path).get("properties", ()))
        for key in error.kind.unexpected:
            yield Mistake((*path, key), f'unknown key "{key[:80]}"', nearest(key, known))
    elif _SECRET & set(path):
        # What was written there may be a key: it is never said back.
        yield Mistake(path, "has not the form {method, value}", '"auth": {"method": "env_var", "value": "NAME"}')
    else:
        yield Mistake(path, str(error.message)[:300], _nearest_value(error))


def _nearest_value(error: Any) -> str | None:
    if error.kind.name != "enum" or not isinstance(error.instance, str):
        return None
    options = [option for option in error.kind.options if isinstance(option, str)]
    return nearest(error.instance, options) or "one of " + ", ".join(options)


def _at(path: Path) -> Schema:
    """The schema of the object at a path."""
    schema = bundle_schema()
    here: Schema = schema
    for step in path:
        here = here.get("items", {}) if isinstance(step, int) else here.get("properties", {}).get(step, {})
        reference = here.get("$ref")
        if reference is not None:
            here = schema["$defs"][reference.rpartition("/")[2]]
    return here
