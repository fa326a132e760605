"""Every request is documented and tested: the reference is what the code says, and no request is without command, page or test."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import msgspec
import pytest

from docs import generate
from docs.commands import commands_of_requests
from engine.contract.requests import catalogue

ROOT = Path(__file__).parents[2]
OF_A_CONNECTION = {
    "engine.hello": "every connection begins with it",
    "logs.unfollow": "ends what logs.follow began on the same connection",
    "replay.play": "the recording goes on while its connection looks",
    "task.unfollow": "ends what task.follow began on the same connection",
    "view.close": "closes a window of the same connection",
    "view.move": "moves a window of the same connection",
}
"""Requests that mean nothing on a connection of their own, and so have no command."""


@cache
def _tests() -> str:
    """The text of all tests but this one and the fuzzing, which names nothing."""
    files = [
        path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__) and path.parent.name != "fuzz"
    ]
    return "\n".join(path.read_text("utf-8") for path in files)


def test_the_reference_is_what_the_code_says() -> None:
    written = {path.name: path.read_text("utf-8") for path in generate.REFERENCE.glob("*.md")}
    made = generate.pages()
    assert sorted(written) == sorted(made), "run make docs"
    assert [name for name in made if made[name] != written[name]] == [], "run make docs"


@pytest.mark.parametrize("method", sorted(catalogue().by_method))
def test_a_request_is_documented(method: str) -> None:
    request = catalogue().by_method[method]
    assert "__doc__" in vars(request)
    assert msgspec.json.schema(request)["$ref"].endswith(request.__name__)
    page = generate.pages()[f"{method.partition('.')[0]}.md"]
    assert f"## {method}\n" in page
    assert commands_of_requests().get(method) or method in OF_A_CONNECTION


def test_requests_without_a_command_are_few() -> None:
    without = set(catalogue().by_method) - set(commands_of_requests())
    assert without == set(OF_A_CONNECTION)


def test_every_request_is_named_in_a_test() -> None:
    assert [
        method for method, request in catalogue().by_method.items() if not _is_tested(method, request.__name__)
    ] == []


def _is_tested(method: str, name: str) -> bool:
    """By its class, its method, or the words of its command (`"queue", "pause"`, or `queue pause` in one text)."""
    noun, _, verb = method.partition(".")
    words = rf'\b{noun}(", ?"| ){verb}\b'
    return bool(re.search(rf"\b{name}\b|[\"':]{re.escape(method)}\b|{words}", _tests()))
