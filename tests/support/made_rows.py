"""A row of any table, made from the types of its fields: for what must hold for every table, also those that nobody has samples of."""

from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from aiwm_tui.states import known_states
from engine.contract.records import TABLES, Record

AT = 1_795_144_000_000
"""A minute before the console's frozen time."""


def made_row(table: str, number: int, **changes: Any) -> Record:
    """The `number`th row; fields that are not named in `changes` get a value of their type."""
    kind = TABLES[table]
    states = known_states(table)
    values = {name: _value(name, hint, number) for name, hint in get_type_hints(kind).items() if name in _fields(kind)}
    if "state" in values and states:
        values["state"] = states[number % len(states)]
    values["id"] = f"{table[:2]}-{number:03d}"
    record: Record = msgspec.convert(msgspec.to_builtins(values | changes), kind)
    return record


def _fields(kind: Any) -> set[str]:
    return set(kind.__struct_fields__)


def _value(name: str, hint: Any, number: int) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(each for each in get_args(hint) if each is not type(None))
    if hint is bool:
        return bool(number % 2)
    if hint is int:
        return AT - number * 1000 if name.endswith("_ms") else number * 7
    if hint is float:
        return number * 1.5
    if hint is str:
        return f"{name}-{number}"
    if get_origin(hint) is tuple:
        return ()
    if get_origin(hint) is dict:
        return {}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return {
            each: _value(each, kind, number) for each, kind in get_type_hints(hint).items() if each in _fields(hint)
        }
    return next(iter(hint)) if isinstance(hint, type) and hasattr(hint, "__iter__") else None
