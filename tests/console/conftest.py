"""A console on the stand-in engine, at a frozen time, without colours of the environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.support.console_answers  # noqa: F401 (registers them)
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.console_machine import populate


@pytest.fixture(autouse=True)
def _fixed_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("NO_COLOR", "FORCE_COLOR", "AIWM_ASCII"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("TMUX", raising=False)
    # Every test has an operator of its own: saved views and chosen columns lie beside this file.
    monkeypatch.setenv("AIWM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def engine() -> ConsoleEngine:
    return populate(ConsoleEngine())


@pytest.fixture
def console(engine: ConsoleEngine) -> Callable[..., Any]:
    """Makes a console on the stand-in engine."""

    def make(**options: Any) -> Any:
        from aiwm_tui.app import ConsoleApp

        return ConsoleApp(engine.connect, clock=engine.now, **options)

    return make


__all__ = ["NOW"]
