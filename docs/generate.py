"""Writes docs/reference/: a page for each noun's requests, one of types, of the configuration, of exit and error codes.

Everything comes from the code: request classes, their docstrings, schemas and commands, config.toml, the codes. `make docs` runs it; a
test compares what is committed with what it would write."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections import defaultdict
from collections.abc import Iterable
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from aiwm_tui.cli.build import params_of
from aiwm_tui.cli.exit_codes import ExitCode, exit_code_of
from docs.commands import commands_of_requests
from engine.contract.errors import Code
from engine.contract.requests import catalogue
from engine.contract.requests.base import Request, result_type

REFERENCE = Path(__file__).parent / "reference"
CONFIG = Path(__file__).parents[1] / "config.toml"
_MADE = "<!-- made by `make docs`; change the code instead -->\n\n"
_POINTS_IN_TIME = (
    "due_ms",
    "deadline_ms",
    "since_ms",
    "at_ms",
    "_started_ms",
    "_ended_ms",
    "submitted_ms",
    "started_ms",
    "ended_ms",
)


@cache
def pages() -> dict[str, str]:
    """Every page by its file's name."""
    nouns: dict[str, list[type[Request[Any]]]] = defaultdict(list)
    for method, request in sorted(catalogue().by_method.items()):
        nouns[method.partition(".")[0]].append(request)
    commands = commands_of_requests()
    made = {f"{noun}.md": _noun_page(noun, requests, commands) for noun, requests in nouns.items()}
    made["types.md"] = _types_page(catalogue().by_method.values())
    made["configuration.md"] = _config_page(CONFIG.read_text("utf-8"))
    made["codes.md"] = _codes_page()
    made["README.md"] = _index(nouns)
    return {name: _MADE + text.rstrip("\n") + "\n" for name, text in made.items()}


def _index(nouns: dict[str, list[type[Request[Any]]]]) -> str:
    about = (
        "Every request of the engine: what it does, its fields, its result, its command. On the pipe a request is a JSON-RPC 2.0 line"
        " whose `method` is the request's name and whose `params` are its fields; `aiwm call METHOD JSON` sends any of them.\n"
    )
    links = "[Types](types.md) · [configuration](configuration.md) · [exit and error codes](codes.md)\n"
    lines = ["# Reference\n", about, links, "| noun | requests |\n|---|---|"]
    for noun, requests in sorted(nouns.items()):
        links = " · ".join(f"[{it.method.partition('.')[2]}]({noun}.md#{_anchor(it.method)})" for it in requests)
        lines.append(f"| [{noun}]({noun}.md) | {links} |")
    return "\n".join(lines)


def _noun_page(noun: str, requests: list[type[Request[Any]]], commands: dict[str, list[str]]) -> str:
    return f"# {noun}\n\n" + "\n".join(_request(request, commands.get(request.method, [])) for request in requests)


def _request(request: type[Request[Any]], commands: list[str]) -> str:
    parts = [f"## {request.method}\n", f"{inspect.getdoc(request)}\n"]
    facts = [f"effect: **{request.effect.value}**"]
    facts.append("command: " + (", ".join(f"`{command}`" for command in commands) or f"`aiwm call {request.method}`"))
    if request.aliases:
        facts.append("also: " + ", ".join(f"`{alias}`" for alias in request.aliases))
    parts.append(" · ".join(facts) + "\n")
    parts.append(_fields(request, {param.path[0]: param.name for param in params_of(request) if len(param.path) == 1}))
    parts.append(f"Result: {_type(result_type(request))}\n")
    schema = json.dumps(msgspec.json.schema(request), indent=1, ensure_ascii=False, default=str)
    parts.append(f"<details><summary>JSON schema</summary>\n\n```json\n{schema}\n```\n\n</details>\n")
    return "\n".join(parts)


def _fields(kind: type[msgspec.Struct], options: dict[str, str]) -> str:
    fields = msgspec.structs.fields(kind)
    if not fields:
        return "No fields.\n"
    hints = get_type_hints(kind)
    lines = ["| field | type | default | |", "|---|---|---|---|"]
    for field in fields:
        about = _unit(field.name)
        if field.name in options and options[field.name] != field.name.replace("_", "-"):
            about = f"{about}; `--{options[field.name]}`" if about else f"`--{options[field.name]}`"
        lines.append(f"| `{field.encode_name}` | {_type(hints[field.name])} | {_default(field)} | {about} |")
    return "\n".join(lines) + "\n"


def _unit(name: str) -> str:
    if name.endswith("_ms"):
        return "Unix time in ms" if name.endswith(_POINTS_IN_TIME) else "ms"
    if name.endswith("_bytes"):
        return "bytes"
    if name.endswith("_usd"):
        return "US dollars"
    return "seconds" if name.endswith("_s") and not name.endswith("_per_s") else ""


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if value is msgspec.UNSET:
        return "unset"
    if isinstance(value, msgspec.Struct) and value == type(value)():
        return "its defaults"
    return f"`{json.dumps(msgspec.to_builtins(value, str_keys=True), ensure_ascii=False)}`"


def _type(hint: Any) -> str:
    """A type in words, with links to the structs and enumerations it names."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is None or hint is type(None):
        return "null"
    if hint is Any or hint is msgspec.Raw:
        return "any JSON"
    if origin in (Union, types.UnionType):
        return " or ".join(_type(part) for part in inner)
    if origin in (tuple, list, set, frozenset):
        return f"list of {_type(inner[0])}" if inner else "list"
    if origin is dict or hint is dict:
        return f"object of {_type(inner[1])}" if inner else "object"
    if isinstance(hint, type) and issubclass(hint, (msgspec.Struct, Enum)):
        return f"[{hint.__name__}](types.md#{_anchor(hint.__name__)})"
    names = {str: "text", int: "integer", float: "number", bool: "boolean", bytes: "base64 text"}
    return names.get(hint, str(hint)) if isinstance(hint, type) else str(hint).replace("typing.", "")


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", title.lower().replace(" ", "-"))


# -- types ---------------------------------------------------------------------------------------------------------------


def _types_page(requests: Iterable[type[Request[Any]]]) -> str:
    found: dict[str, type] = {}
    for request in requests:
        for hint in (*get_type_hints(request).values(), result_type(request)):
            _collect(hint, found)
    parts = ["# Types\n", "What requests take and answer besides plain values.\n"]
    for name, kind in sorted(found.items()):
        parts.append(f"## {name}\n")
        own = kind.__doc__ if "__doc__" in vars(kind) else None
        if own and not own.startswith("An enumeration"):
            parts.append(inspect.cleandoc(own) + "\n")
        if issubclass(kind, Enum):
            parts.append("One of " + ", ".join(f"`{member.value}`" for member in kind) + ".\n")
        elif issubclass(kind, msgspec.Struct):
            parts.append(_fields(kind, {}))
    return "\n".join(parts)


def _collect(hint: Any, found: dict[str, type]) -> None:
    for part in get_args(hint):
        _collect(part, found)
    if not isinstance(hint, type) or get_origin(hint) is not None or not issubclass(hint, (msgspec.Struct, Enum)):
        return
    if hint.__name__ not in found:
        found[hint.__name__] = hint
        if issubclass(hint, msgspec.Struct):
            for inner in get_type_hints(hint).values():
                _collect(inner, found)


# -- configuration and codes -----------------------------------------------------------------------------------------------


def _config_page(text: str) -> str:
    """config.toml as tables: its comments are the words."""
    parts = ["# Configuration\n"]
    heading, *sections = re.split(r"(?m)^(?=\[)", text)
    parts.append(_comments(heading) + "\n")
    for section in sections:
        title, _, body = section.partition("\n")
        body, _, after = body.partition("\n\n")
        parts.append(f"## {title.strip('[] ')}\n")
        notes = [line for line in body.splitlines() if line.startswith("#")]
        if notes:
            parts.append(_comments("\n".join(notes)) + "\n")
        rows = [_setting(line) for line in body.splitlines() if line and not line.startswith("#")]
        if rows:
            parts.append("\n".join(["| key | default | |", "|---|---|---|", *rows]) + "\n")
        if after.strip():
            parts.append("```toml\n" + after.strip("\n") + "\n```\n")
    return "\n".join(parts)


def _setting(line: str) -> str:
    key, _, rest = line.partition("=")
    value, _, about = rest.partition(" #")
    return f"| `{key.strip()}` | `{value.strip()}` | {about.strip()} |"


def _comments(text: str) -> str:
    return " ".join(line.lstrip("# ").rstrip() for line in text.splitlines() if line.startswith("#"))


def _codes_page() -> str:
    parts = ["# Exit and error codes\n", "| exit code | means |", "|---|---|"]
    parts += [f"| {code.value} | {code.name} |" for code in ExitCode]
    parts.append(
        "\nAn error has a stable `code`, a `message`, the `field` that was wrong, a `fix` (a command where there is one) and whether it is"
        " `retryable`. With `--json` it is one object on stderr.\n"
    )
    for line in inspect.getsource(Code).splitlines():
        stripped = line.strip()
        if stripped.startswith("# "):
            parts += [f"\n**{stripped[2:]}**\n", "| code | exit code |", "|---|---|"]
        elif match := re.fullmatch(r'(\w+) = "\w+"', stripped):
            parts.append(f"| `{match[1]}` | {exit_code_of(match[1]).value} |")
    return "\n".join(parts)


def main() -> None:
    REFERENCE.mkdir(exist_ok=True)
    made = pages()
    for old in REFERENCE.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
