"""A monkey presses keys by chance, on every screen and dialog, on an engine with work: nothing breaks, hangs or is destroyed unasked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiwm_tui import exporting
from aiwm_tui.exporting import file_named
from aiwm_tui.screens.registry import NAMES
from tests.support.house import caller_environment
from tests.support.monkey.house import monkey_house
from tests.support.monkey.running import Troop, press_all

SEEDS = [int(seed) for seed in os.environ.get("MONKEY_SEEDS", "1").split(",")]
COUNT = int(os.environ.get("MONKEY_KEYS", "2000"))
LONG_SEEDS = (101, 102, 103)
LONG_COUNT = int(os.environ.get("MONKEY_KEYS", "20000"))


def _say(troop: Troop) -> None:
    """How it went, for who watches."""
    if os.environ.get("MONKEY_SAY"):
        turns = sorted(troop.turns)
        print(
            f"seed {troop.seed}: {troop.consoles} consoles, visited {dict(troop.visited)}, dialogs {dict(troop.dialogs)}"
        )
        print(f"turns of the loop for a key: median {turns[len(turns) // 2]}, at most {turns[-1]}")
        print("destroyed, each after its dialog:", [sent.dialog for sent in troop.witness.sent])


@pytest.fixture(autouse=True)
def _files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the monkey exports lies in its own folder, whatever path it types."""
    monkeypatch.setattr(exporting, "file_named", lambda name, kind: tmp_path / file_named(name, kind).name)


@pytest.mark.xdist_group("monkey")
@pytest.mark.parametrize("seed", SEEDS)
async def test_two_thousand_keys(tmp_path: Path, seed: int) -> None:
    with monkey_house(tmp_path, caller_environment(tmp_path)) as house:
        troop = await press_all(house, seed, COUNT)
    _say(troop)
    # Leaving and dialogs keep the monkey from a few; the slow test sees to it that it comes everywhere.
    assert len([name for name in NAMES if troop.visited[name]]) >= len(NAMES) * 2 // 3
    assert sum(troop.dialogs.values()) > COUNT // 20


@pytest.mark.slow
def test_three_times_twenty_thousand_keys(tmp_path: Path) -> None:
    """Every screen and every dialog is come to, and much is destroyed, each time after its dialog."""

    def press(seed: int) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / str(seed)
        folder.mkdir()
        command = [sys.executable, "-m", "tests.support.monkey.long", str(seed), str(LONG_COUNT), str(folder)]
        return subprocess.run(command, capture_output=True, text=True)

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(press, LONG_SEEDS))
    assert all(each.returncode == 0 for each in ended), "\n".join(each.stderr[-4000:] for each in ended)
    said = [json.loads(each.stdout.splitlines()[-1]) for each in ended]
    visited = {name for each in said for name in each["visited"]}
    dialogs = {name for each in said for name in each["dialogs"]}
    assert set(NAMES) - visited == set()
    assert {
        "FormDialog",
        "SubmitDialog",
        "ColumnChooser",
        "ThemePicker",
        "QuitDialog",
        "Palette",
        "HelpScreen",
    } <= dialogs
    assert sum(each["destroyed"] for each in said) > 20
