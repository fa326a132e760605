"""Every command shows an engine's answer whose texts all try to take over the terminal."""

from __future__ import annotations

import types
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from docs.commands import commands_of_requests
from engine.contract.requests import catalogue
from engine.contract.requests.base import result_type
from tests.support.cli import EVIL, Run
from tests.support.fake_engine import FakeEngine

ARGUMENTS = {
    "approval approve": "ap-1",
    "approval reject": "ap-1",
    "approval show": "ap-1",
    "batch show": "b",
    "failure show": "F-1",
    "insight list": "t-10001",
    "instance set": "i-01",
    "instance show": "i-01",
    "instance spawn": "w",
    "instance stop": "i-01",
    "lesson show": "L-1",
    "limits show": "w",
    "operation show": "op-1",
    "pool explain": "p",
    "pool history": "p",
    "pool show": "p",
    "queue explain": "q",
    "queue pause": "q",
    "queue show": "q",
    "source files": "s",
    "source show": "s",
    "source sync": "s",
    "supervisor feedback": "t-10001 --rating 1",
    "supervisor review": "t-10001",
    "task explain": "t-10001",
    "task show": "t-10001",
    "template show": "t",
    "usage": "--by queue",
    "worker show": "w",
}
"""What a command needs to be asked at all."""
WITHOUT = (
    *("approval list", "batch list", "engine doctor", "engine resume", "failure list"),
    *("instance list", "key list", "lesson list", "limits list", "model list", "operation list", "perf list", "why"),
    *("perf summary", "pool list", "queue list", "report", "source list", "supervisor list", "supervisor pending"),
    *("supervisor show", "task list", "template list", "tool list", "worker list", "worker reload", "bundle policy"),
    "config show",
)
LINES = sorted([*(f"{name} {given}" for name, given in ARGUMENTS.items()), *(set(WITHOUT) - {"engine doctor"})])


def hostile(kind: Any, depth: int = 0) -> Any:
    """A value of a type in which every text is hostile."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        kinds = [it for it in inner if it is not type(None)]
        return None if depth > 6 else hostile(kinds[0], depth)
    if origin is Literal:
        return inner[0]
    if origin in (list, tuple):
        return origin([hostile(inner[0], depth + 1)]) if inner and depth < 7 else origin()
    if origin is dict:
        return {EVIL: hostile(inner[1], depth + 1)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        return kind(**{name: hostile(hints[name], depth + 1) for name in kind.__struct_fields__})
    return {bool: True, int: 1, float: 0.5, type(None): None}.get(kind, EVIL)


@pytest.mark.parametrize("line", LINES)
def test_no_command_lets_a_text_of_the_engine_move_the_cursor(aiwm: Run, engine: FakeEngine, line: str) -> None:
    for method, kind in catalogue().by_method.items():
        if not method.startswith("engine.hello"):
            engine.answers[method] = hostile(result_type(kind))
    ran = aiwm(*line.split())
    assert ran.out + ran.err, "nothing is shown"
    assert len(engine.asked) > 1, ran.err
    for character in "\x1b\x07\x9b\u202e":
        assert character not in ran.out + ran.err, line


def test_the_lines_are_commands() -> None:
    known = {path.removeprefix("aiwm ") for paths in commands_of_requests().values() for path in paths}
    assert {line for line in (*ARGUMENTS, *WITHOUT) if line not in known} <= {"engine doctor"}
