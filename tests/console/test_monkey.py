"""A monkey presses keys by chance, on every screen and dialog, on an engine with work: nothing breaks, hangs or is destroyed unasked."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from aiwm_tui import exporting
from aiwm_tui.exporting import file_named
from aiwm_tui.screens.dialogs.base import Dialog
from aiwm_tui.screens.dialogs.form import FormDialog
from aiwm_tui.screens.registry import NAMES
from tests.support.house import caller_environment
from tests.support.monkey.house import MonkeyHouse, monkey_house
from tests.support.monkey.keys import strokes
from tests.support.monkey.running import Troop
from tests.support.monkey.witness import destroyed, last_event

SEEDS = [int(seed) for seed in os.environ.get("MONKEY_SEEDS", "1").split(",")]
COUNT = int(os.environ.get("MONKEY_KEYS", "2000"))
LONG_SEEDS = (101, 102, 103)
LONG_COUNT = int(os.environ.get("MONKEY_KEYS", "20000"))


async def _press(house: MonkeyHouse, seed: int, count: int) -> Troop:
    with house.engine.client() as client:
        before = last_event(client)
    troop = Troop(house, seed, strokes(seed, count))
    await troop.run()
    house.up()
    with house.engine.client() as client:
        done = destroyed(client, before)
    sent = Counter(type(each.request).method for each in troop.witness.sent)
    assert all(count <= sent[method] for method, count in done.items()), f"seed {seed}: {done} done, {sent} sent"
    return troop


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
        troop = await _press(house, seed, COUNT)
    _say(troop)
    # Leaving and dialogs keep the monkey from a few; the slow test sees to it that it comes everywhere.
    assert len([name for name in NAMES if troop.visited[name]]) >= len(NAMES) * 2 // 3
    assert sum(troop.dialogs.values()) > 100


@pytest.mark.slow
async def test_three_times_twenty_thousand_keys(tmp_path: Path) -> None:
    """Every screen and every dialog is come to, and much is destroyed, each time after its dialog."""
    visited: Counter[str] = Counter()
    dialogs: Counter[str] = Counter()
    destroyed_by_dialogs = 0
    for seed in LONG_SEEDS:
        folder = tmp_path / str(seed)
        folder.mkdir()
        with monkey_house(folder, caller_environment(folder)) as house:
            troop = await _press(house, seed, LONG_COUNT)
        _say(troop)
        visited += troop.visited
        dialogs += troop.dialogs
        destroyed_by_dialogs += len(troop.witness.sent)
    assert {name for name in NAMES if not visited[name]} == set()
    assert {kind.__name__ for kind in (*Dialog.__subclasses__(), *FormDialog.__subclasses__())} <= set(dialogs)
    assert destroyed_by_dialogs > 20
