"""What a validation error says to a person: the field's path, what is wrong with it, and the nearest right word."""

from __future__ import annotations

import re
from typing import Any, get_args, get_type_hints

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest


def invalid(
    error: msgspec.ValidationError, kind: type[Any], code: Code = Code.bad_request, root: str = ""
) -> AiwmError:
    """A msgspec error about `kind` as an AiwmError. `root` is where the data came from (`payload`, `workers[2]`)."""
    text, _, path = str(error).partition(" - at `$")
    place = path.rstrip("`")
    words = text.split("`")
    fix = None
    if "unknown field" in text and len(words) > 2:
        fix = nearest(words[1], _fields_at(kind, place))
        place = f"{place}.{words[1]}"
    elif "missing required field" in text and len(words) > 2:
        place = f"{place}.{words[1]}"
    field = f"{root}{place}".lstrip(".") or None
    message = f"{text[0].lower()}{text[1:]}"
    return AiwmError(code, f"{field}: {message}" if field else message, field=field, fix=fix)


def _fields_at(kind: Any, place: str) -> tuple[str, ...]:
    """The field names of the struct at a path such as `.sampling` or `.adapters[...]`; those of `kind` if it cannot be told."""
    here = kind
    for name in re.findall(r"\.([A-Za-z_]\w*)", place):
        hint = get_type_hints(here).get(name) if isinstance(here, type) else None
        inner = [
            part for part in (hint, *get_args(hint)) if isinstance(part, type) and issubclass(part, msgspec.Struct)
        ]
        here = inner[0] if inner else None
    fields: tuple[str, ...] = getattr(here if here is not None else kind, "__struct_fields__", ())
    return fields
