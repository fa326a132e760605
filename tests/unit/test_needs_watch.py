"""Needs that no event tells of become events when they have lasted, once, and when they are over."""

from __future__ import annotations

from typing import Any

import pytest

from engine.contract.records import NeedRow
from engine.needs import LASTS_MS, NeedsWatch
from tests.support.stored import FakeClock


class _Events:
    def __init__(self) -> None:
        self.said: list[tuple[str, str, str, str]] = []

    def emit(self, level: str, type: str, about: str, text: str, **_: Any) -> None:
        self.said.append((level, type, about, text))


def _need(identifier: str) -> NeedRow:
    return NeedRow(
        id=identifier, since_ms=0, state="broken", what=f"{identifier} stands", why="no pool", press="", location=""
    )


def _rests(watch: NeedsWatch) -> bool:
    return watch._timer is None


@pytest.fixture
def world() -> tuple[NeedsWatch, list[NeedRow], _Events, FakeClock]:
    needs: list[NeedRow] = []
    events, clock = _Events(), FakeClock()
    return NeedsWatch(lambda: needs, events, clock), needs, events, clock


async def test_what_lasts_is_written_down_once_and_when_it_is_over(
    world: tuple[NeedsWatch, list[NeedRow], _Events, FakeClock],
) -> None:
    watch, needs, events, clock = world
    needs += [_need("queue etl"), _need("model llama.0"), _need("behind inbox")]
    watch.watch()
    assert events.said == []
    assert not _rests(watch), "it is looked at again until it is written down"
    watch.close()
    clock.now_ms += LASTS_MS
    for _ in range(3):
        watch.watch()
    assert events.said == [
        ("ask", "need.stands", "etl", "queue etl stands: no pool"),
        ("ask", "need.behind", "inbox", "behind inbox stands: no pool"),
    ], "a model that crashed has an event of its own"
    assert _rests(watch), "nothing runs while nothing changes"
    del needs[0]
    watch.watch()
    assert events.said[2:] == [("info", "need.over", "etl", "no longer: queue etl stands")]
    needs.insert(0, _need("queue etl"))
    watch.watch()
    assert len(events.said) == 3
    watch.close()


async def test_what_stands_for_a_moment_is_nothing(
    world: tuple[NeedsWatch, list[NeedRow], _Events, FakeClock],
) -> None:
    watch, needs, events, clock = world
    for _ in range(5):
        needs.append(_need("queue etl"))
        watch.watch()
        needs.clear()
        clock.now_ms += LASTS_MS
        watch.watch()
    assert events.said == []
    watch.close()
