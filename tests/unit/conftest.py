"""The command line in this process, against a stand-in engine on a home of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Run, in_process
from tests.support.fake_engine import FakeEngine


@pytest.fixture
def aiwm(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    monkeypatch.setenv("AIWM_HOME", str(home))
    fake = FakeEngine(home)
    yield fake
    fake.close()
