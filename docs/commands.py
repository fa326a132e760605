"""Which command sends which request: read from the command tree and from the code of its functions."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any

from engine.contract.requests import catalogue

_NEAR = "aiwm_tui.cli"


@cache
def commands_of_requests() -> dict[str, list[str]]:
    """Commands by the method of the requests that they are made from or send."""
    import typer

    from aiwm_tui.cli.app import build

    by_class = {request.__name__: method for method, request in catalogue().by_method.items()}
    by_class |= {method: method for method in catalogue().by_method}
    found: dict[str, set[str]] = defaultdict(set)
    tree = dict(_commands(typer.main.get_command(build()), "aiwm"))
    for method in catalogue().by_method:
        own_command = f"aiwm {method.replace('.', ' ')}"
        if own_command in tree:
            found[method].add(own_command)
    for path, callback in tree.items():
        for name in _names(callback):
            if name in by_class:
                found[by_class[name]].add(path)
    own: dict[str, list[str]] = {}
    for method, paths in found.items():
        # A command that bears the request's name is its command; others only use it on the way.
        wanted = f"aiwm {method.replace('.', ' ')}"
        own[method] = [wanted] if wanted in paths else sorted(paths, key=lambda path: (len(path), path))[:3]
    return own


def _commands(command: Any, path: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{path} {name}")
    if command.callback is not None and not getattr(command, "commands", None):
        yield path, command.callback


def _names(callback: Callable[..., Any]) -> set[str]:
    """The names of classes that a command was made from, or that its functions, and those they call, speak of."""
    names: set[str] = set()
    seen: set[int] = set()
    waiting: list[Any] = [inspect.unwrap(callback)]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, type):
            names.add(thing.__name__)
            if thing.__module__.startswith(_NEAR):
                waiting += vars(thing).values()
        elif isinstance(thing, dict):
            waiting += [value for value in thing.values() if isinstance(value, type)]
        elif isinstance(thing, FunctionType):
            waiting += [cell.cell_contents for cell in thing.__closure__ or ()]
            if thing.__module__.startswith(_NEAR):
                spoken = set(_spoken(thing.__code__))
                names |= spoken
                for scope in (thing.__globals__, *map(_scope, spoken)):
                    waiting += [scope[name] for name in spoken & scope.keys()]
    return names


def _scope(name: str) -> dict[str, Any]:
    """What a module of the command line defines that a function imports when it runs."""
    package, _, module = name.rpartition(".")
    return vars(import_module(name)) if package == _NEAR and module else {}


def _spoken(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _spoken(inner)
        elif isinstance(inner, str):
            yield inner
