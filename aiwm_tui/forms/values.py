"""What is typed into a form, read and written. Every mistake names its field. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from aiwm_tui.forms.fields import NO, YES, FormField, Kind
from aiwm_tui.live.format import exact
from aiwm_tui.live.text import clean, clean_lines
from engine.contract.definitions import NAME_PATTERN
from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.contract.invalid import invalid
from engine.contract.query import span_ms

Made = TypeVar("Made", bound=msgspec.Struct)


def written(field: FormField, value: Any) -> str:
    """A value as one would type it, harmless: what a terminal would obey is shown as a picture, and kept so if the form is sent."""
    text = _written(field, value)
    return "\n".join(clean_lines(text)) if field.lines > 1 else clean(text)


def _written(field: FormField, value: Any) -> str:
    if value is None:
        return ""
    match field.kind:
        case Kind.choice:
            return {True: YES, False: NO}.get(value, str(value)) if isinstance(value, bool) else str(value)
        case Kind.words:
            return ", ".join(value)
        case Kind.duration:
            return exact(value)
        case Kind.size:
            return _size(value)
        case Kind.json | Kind.payload:
            return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() if value else ""
        case Kind.decimal:
            return f"{value:g}"
    return str(value)


def _size(count: int) -> str:
    """Bytes in the largest unit of which they are a whole number."""
    units = 0
    while count and count % 1024 == 0 and units < 4:
        count, units = count // 1024, units + 1
    return f"{count}{' kMGT'[units].strip()}"


def texts_of(fields: Iterable[FormField], value: Any | None = None) -> dict[str, str]:
    """What stands in each field: of a struct's values, or the defaults."""
    data = _plain(value) if value is not None else None
    return {field.key: written(field, _at(data, field.key) if data is not None else field.default) for field in fields}


def _plain(value: Any) -> Any:
    """A struct as JSON would have it: lists, no tuples."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _at(data: Any, key: str) -> Any:
    for part in key.split("."):
        data = data[part]
    return data


def read(field: FormField, text: str, now_ms: int = 0) -> Any:
    """The value that was typed, as plain data. `bad_request` names the field and what would be right."""
    stripped = text.strip()
    if not stripped:
        return _empty(field)
    match field.kind:
        case Kind.text:
            if field.key == "name" and not re.fullmatch(NAME_PATTERN, stripped):
                raise _bad(field, "a name has letters, digits, dots, dashes and underscores, at most 64")
            return stripped
        case Kind.whole:
            return _number(field, stripped, int, "a whole number")
        case Kind.decimal:
            return _number(field, stripped, float, "a number")
        case Kind.choice:
            return _choice(field, stripped)
        case Kind.words:
            return [word for part in stripped.split(",") if (word := part.strip())]
        case Kind.duration:
            return _span(field, stripped)
        case Kind.size:
            from aiwm_tui.typed import size_bytes

            return size_bytes(stripped, field.key)
        case Kind.moment:
            from aiwm_tui.typed import future_ms

            return future_ms(stripped, field.key, now_ms)
    return _json(field, text)


def _empty(field: FormField) -> Any:
    if field.optional:
        return None
    if field.required:
        raise _bad(field, "must be said")
    return {Kind.words: [], Kind.text: "", Kind.json: {}, Kind.payload: {}}.get(field.kind, field.default)


def _number(field: FormField, text: str, kind: type[int] | type[float], what: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise _bad(field, f'"{text[:20]}" is not {what}') from None


def _choice(field: FormField, text: str) -> Any:
    if text not in field.choices:
        raise _bad(field, f'"{text[:20]}" is none of {", ".join(field.choices)}')
    return text == YES if field.choices == (NO, YES) else text


def _span(field: FormField, text: str) -> int:
    try:
        return round(float(text) * 1000) if re.fullmatch(r"\d+(\.\d+)?", text) else round(span_ms(text))
    except ValueError:
        raise _bad(field, f'"{text[:20]}" is not a duration', "30s, 5m, 1h30m, or seconds") from None


def _json(field: FormField, text: str) -> Any:
    if field.kind is Kind.payload and not text.lstrip().startswith("{"):
        return {"prompt": text.strip("\n")}
    try:
        return msgspec.json.decode(text.encode())
    except NOT_JSON as error:
        raise AiwmError(
            Code.payload_invalid if field.kind is Kind.payload else Code.bad_request,
            f"the {field.label} is not JSON: {error}",
            field=field.key,
        ) from None


def _bad(field: FormField, message: str, fix: str | None = None) -> AiwmError:
    return AiwmError(Code.bad_request, message, field=field.key, fix=fix)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"retry.delay_ms": 1}` as `{"retry": {"delay_ms": 1}}`."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        inner = out
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return out


def made(kind: type[Made], values: Mapping[str, Any]) -> Made:
    """The struct that the values make; what does not fit names its field."""
    try:
        return msgspec.convert(nested(values), kind)
    except msgspec.ValidationError as error:
        raise invalid(error, kind) from None


def changes(fields: Iterable[FormField], before: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from a struct, nested; {} when nothing does."""
    data = _plain(before)
    return nested({field.key: values[field.key] for field in fields if values[field.key] != _at(data, field.key)})


def field_named(fields: Collection[FormField], name: str | None) -> FormField | None:
    """The field that an error of the engine is about: `definition.retry.jitter`, `payload.invoice.n`, `pools[2]`."""
    whole = re.sub(r"\[.*?\]", "", name or "")
    # Also without its first part, which may be the request's own field: a pool has a `definition` of its own inside `definition`.
    paths = [whole, whole.partition(".")[2]]
    while any(paths):
        for path in paths:
            for field in fields:
                if field.key == path:
                    return field
        paths = [path.rpartition(".")[0] for path in paths]
    return None
