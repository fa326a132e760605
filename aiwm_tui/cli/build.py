"""A command from a request class: fields become arguments and options, the docstring becomes the help, nothing is written twice."""

from __future__ import annotations

import inspect
import time
import types
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, NamedTuple, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import typer

from aiwm_tui.cli import values
from engine.contract.invalid import invalid
from engine.contract.requests.base import Request

Made = TypeVar("Made", bound=Request[Any])

_POINTS_IN_TIME = frozenset({"due_ms", "deadline_ms"})

_METAVARS: dict[Any, str] = {str: "TEXT", int: "N", float: "X", list[str]: "TEXT"}

_HELP = {
    "aging": "what one priority step is worth in waiting, such as 60s",
    "batch": "a name that ties tasks together",
    "backoff": "factor between one retry's wait and the next's",
    "capabilities": "what the worker must be able to do; may be given several times",
    "delay": "wait before the first retry",
    "deadline": "give up if not ended by then: 30s or 2h from now, 02:30, a date",
    "default-priority": "priority of tasks that name none",
    "definition": "the worker definition",
    "due": "do not start before: 30s or 2h from now, 02:30, a date",
    "durability": "what an acknowledgement promises: disk survives power loss, os a killed engine, memory neither",
    "key": "a second submit with the same key adds nothing",
    "jitter": "share by which waits vary",
    "limit": "rows at most",
    "max-attempts": "attempts at most",
    "max-delay": "the longest wait before a retry",
    "max-length": "waiting tasks at most",
    "max-retries": "further attempts after the first",
    "max-total": "instances at most",
    "min-idle": "instances that are kept ready",
    "mode": "drain waits for running tasks, now gives them back to their queues",
    "offset": "rows to skip",
    "paused": "start nothing from it yet",
    "payload": "what the worker gets, a JSON object",
    "pools": "pool that serves it; may be given several times, in order of preference",
    "priority": "higher goes first",
    "reason": "why, for the record",
    "size": "rows at most",
    "tenant": "on whose behalf",
    "timeout": "wait at most, such as 30s or 5m",
    "top": "rows to skip",
    "where": "a filter such as state:failed queue:demo",
}


class Param(NamedTuple):
    """One leaf field: where it lies in the request, how it is called on the command line, how text becomes its value."""

    path: tuple[str, ...]
    name: str
    hint: Any
    required: bool
    convert: Callable[[Any], Any] | None
    metavar: str | None

    @property
    def key(self) -> str:
        return "_".join(self.path)


def params_of(request: type[msgspec.Struct], path: tuple[str, ...] = (), prefix: str = "") -> list[Param]:
    """The leaf fields of a request in order. A struct's fields stand for it; below the first level they carry its name."""
    found: list[Param] = []
    hints = get_type_hints(request)
    for field in msgspec.structs.fields(request):
        hint = _without_none(hints[field.name])
        here = (*path, field.name)
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            found += params_of(hint, here, f"{field.name}-" if path else "")
            continue
        name = prefix + field.name.removesuffix("_ms").replace("_", "-")
        kind, convert, metavar = _kind(field.name, hint, f"--{name}")
        required = field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
        found.append(Param(here, name, kind, required, convert, metavar))
    return found


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in get_args(hint) if part is not type(None)]
        return rest[0] if len(rest) == 1 else Any
    return hint


def _kind(field: str, hint: Any, option: str) -> tuple[Any, Callable[[Any], Any] | None, str | None]:
    if field in _POINTS_IN_TIME:
        return str, lambda text: values.future_ms(text, option, time.time_ns() // 1_000_000), "WHEN"
    if field.endswith("_ms"):
        return str, lambda text: values.duration_ms(text, option), "TIME"
    if hint == tuple[str, ...]:
        return list[str], tuple, None
    if hint in (str, int, float, bool) or (isinstance(hint, type) and issubclass(hint, Enum)):
        return hint, None, None
    if get_origin(hint) is dict:
        return str, lambda text: values.json_object(text, option), "JSON"
    return str, lambda text: values.json_value(text, option), "JSON"


def signature_of(params: list[Param], extra: list[inspect.Parameter]) -> inspect.Signature:
    """What typer reads: required fields are arguments, the others options that default to "not given"."""
    return inspect.Signature([*map(_parameter, params), *extra])


def _parameter(param: Param) -> inspect.Parameter:
    help_text = _HELP.get(param.name.removeprefix("retry-"))
    if param.required:
        metavar = param.metavar or param.name.upper().replace("-", "_")
        about: Any = typer.Argument(metavar=metavar, help=help_text, show_default=False)
        return _keyword(param.key, Annotated[param.hint, about], inspect.Parameter.empty)
    about = typer.Option(
        f"--{param.name}", metavar=param.metavar or _METAVARS.get(param.hint), help=help_text, show_default=False
    )
    return _keyword(param.key, Annotated[Optional[param.hint], about], None)  # noqa: UP045 (a type made at run time)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def request_from(request: type[Made], params: list[Param], given: dict[str, Any]) -> Made:
    """The request with what was given on the command line; what was not given keeps its default."""
    tree: dict[str, Any] = {}
    for param in params:
        value = given.get(param.key)
        if value is None or (value == [] and not param.required):
            continue
        place = tree
        for step in param.path[:-1]:
            place = place.setdefault(step, {})
        place[param.path[-1]] = param.convert(value) if param.convert is not None else value
    return converted(tree, request)


def converted(tree: Any, request: type[Made]) -> Made:
    """Data as a request. `bad_request` names the field that is wrong, and the nearest one for an unknown field."""
    try:
        made: Made = msgspec.convert(tree, request)
    except msgspec.ValidationError as error:
        raise invalid(error, request) from None
    return made
