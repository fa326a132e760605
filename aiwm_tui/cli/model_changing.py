"""`aiwm model set NAME field=value …`: what people type, as fields of a model definition."""

from __future__ import annotations

from typing import Annotated, Any, get_type_hints

import typer

from aiwm_tui.cli.build import converted
from aiwm_tui.cli.command import Cli
from aiwm_tui.cli.model_text import detail_text
from aiwm_tui.typed import duration_ms, json_object, size_bytes
from engine.contract.definitions import KvPrecision, ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.models import ModelSet
from engine.contract.suggest import nearest

_FIELDS = {name: hint for name, hint in get_type_hints(ModelDefinition).items() if name != "name"}
_SHORT = {"memory": "memory_bytes", "idle": "idle_ms", "ctx": "context"}


def set_fields(
    cli: Cli,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    fields: Annotated[
        list[str],
        typer.Argument(
            metavar="FIELD=VALUE…", help="such as slots=4 context=8k kv=q8 kv=4G idle=15m", show_default=False
        ),
    ],
) -> None:
    """Change how a model is run. Processes that hold it go on as they are until they are restarted (`aiwm model restart`).

    An empty value goes back to the default. JSON: kind model."""
    changes: dict[str, Any] = {}
    clear: list[str] = []
    for text in fields:
        field, separator, value = text.partition("=")
        if not separator:
            raise AiwmError(Code.bad_request, f'"{text[:80]}" is not FIELD=VALUE', field="fields", fix="slots=4")
        if value:
            changes |= field_value(field, value)
        else:
            clear += ["kv", "kv_bytes"] if field == "kv" else [_known(field)]
    request = converted({"name": name, "changes": changes, "clear": clear}, ModelSet)
    detail = cli.call(request)
    cli.output.one("model", detail, lambda: detail_text(detail))


def field_value(field: str, value: str) -> dict[str, Any]:
    """One field as it goes into the request. Raises bad_request naming it."""
    if field == "kv":
        return cache_field(value)
    known = _known(field)
    hint = _FIELDS[known]
    if known.endswith("_bytes"):
        return {known: size_bytes(value, field)}
    if known.endswith("_ms"):
        return {known: -1 if value in ("-1", "never") else duration_ms(value, field)}
    if known == "command":
        import shlex

        return {known: shlex.split(value)}
    if hint == tuple[str, ...]:
        return {known: value.split(",")}
    if hint in (tuple[int, ...], tuple[float, ...]):
        found = numbers(value, field)
        return {known: [int(it) for it in found] if hint == tuple[int, ...] else found}
    if hint is int:
        return {known: size_bytes(value, field)}
    return {known: json_object(value, field) if known == "metadata" else value}


def _known(field: str) -> str:
    name = _SHORT.get(field, field.replace("-", "_"))
    if name not in _FIELDS:
        message = f'a model has no field "{field[:40]}"'
        raise AiwmError(Code.bad_request, message, field="fields", fix=nearest(field, _FIELDS) or ", ".join(_FIELDS))
    return name


def cache_field(text: str) -> dict[str, Any]:
    """`--kv q8` is a precision, `--kv 4G` a size."""
    if not text:
        return {}
    if text.lower() in KvPrecision.__members__:
        return {"kv": KvPrecision(text.lower())}
    return {"kv_bytes": size_bytes(text, "kv")}


def numbers(text: str, option: str) -> list[float]:
    """`0,1` or `10.5,20`."""
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        message = f'{option}: "{text[:40]}" is no list of numbers'
        raise AiwmError(Code.bad_request, message, field=option.removeprefix("--"), fix="such as 0,1") from None
