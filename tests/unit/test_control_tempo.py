"""What rows and charts say of how it went: latency and throughput, the trend of what waits, the effect of scaling, series under way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest

from engine.contract.definitions import QueueDefinition
from engine.contract.records.definitions import ScaleStep
from engine.contract.requests import definitions as changes
from engine.contract.requests.fleet import PoolList, QueueList
from engine.contract.requests.tasks import TaskSubmit
from engine.contract.requests.usage import SamplesRead
from engine.contract.states import Durability
from engine.control import rows
from engine.control.sampling import Means
from engine.control.tempo import WINDOW_S, Runs, Tempo
from engine.control.trends import PIECE_MS, PIECES, Trends
from engine.store import ops
from tests.support.manager_room import ManagerRoom
from tests.support.room import Room


@pytest.fixture
async def room(home: Path) -> AsyncIterator[Room]:
    made = Room(home)
    await made.manager.start(dispatch=True)
    yield made
    await made.close()


@pytest.fixture
async def house(home: Path) -> AsyncIterator[ManagerRoom]:
    made = ManagerRoom(home)
    await made.start()
    yield made
    await made.stop()


class Hands:
    """A clock whose hands are set."""

    def __init__(self) -> None:
        self.s = 1_000

    def wall_ms(self) -> int:
        return self.s * 1_000

    def mono_ns(self) -> int:
        return self.s * 1_000_000_000


def test_latency_is_that_of_what_completed_in_the_last_five_minutes() -> None:
    runs = Runs()
    assert runs.latency(0) is None
    for second in range(100):
        runs.add(second, second + 1)
    assert runs.latency(99) == (51.0, 96.0)
    # The first fifty are older than five minutes then.
    assert runs.latency(WINDOW_S + 49) == (76.0, 98.0)
    assert runs.latency(WINDOW_S + 100) is None


def test_queues_and_pools_have_their_own_tempo() -> None:
    clock = Hands()
    tempo = Tempo(clock)
    tempo.ended("a", "p", 400, completed=True)
    tempo.ended("b", "p", 600, completed=True)
    tempo.ended("b", "p", 9_000, completed=False)
    assert tempo.latency("a") == (400.0, 400.0)
    assert tempo.latency("b") == (600.0, 600.0)
    assert tempo.pool_latency("p") == (600.0, 600.0)
    assert tempo.latency("nobody") is None
    assert tempo.out("nobody") == 0
    assert tempo.out("p") == 3
    clock.s += 61
    assert tempo.out("p") == 0
    assert tempo.latency("a") == (400.0, 400.0)


def test_a_trend_is_read_once_and_fed_by_what_is_sampled() -> None:
    now = 100 * PIECE_MS + 5
    asked: list[tuple[str, int]] = []

    def stored(queue: str, since_ms: int) -> list[tuple[int, float]]:
        asked.append((queue, since_ms))
        return [(now - 3 * PIECE_MS, 7.0), (now - 3 * PIECE_MS + 10, 4.0)]

    trends = Trends(stored)
    trends.note("q", now, 3)
    assert asked == []
    found = trends.of("q", now, 2)
    assert len(found) == PIECES
    # What was most in a piece stands for it; until the next point nothing changed.
    assert found[-5:] == (0, 7, 7, 7, 2)
    trends.note("q", now, 9)
    assert trends.of("q", now, 1)[-1] == 9
    later = now + 2 * PIECE_MS
    assert trends.of("q", later, 1)[-4:] == (7, 9, 9, 1)
    trends.note("q", later + PIECES * PIECE_MS, 1)
    assert len(trends._most["q"]) == 1
    assert len(asked) == 1
    trends.keep(set())
    trends.of("q", now, 0)
    assert len(asked) == 2


def test_where_nothing_is_known_nothing_moved() -> None:
    assert Trends(lambda *_: []).of("q", 5_000, 20) == (20,) * PIECES


def test_the_step_under_way_has_a_point_too() -> None:
    means = Means(10_000)
    assert means.now("a") is None
    means.add(1_000, {"a": 1.0})
    means.add(2_000, {"a": 2.0})
    assert means.now("a") == (0, 1.5)


async def test_a_queue_says_how_long_its_tasks_take_and_how_many_waited(room: Room) -> None:
    for n in range(3):
        await room.outcome(await room.submit(n=n))
    row = next(row for row in await room.call(QueueList()) if row.id == "q")
    assert row.p50_ms is not None
    assert row.p95_ms is not None
    assert 0 <= row.p50_ms <= row.p95_ms < 60_000
    assert row.trend == (0,) * PIECES
    await room.call(TaskSubmit(queue="still"))
    still = next(row for row in await room.call(QueueList()) if row.id == "still")
    assert (still.trend[-1], still.p50_ms) == (1, None)
    assert "queue.still.head" in room.manager.desk.sampling.values()
    assert "queue.q.head" not in room.manager.desk.sampling.values()


async def test_series_come_with_the_step_under_way(room: Room) -> None:
    sampling = room.manager.desk.sampling
    await room.outcome(await room.submit())
    sampling._tick()
    await room.outcome(await room.submit())
    (series,) = await room.call(SamplesRead(names=("queue.q.waiting",), step_ms=300_000))
    assert series.points == [sampling.under_way("queue.q.waiting", 300_000)]
    assert await room.call(SamplesRead(names=("queue.nobody.waiting",))) == []
    now = room.manager._clock.wall_ms()
    earlier = [("queue.q.waiting", 10_000, now - age, float(age)) for age in (90_000, 80_000, 20_000)]
    await room.store.journal.write((ops.PutSamples(tuple(earlier)),), Durability.os)
    (whole,) = await room.call(SamplesRead(names=("queue.q.waiting",), since_ms=now - 30_000, before=True))
    assert whole.points[:2] == [(now - 80_000, 80_000.0), (now - 20_000, 20_000.0)]
    sampling.close()
    await room.outcome(await room.submit())
    # What an earlier engine wrote of the same step is not there twice.
    sampling._means[1].add(series.points[0][0], {"queue.q.waiting": 3.0})
    (again,) = await room.call(SamplesRead(names=("queue.q.waiting",), step_ms=300_000))
    assert again.points == [(series.points[0][0], 3.0)]


def _step(number: int, at_ms: int, change: int = 1) -> ScaleStep:
    return ScaleStep(
        id=f"echo/{number}",
        at_ms=at_ms,
        pool="echo",
        change=change,
        instance="i-1",
        reason="a task waits",
        total=number,
        idle=0,
        busy=number,
        waiting=4,
        out_before=12.0,
    )


async def test_a_step_has_the_effect_that_the_minute_after_it_shows(house: ManagerRoom) -> None:
    scaling, clock = house.manager.scaling, house.manager._clock
    now = clock.wall_ms() // 1_000 * 1_000
    points = [
        ("pool.echo.out", 1_000, now - 240_000, 18.0),
        ("pool.echo.out", 10_000, now - 7_200_000, 13.0),
        ("pool.echo.out", 300_000, now - 172_800_000, 5.0),
    ]
    await house.store.journal.write((ops.PutSamples(tuple(points)),), Durability.os)
    times = [now - 10_000, now - 300_000, now - 310_000, now - 7_260_000, now - 172_760_000, now - 400_000_000]
    steps = scaling.effects([_step(len(times) - place, at_ms) for place, at_ms in enumerate(times)])
    # Not over yet; from every second; another one followed within the minute; from 10 s; from 5 min; nothing was sampled.
    assert [step.out_after for step in steps] == [None, 18.0, None, 13.0, 5.0, None]


async def test_a_pool_counts_the_steps_of_the_last_hour_over_a_restart(
    house: ManagerRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, two = house, get_type_hints(changes.PoolUpdate)["changes"](min_idle=2)
    await room.call(changes.PoolUpdate(name="echo", changes=two))
    await room.events("pool.scaled")
    row = next(row for row in await room.call(PoolList()) if row.id == "echo")
    assert (row.up_1h, row.down_1h, row.head_ms, row.p50_ms) == (2, 0, None, None)
    (first, *_) = await room.call(changes.PoolHistory(name="echo"))
    assert (first.out_before, first.out_after) == (0.0, None)
    await room.restart()
    up, _ = room.manager.scaling.lately("echo")
    assert up >= 2
    clock = room.manager._clock
    hour_later = clock.wall_ms() + 3_601_000
    monkeypatch.setattr(room.manager.scaling, "_clock", type("Later", (), {"wall_ms": lambda _: hour_later})())
    assert room.manager.scaling.lately("echo") == (0, 0)


def test_an_old_step_without_its_throughput_can_be_read() -> None:
    old = msgspec.to_builtins(_step(1, 5))
    del old["out_before"], old["out_after"]
    assert msgspec.convert(old, ScaleStep).out_before is None


def test_a_queue_between_two_tasks_is_not_stuck() -> None:
    queue = QueueDefinition(name="q", pools=("p",))
    assert rows._queue_state(queue, 3, 0, 5.0, "pool max") == "open"
    assert rows._queue_state(queue, 3, 0, 0.0, "pool max") == "stuck"
    assert rows._queue_state(queue, 3, 1, 0.0, "pool max") == "open"
    assert rows._queue_state(queue, 3, 0, 0.0, "turn") == "open"
