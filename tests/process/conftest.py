"""Fixtures of the tests with real engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cli import Run, in_process
from tests.support.house import House, caller_environment, open_house


@pytest.fixture(scope="module")
def caller_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return caller_environment(tmp_path_factory.mktemp("kind"))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, caller_kind: dict[str, str]) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("tools"), caller_kind) as house:
        yield house


@pytest.fixture
def in_house(house: House, capsys: pytest.CaptureFixture[str]) -> Run:
    """`aiwm … --home` of the house."""
    run = in_process(capsys)
    return lambda *arguments: run(*arguments, "--home", str(house.home))
