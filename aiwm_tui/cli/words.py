"""Writes `words.json`, what a shell may complete without asking an engine: every command with its options, arguments and what they name.

It is made of the same command tree that answers, by `make help-text`, and read by `completing.py`, which loads none of that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = Path(__file__).with_name("words.json")

_NOUNS = {
    "task": "tasks",
    "batch": "batches",
    "queue": "queues",
    "pool": "pools",
    "instance": "instances",
    "perf": "records",
    "limits": "workers",
    "worker": "workers",
    "template": "templates",
    "source": "sources",
    "model": "models",
    "adapter": "adapters",
    "failure": "failures",
    "operation": "operations",
    "approval": "approvals",
    "lesson": "lessons",
    "supervisor": "reviews",
    "events": "events",
    "undo": "operations",
    "try": "models",
    "logs": "processes",
}
"""First word → the table whose rows its ids and names are of."""

_MEANS = {
    "QUEUE": "queues",
    "DEFINITION": "workers",
    "WORKER": "workers",
    "MODEL": "models",
    "PROCESS": "processes",
    "LOCATION": "location",
    "METHOD": "method",
    "REQUEST": "method",
    "KEY": "setting",
    "FILE": "file",
    "PATH": "file",
    "PATH|URL": "file",
    "DIRECTORY": "dir",
    "DIR": "dir",
}
"""What an argument or an option's value is called → what it names."""

_OPTIONS = {
    "--queue": "queues",
    "--pools": "pools",
    "--template": "templates",
    "--definition": "workers",
    "--supervisor": "workers",
    "--sources": "sources",
    "--model": "models",
    "--process": "processes",
    "--batch": "batches",
    "--adapter": "adapters",
    "--after": "tasks",
    "--task": "tasks",
}
_NEW = frozenset({"create", "add"})
"""Verbs whose name is one that is not there yet."""


def render() -> str:
    """The file, a command a line."""
    import typer

    from aiwm_tui.actions import TABLES
    from aiwm_tui.cli.app import build
    from aiwm_tui.screens.registry import NAMES
    from aiwm_tui.states import known_states
    from engine.config import load_config
    from engine.contract.requests import catalogue

    root: Any = typer.main.get_command(build())
    settings = load_config({}, Path("/nonexistent")).settings
    parts = {
        "settings": sorted(setting.key for setting in settings),
        "methods": sorted(catalogue().by_method),
        "screens": list(NAMES),
        "fields": {table: _fields(table) for table in sorted(TABLES)},
        "states": {table: known_states(table) for table in sorted(TABLES)},
    }
    commands = dict(_commands(root, ()))
    lines = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in parts.items()]
    each = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in commands.items()]
    return "{" + ",\n".join(lines) + ',\n"commands": {\n' + ",\n".join(each) + "\n}}\n"


def _fields(table: str) -> list[str]:
    """What a token of a filter may begin with: a field and how it goes on."""
    from engine.contract.fields import Kind, fields_of

    texts = (Kind.text, Kind.texts, Kind.words, Kind.chain)
    known = {name: ":" if field.kind in texts else ">" for name, field in fields_of(table).items()}
    return sorted(name + ending for name, ending in known.items())


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(words of the command, what is known of it), the tree from its root on; a group has `verbs`."""
    entry: dict[str, Any] = {"about": _first(command.help)}
    verbs: Any = getattr(command, "commands", None)
    if verbs is not None:
        entry["verbs"] = [name for name in command.list_commands(None) if not verbs[name].hidden]
    entry["options"] = dict(_options(command, path))
    entry["arguments"] = [_argument(each, path) for each in command.params if each.param_type_name == "argument"]
    yield " ".join(path), entry
    for name in entry.get("verbs", ()):
        yield from _commands(verbs[name], (*path, name))


def _options(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    for option in command.params:
        if option.param_type_name != "argument":
            for name in (*option.opts, *option.secondary_opts):
                yield name, ["" if option.is_flag else _value(option, name, path), _first(option.help)]
    yield "--help", ["", "show the help"]


def _first(help_text: str | None) -> str:
    """The first sentence: what fits beside a word."""
    line = " ".join((help_text or "").partition("\n\n")[0].split())
    return str(line).partition(". ")[0].rstrip(".")


def _value(option: Any, name: str, path: tuple[str, ...]) -> str:
    choices = getattr(option.type, "choices", None)
    if choices:
        return "|".join(str(choice) for choice in choices)
    metavar = option.metavar or "N"
    if metavar == "FILTER":
        return "filter:" + _NOUNS.get(path[0], "")
    return _OPTIONS.get(name) or _MEANS.get(metavar, "text") if metavar in ("TEXT", "NAME", *_MEANS) else "text"


def _argument(argument: Any, path: tuple[str, ...]) -> str:
    """What an argument names; `…` behind it when it may be given again and again."""
    metavar = str(argument.metavar).strip("[]")
    again = "…" if argument.nargs == -1 else ""
    if metavar == "FILTER":
        return "filter:" + _NOUNS.get(path[0], "") + again
    if metavar in ("ID", "IDS", "NAME", "NAMES"):
        named = "instances" if path[0] == "insight" else _NOUNS.get(path[0], "text")
        return ("text" if path[-1] in _NEW else named) + again
    return _MEANS.get(metavar, "text") + again


if __name__ == "__main__":
    WORDS.write_text(render(), encoding="utf-8")
