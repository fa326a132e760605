"""What the console imports before its first frame: nothing that a later screen needs, nothing of the engine's rooms."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
import aiwm_tui.app, aiwm_tui.screens.overview.screen, aiwm_tui.deeds
print(json.dumps(sorted(sys.modules)))
"""
LATER = (
    "textual.widgets._text_area",
    "textual.widgets._markdown",
    "textual.widgets._data_table",
    "tree_sitter",
    "markdown_it",
    "typer",
    "numpy",
    "sqlite3",
    "aiwm_tui.screens.dialogs",
    "aiwm_tui.screens.help",
    "aiwm_tui.screens.tasks",
    "engine.client",
)
ROOMS = ("engine.contract", "engine.resources")


@pytest.fixture(scope="module")
def imported() -> list[str]:
    done = subprocess.run([sys.executable, "-P", "-c", SCRIPT], capture_output=True, text=True, check=True)
    modules: list[str] = json.loads(done.stdout)
    return modules


@pytest.mark.parametrize("name", LATER)
def test_the_first_frame_does_not_pay_for_later_screens(imported: list[str], name: str) -> None:
    assert [module for module in imported if module == name or module.startswith(name + ".")] == []


def test_the_console_knows_the_contract_only(imported: list[str]) -> None:
    strange = [m for m in imported if m.startswith("engine.") and not m.startswith(ROOMS)]
    assert strange == []
