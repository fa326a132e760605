"""The life of a model process, event by event; and the bookkeeping around it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from engine.clock import SystemClock
from engine.inference.driver import Driver
from engine.inference.meter import WINDOW, Meter
from engine.inference.process_log import MAX_BYTES, open_log, tail
from engine.inference.supervision import EventName, Life, Policy, ProcessState, advance
from tests.support.waiting import until

POLICY = Policy(first_rest=0.5, longest_rest=3.0, max_crashes=5)


def live(*events: EventName, life: Life | None = None) -> tuple[Life, list[str]]:
    life = life or Life()
    actions: list[str] = []
    for event in events:
        step = advance(life, event, POLICY)
        life, actions = step.life, [*actions, *step.actions]
    return life, actions


def test_an_ordinary_life() -> None:
    life, actions = live("wanted", "loaded", "busy", "served", "idle")
    assert (life.state, actions) == (ProcessState.ready, ["spawn"])
    life, actions = live("drain", "exited", life=life)
    assert (life.state, life.alive, actions) == (ProcessState.stopped, False, ["kill"])


def test_a_drain_waits_for_the_last_request() -> None:
    life, actions = live("wanted", "loaded", "busy", "drain")
    assert (life.state, actions) == (ProcessState.draining, ["spawn"])
    life, actions = live("idle", life=life)
    assert actions == ["kill"]
    assert live("exited", life=life)[0].state is ProcessState.stopped


def test_crashes_rest_longer_and_longer_and_then_it_is_given_up() -> None:
    life, _ = live("wanted", "loaded")
    rests = []
    for _ in range(4):
        life, actions = live("exited", life=life)
        assert actions == ["rest"]
        rests.append(life.rest)
        life, actions = live("rested", "loaded", life=life)
        assert actions == ["spawn"]
    assert rests == [0.5, 1.0, 2.0, 3.0]
    life, actions = live("exited", life=life)
    assert (life.state, actions, life.restarts) == (ProcessState.failed, [], 4)
    assert live("wanted", life=life)[0].state is ProcessState.starting  # a new demand tries again


def test_a_request_served_forgives_the_crashes_before() -> None:
    life, _ = live("wanted", "loaded", "exited", "rested", "loaded", "exited", "rested", "loaded")
    assert life.crashes == 2
    life, _ = live("busy", "idle", life=life)
    assert life.crashes == 2  # requests that failed prove nothing
    assert live("busy", "served", "idle", "exited", life=life)[0].rest == 0.5


def test_a_refused_load_is_not_tried_again_by_itself() -> None:
    life, actions = live("wanted", "refused")
    assert (life.state, actions) == (ProcessState.failed, ["spawn", "kill"])
    life, actions = live("wanted", "exited", life=life)
    assert (life.state, life.alive, actions) == (ProcessState.failed, False, [])


def test_a_hang_is_a_crash() -> None:
    life, actions = live("wanted", "loaded", "busy", "hung", "exited")
    assert (life.state, actions) == (ProcessState.backoff, ["spawn", "kill", "rest"])


def test_stopping_in_any_state_ends_stopped() -> None:
    paths: list[list[EventName]] = [
        [],
        ["wanted"],
        ["wanted", "loaded"],
        ["wanted", "loaded", "busy"],
        ["wanted", "exited"],
    ]
    for path in paths:
        life, _ = live(*path)
        life, _ = live("stop", "exited", life=life)
        assert (life.state, life.alive) == (ProcessState.stopped, False), path


@given(st.lists(st.sampled_from(get_args(EventName)), max_size=60))
def test_whatever_happens_there_is_at_most_one_process(events: list[EventName]) -> None:
    """Spawned processes and exits alternate: nothing is spawned while one is alive, an exit of none changes nothing."""
    life, alive = Life(), False
    for event in events:
        step = advance(life, event, POLICY)
        if event == "exited":
            alive = False
        for action in step.actions:
            if action == "spawn":
                assert not alive
                alive = True
            if action == "kill":
                assert life.alive
        life = step.life
        assert life.alive == alive
        assert life.rest <= POLICY.longest_rest
        if life.state in (ProcessState.ready, ProcessState.busy, ProcessState.draining, ProcessState.starting):
            assert alive
        if life.state in (ProcessState.backoff, ProcessState.stopped):
            assert not alive


def test_rates_are_exact_over_the_window() -> None:
    meter = Meter()
    assert meter.per_second(0.0) == 0.0
    for second in range(20):
        meter.count(float(second), 5)
    assert meter.per_second(19.0) == 5 * 11 / WINDOW  # seconds 9 … 19
    assert meter.per_second(28.5) == 5 / WINDOW
    assert meter.per_second(100.0) == 0.0


# -- logs ------------------------------------------------------------------------------------------------------------------


def test_logs_are_bounded_and_their_tail_is_clean(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "p.log"
    assert tail(path) == ()
    with open_log(path) as log:
        log.write(b"x" * (MAX_BYTES + 1) + b"\n")
    with open_log(path) as log:
        log.write(b"".join(b"line %d \x1b[31m\xff\n" % number for number in range(50)))
    assert path.stat().st_size < 2000
    lines = tail(path)
    assert len(lines) == 20
    assert lines[-1].startswith("line 49")
    assert "\x1b" not in "".join(lines)


async def test_a_rest_that_was_broken_off_ends_no_later_one() -> None:
    policy, lives = Policy(first_rest=0.05, longest_rest=60, max_crashes=9), 0

    async def live() -> None:
        nonlocal lives
        lives += 1

    driver = Driver(lambda: policy, SystemClock(), live=live, kill=lambda _: None, changed=lambda: None)
    driver.feed("wanted")
    driver.feed("exited")  # rests for 0.05 s
    driver.feed("stop")
    policy = Policy(first_rest=60, longest_rest=60, max_crashes=9)
    driver.feed("wanted")
    driver.feed("exited")  # rests for a minute
    await asyncio.sleep(0.15)  # longer than the first rest
    assert (driver.state, lives) == (ProcessState.backoff, 2)
    driver.feed("served")  # what it began before comes to its end
    policy = Policy(first_rest=0.01, longest_rest=60, max_crashes=9)
    driver.feed("stop")
    driver.feed("wanted")
    driver.feed("exited")
    driver.feed("served")
    await until(lambda: driver.state is ProcessState.starting)
    driver.feed("stop")
    driver.feed("exited")
    await driver.stopped()
