"""Fixtures that any test may use: a home of its own, and a guard against the user's own settings."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.signals import restore_for_children

# The suite tries the same examples every time, so that it fails for what was changed; `make fuzz` looks for new ones.
settings.register_profile("suite", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("suite")

restore_for_children()


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in list(os.environ):
        if name.startswith("AIWM_") and not name.startswith("AIWM_SIM"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AIWM_CONFIG", str(tmp_path_factory.getbasetemp() / "no-config.toml"))


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home. Short, because Unix socket paths are."""
    with tempfile.TemporaryDirectory(prefix="aiwm-") as folder:
        yield Path(folder) / "home"
