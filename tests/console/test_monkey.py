"""A monkey presses keys by chance, on every screen and dialog, on an engine with work: nothing breaks, hangs or is destroyed unasked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiwm_tui.screens.registry import NAMES
from tests.support.house import caller_environment
from tests.support.monkey.house import MonkeyHouse, monkey_house
from tests.support.monkey.keys import strokes
from tests.support.monkey.running import Troop
from tests.support.monkey.witness import destroyed, last_event

SEEDS = [int(seed) for seed in os.environ.get("MONKEY_SEEDS", "1").split(",")]
COUNT = int(os.environ.get("MONKEY_KEYS", "2000"))


async def _press(house: MonkeyHouse, seed: int, count: int) -> Troop:
    with house.engine.client() as client:
        before = last_event(client)
    troop = Troop(house, seed, strokes(seed, count))
    await troop.run()
    house.up()
    with house.engine.client() as client:
        done = destroyed(client, before)
    sent = dict.fromkeys(done, 0)
    for each in troop.witness.sent:
        method = type(each.request).method
        sent[method] = sent.get(method, 0) + 1
    assert all(count <= sent.get(method, 0) for method, count in done.items()), f"seed {seed}: {done} done, {sent} sent"
    return troop


@pytest.mark.parametrize("seed", SEEDS)
async def test_two_thousand_keys(tmp_path: Path, seed: int) -> None:
    environment = caller_environment(tmp_path)
    with monkey_house(tmp_path, environment) as house:
        troop = await _press(house, seed, COUNT)
    if os.environ.get("MONKEY_SAY"):
        turns = sorted(troop.turns)
        print(troop.visited, troop.dialogs, troop.consoles, dict(troop.witness.calls))
        print("turns p50 p99 max", turns[len(turns) // 2], turns[len(turns) * 99 // 100], turns[-5:])
        print([(type(s.request).__name__, s.dialog) for s in troop.witness.sent])
    assert {name for name in NAMES if not troop.visited[name]} == set()
