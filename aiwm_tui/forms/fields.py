"""The fields of a form, from the struct that it makes: types, defaults, and what the docstring says of each. Pure."""

from __future__ import annotations

import re
import types
from enum import Enum, StrEnum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec


class Kind(StrEnum):
    """How a field is typed. `words` are separated by commas, `duration` is `30s` or `1h30m`, `size` is `4G` of bytes, `moment` a time to
    come; `json` has several lines, and `payload` is JSON or a prompt."""

    text = "text"
    whole = "whole"
    decimal = "decimal"
    choice = "choice"
    words = "words"
    duration = "duration"
    size = "size"
    moment = "moment"
    json = "json"
    payload = "payload"


class FormField(msgspec.Struct, frozen=True):
    """One field. `key` is its path in the struct (`retry.delay_ms`); `optional`: empty means none; `default` as plain data;
    `title` is what it is called where that is not its key."""

    key: str
    kind: Kind
    required: bool = False
    optional: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    help: str = ""
    title: str = ""

    @property
    def label(self) -> str:
        return self.title or self.key.replace(".", " ").replace("_", " ").removesuffix(" ms")

    @property
    def lines(self) -> int:
        """How many lines are typed into."""
        return {Kind.json: 3, Kind.payload: 6}.get(self.kind, 1)


YES, NO = "yes", "no"
_MOMENTS = frozenset({"due_ms", "deadline_ms"})
_SENTENCE = re.compile(r"(?<=[.;])\s+")


def fields_of(
    struct: type[msgspec.Struct], *, only: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> tuple[FormField, ...]:
    """The fields of a form for a struct, those of structs inside it in their place; `only` these, in this order, if any are named."""
    found = _fields(struct, "")
    if only:
        by_key = {field.key: field for field in found}
        return tuple(by_key[key] for key in only)
    return tuple(field for field in found if field.key not in without)


def _fields(struct: type[msgspec.Struct], prefix: str) -> list[FormField]:
    hints = get_type_hints(struct)
    said = _SENTENCE.split(" ".join((struct.__doc__ or "").split()))
    found: list[FormField] = []
    for info in msgspec.structs.fields(struct):
        hint, optional = _without_none(hints[info.name])
        key = prefix + info.name
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            found += _fields(hint, key + ".")
            continue
        kind, choices = _kind(info.name, hint)
        found.append(
            FormField(
                key=key,
                kind=kind,
                required=info.required,
                optional=optional,
                default=None if info.required else msgspec.to_builtins(_default(info)),
                choices=choices,
                help=" ".join(sentence for sentence in said if f"`{info.name}`" in sentence),
            )
        )
    return found


def _default(info: Any) -> Any:
    return info.default if info.default is not msgspec.NODEFAULT else info.default_factory()


def _without_none(hint: Any) -> tuple[Any, bool]:
    """The type without None, and whether None was in it."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in get_args(hint) if part is not type(None)]
        return (rest[0] if len(rest) == 1 else Any), len(rest) < len(get_args(hint))
    return hint, False


_ENDINGS = {"_ms": Kind.duration, "_bytes": Kind.size}


def _kind(name: str, hint: Any) -> tuple[Kind, tuple[str, ...]]:
    if hint is bool:
        return Kind.choice, (NO, YES)
    if get_origin(hint) is Literal:
        return Kind.choice, tuple(str(each) for each in get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Kind.choice, tuple(str(each.value) for each in hint)
    if hint is int:
        return (Kind.moment if name in _MOMENTS else _ENDINGS.get(name[name.rfind("_") :], Kind.whole)), ()
    if name == "payload":
        return Kind.payload, ()
    return {float: Kind.decimal, str: Kind.text, tuple[str, ...]: Kind.words}.get(hint, Kind.json), ()
