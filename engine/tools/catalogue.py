"""Every tool that there is: the file tools, and the contract's requests. Which of them anyone may use is the gate's matter."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache

import msgspec

from engine.contract.requests import catalogue as requests_catalogue
from engine.contract.states import Effect
from engine.tools.gate import Tool, normalised


class ReadFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Read a text file: `datasource://NAME/PATH`, or a path, which is looked for among the task's own files and then in its sources."""

    path: str


class ListFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """List the files that can be read: all, those of `datasource://NAME`, or those beneath a folder."""

    path: str = ""


class SearchFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Find the lines that contain a text, whatever its case, in the files that can be read (or those that `path` lists)."""

    query: str
    path: str = ""


class WriteFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Write a text file among the task's own files, or replace it. Data sources are never written to."""

    path: str
    content: str


FILE_TOOLS: tuple[tuple[str, type[msgspec.Struct], Effect], ...] = (
    ("read_file", ReadFile, Effect.read),
    ("list_files", ListFiles, Effect.read),
    ("search_files", SearchFiles, Effect.read),
    ("write_file", WriteFile, Effect.write),
)
ALIASES = {"list_dir": "list_files", "list_directory": "list_files", "grep": "search_files"}
# These speak to one connection: without one there is nobody to answer.
_OF_A_CONNECTION = ("engine.hello", "view.", "task.follow", "task.unfollow", "instance.follow", "instance.unfollow")


@cache
def all_tools() -> Mapping[str, Tool]:
    """Every tool by name."""
    found = {
        name: Tool(name=name, description=_first(kind), arguments=kind, effect=effect)
        for name, kind, effect in FILE_TOOLS
    }
    for method, request in requests_catalogue().by_method.items():
        name = tool_of(method)
        if name not in found and not method.startswith(_OF_A_CONNECTION):
            found[name] = Tool(
                name=name, description=_first(request), arguments=request, effect=request.effect, method=method
            )
    return found


def tool_of(method: str) -> str:
    """The tool's name of a request. Not `normalised`: that takes the prefix `tool.` off, and `tool.call` must stay what it is."""
    return method.replace(".", "_")


@cache
def names() -> Mapping[str, str]:
    """Other spellings, the seeds' among them → a tool's name."""
    found = dict(ALIASES)
    for method, request in requests_catalogue().by_method.items():
        for alias in request.aliases:
            found.setdefault(normalised(alias), tool_of(method))
    return found


def canonical(name: str) -> str:
    """A tool's one name, however it was spelled (a glob stays as it is)."""
    plain = normalised(name)
    return names().get(plain, plain)


def _first(kind: type[msgspec.Struct]) -> str:
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
