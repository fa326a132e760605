"""A command from a request class: fields become arguments and options, the docstring becomes the help, nothing is written twice."""

from __future__ import annotations

import inspect
import re
import time
import types
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import typer

from aiwm_tui import typed
from engine.contract.errors import AiwmError
from engine.contract.invalid import invalid
from engine.contract.requests.base import Request

Made = TypeVar("Made", bound=Request[Any])

_POINTS_IN_TIME = frozenset({"due_ms", "deadline_ms"})

_METAVARS: dict[Any, str] = {str: "TEXT", int: "N", float: "X", list[str]: "TEXT", list[int]: "N"}

_HELP = {
    "adapter": "the adapter to use instead, such as invoice-de@v4; base: none",
    "after": "a task that must have completed before; may be given several times",
    "adapters": 'adapters to apply instead, such as \'[{"name": "pirate", "weight": 0.5}]\'',
    "api-key": "the API key of config.toml that is sent",
    "aging": "what one priority step is worth in waiting, such as 60s",
    "anyway": "also if nothing here can run it",
    "backoff": "factor between one retry's wait and the next's",
    "backend": "what runs it, if not what its kind says",
    "bare": "the model alone: no worker definition, pool and queue",
    "batch": "a name that ties tasks together",
    "by": "what one line stands for",
    "canary": "so many first; the rest when they have completed",
    "cancel-tasks": "cancel all that waits or runs in it first",
    "capabilities": "what the worker must be able to do; may be given several times",
    "clear": "a field that goes back to its default; may be given several times",
    "context": "tokens a request may have, its answer included",
    "context-tokens": "how many tokens a conversation may have (0: as many as the model holds)",
    "cooldown": "how long an instance above min-idle may rest before it goes",
    "deadline": "give up if not ended by then: 30s or 2h from now, 02:30, a date",
    "default-priority": "priority of tasks that name none",
    "defaults": "merged under each payload, a JSON object",
    "comments": "why",
    "confidence": "how sure it is, from 0 to 1",
    "copy": "copy its files into the home",
    "corrections": "what should be done differently",
    "current": "make it the current one",
    "definition": "the worker definition",
    "delay": "do it so much later; until then aiwm undo takes it back",
    "description": "what it is for",
    "drain": "let them end what they do first",
    "draining": "work off what is there, take nothing new",
    "due": "do not start before: 30s or 2h from now, 02:30, a date",
    "durability": "what an acknowledgement promises: disk survives power loss, os a killed engine, memory neither",
    "error": "a glob, or a part, of the error of the attempt before",
    "evidence": "a task that it was learned from; may be given several times",
    "external": "it lies outside the home, where config.toml allows it",
    "file": "a file context; may be given several times",
    "filters": "a glob of files to show; may be given several times (none: all)",
    "front": "before everything else in the queue",
    "health": "the path of a server's address that says whether it is ready",
    "hold": "why it shall not be started again, until aiwm model load",
    "idle": "unloaded after so long without work",
    "jitter": "share by which waits vary",
    "keep": "until it is evicted by hand",
    "keep-others": "keep what a complete bundle does not have",
    "key": "a second submit with the same key adds nothing; with --file the field that has it",
    "definition.key": "the name of the API key that is sent (aiwm key list)",
    "changes.key": "the name of the API key that is sent (aiwm key list)",
    "limit": "rows at most",
    "max-attempts": "attempts at most",
    "max-delay": "the longest wait before a retry",
    "max-length": "waiting tasks at most",
    "max-retries": "further attempts after the first",
    "max-tokens": "tokens of an answer at most",
    "max-total": "instances at most",
    "metadata": "anything else worth keeping, a JSON object",
    "min-idle": "instances that are kept ready",
    "mission-critical": "an alert when it fails",
    "mode": "drain waits for running tasks, now gives them back to their queues",
    "note": "what is wrong with it",
    "now": "do not wait for what runs",
    "offset": "rows to skip",
    "path": "a directory: absolute, or beneath the home's files/; fm:/… for the file store",
    "parent": "the version that it was made from",
    "pause-reason": "why it is paused",
    "paused": "start nothing from it yet",
    "payload": "what the worker gets, a JSON object",
    "payload-schema": "a JSON Schema that payloads must satisfy",
    "answer-schema": "a JSON Schema that answers are held to",
    "plan": "the id of the plan that the way is of; it is refused if that does not hold any more",
    "policy": "what becomes of a bundle with mistakes: fail-fast (nothing) or load-valid (what is right)",
    "pools": "pool that serves it; may be given several times, in order of preference",
    "ports": "another port to look at; may be given several times",
    "priority": "higher goes first",
    "put-back": "load what had to go again, once this is unloaded",
    "queue": "the queue",
    "rating": "from 0 (useless) to 1 (as good as it can be)",
    "read-only": "nothing is written there",
    "reason": "why, for the record",
    "recursive": "subdirectories too",
    "remove": "take it out",
    "remote": "the model's name on the server",
    "replicas": "processes at most",
    "retention": "how long ended tasks are kept",
    "retry-delay": "wait before the first retry",
    "retirement-max-age": "retire an instance at this age",
    "retirement-max-tasks": "retire an instance after so many tasks",
    "route": "a model of a hybrid, in order; may be given several times",
    "route-policy": "when a hybrid goes on to its next model",
    "seed": "what it draws with, to draw the same again",
    "size": "rows at most",
    "sources": "a data source by name; may be given several times",
    "slots": "requests at once in one process",
    "state": "idle or broken",
    "definition.status": "whether it gets new instances and tasks: only an active one does",
    "status": "how it ended: completed, exhausted, failed, full or spent",
    "stop": "text that ends an answer; may be given several times",
    "steps": "what to do, a step each; may be given several times",
    "supervisor": "a worker definition, a live instance, or rules/NAME",
    "system": "its instruction",
    "target": "the fm:/… folder that a sync fills",
    "temperature": "how freely it draws; 0 always takes the likeliest",
    "template": "a task template: its defaults and its schema",
    "tenant": "on whose behalf",
    "timeout": "wait at most, such as 30s or 5m",
    "tokens-in": "tokens read beside its own calls, to be added",
    "tokens-out": "tokens written beside its own calls, to be added",
    "top": "rows to skip",
    "top-p": "the share of likeliest tokens that it draws from",
    "type": "local_directory or file_store",
    "way": "the way of the last aiwm model plan",
    "weight": "how strongly it is applied; 1 is as trained",
    "wait": "wait at most so long for what runs, such as 10m",
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
    switch: bool = False
    """A yes or no whose "no" must be sayable: it is not what saying nothing means."""

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
        switch = kind is bool and field.default is not False
        found.append(Param(here, name, kind, required, convert, metavar, switch))
    return found


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in get_args(hint) if part not in (type(None), msgspec.UnsetType)]
        return rest[0] if len(rest) == 1 else Any
    return hint


def _kind(field: str, hint: Any, option: str) -> tuple[Any, Callable[[Any], Any] | None, str | None]:
    if field in _POINTS_IN_TIME:
        return str, lambda text: typed.future_ms(text, option, time.time_ns() // 1_000_000), "WHEN"
    if field.endswith("_ms"):
        return str, lambda text: typed.duration_ms(text, option), "TIME"
    if hint == tuple[str, ...]:
        return list[str], tuple, None
    if hint == tuple[int, ...]:
        return list[int], tuple, None
    if hint is float:
        return hint, lambda value: typed.finite(value, option), None
    if get_origin(hint) is Literal or hint in (str, int, bool):
        return hint, None, None
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint, None, None
    if get_origin(hint) is dict:
        return str, lambda text: typed.json_object(text, option), "JSON"
    return str, lambda text: typed.json_value(text, option), "JSON"


def signature_of(params: list[Param], extra: list[inspect.Parameter]) -> inspect.Signature:
    """What typer reads: required fields are arguments, the others options that default to "not given"."""
    return inspect.Signature([*map(_parameter, params), *extra])


def _parameter(param: Param) -> inspect.Parameter:
    help_text = _HELP.get(".".join(param.path)) or _HELP.get(param.name) or _HELP.get(param.name.removeprefix("retry-"))
    if param.required:
        metavar = param.metavar or param.name.upper().replace("-", "_")
        about: Any = typer.Argument(metavar=metavar, help=help_text, show_default=False)
        return _keyword(param.key, Annotated[param.hint, about], inspect.Parameter.empty)
    about = typer.Option(
        f"--{param.name}/--no-{param.name}" if param.switch else f"--{param.name}",
        metavar=param.metavar or _METAVARS.get(param.hint),
        help=help_text,
        show_default=False,
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


def as_typed(error: AiwmError, params: list[Param]) -> AiwmError:
    """An error about a field of the request, in the words of the command line: `changes.max_total` was typed as --max-total."""
    typed = {".".join(param.path): param.name.upper() if param.required else f"--{param.name}" for param in params}
    option = typed.get(error.info.field or "")
    if option is None:
        return error
    message = re.sub(rf"\b{re.escape(str(error.info.field))}\b", lambda _: option, error.info.message)
    return AiwmError.of(msgspec.structs.replace(error.info, message=message, field=option))


def converted(tree: Any, request: type[Made]) -> Made:
    """Data as a request. `bad_request` names the field that is wrong, and the nearest one for an unknown field."""
    try:
        made: Made = msgspec.convert(tree, request)
    except msgspec.ValidationError as error:
        translated = request.translated(tree) if isinstance(tree, dict) else None
        if translated is not None and translated != tree:
            return converted(translated, request)
        raise invalid(error, request) from None
    return made
