"""The wall clock jumps a day ahead and back under a working engine: no task is lost, due ones run, waiting ones wait."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from functools import partial
from pathlib import Path

import msgspec
import pytest

from engine.client import BlockingClient
from engine.contract.definitions import RateLimits, WorkerDefinition
from engine.contract.requests.bundles import BundleLoad
from engine.contract.requests.session import EngineStatus
from engine.contract.requests.tasks import TaskExplain, TaskRun, TaskShow, TaskSubmit, TaskWait
from engine.home import database_path
from tests.support.engines import FAULTY, engine, make_queue, wait_until

HOUR_MS = 3_600_000
AHEAD, BACK = signal.SIGRTMIN, signal.SIGRTMIN + 1


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _submit(client: BlockingClient, count: int = 6) -> tuple[str, ...]:
    long = {"prompt": "Repeat 'ba de fi go hu'.", "temperature": 1.5, "max_tokens": 150}
    return tuple(client.call(TaskSubmit(queue="demo", payload=long)).id for _ in range(count))


def _ended(client: BlockingClient, ids: tuple[str, ...], timeout_ms: int = 60_000) -> set[str]:
    return {outcome.state for outcome in client.call(TaskWait(ids=ids, timeout_ms=timeout_ms))}


@pytest.mark.parametrize(
    "jumps",
    [
        pytest.param((AHEAD,), id="ahead", marks=pytest.mark.slow),
        pytest.param((BACK,), id="back", marks=pytest.mark.slow),
        pytest.param((AHEAD, BACK, BACK, AHEAD), id="both"),
    ],
)
def test_a_jump_under_load_loses_nothing(home: Path, jumps: tuple[int, ...]) -> None:
    with engine(home, program=FAULTY) as running, running.client() as client:
        client.call(TaskRun(queue="demo", payload={"prompt": "What is 1+1?"}, timeout_ms=30_000))
        ids = _submit(client)
        wait_until(lambda: client.call(EngineStatus()).running > 0, "a task to run")
        for jump in jumps:
            running.process.send_signal(jump)
            ids += _submit(client)
            assert client.call(TaskRun(queue="echo", timeout_ms=20_000)).state == "completed"
        assert _ended(client, ids) == {"completed"}
        assert client.call(EngineStatus()).storage == "working"
        assert running.stop() == 0
    with engine(home) as running, running.client() as client:  # whatever times are on record now
        assert _ended(client, ids) == {"completed"}
        assert client.call(TaskRun(queue="echo", timeout_ms=20_000)).state == "completed"
    with sqlite3.connect(database_path(home)) as database:
        query = "SELECT count(*) - count(DISTINCT about) FROM events WHERE type = 'task.completed'"
        assert database.execute(query).fetchone() == (0,)


def test_a_day_ahead_makes_due_what_was_due_by_then(home: Path) -> None:
    with engine(home, program=FAULTY) as running, running.client() as client:
        soon = client.call(TaskSubmit(queue="echo", due_ms=_now_ms() + HOUR_MS)).id
        later = client.call(TaskSubmit(queue="echo", due_ms=_now_ms() + 48 * HOUR_MS)).id
        late = client.call(
            TaskSubmit(queue="echo", due_ms=_now_ms() + 30 * HOUR_MS, deadline_ms=_now_ms() + HOUR_MS)
        ).id
        running.process.send_signal(AHEAD)
        assert _ended(client, (soon,)) == {"completed"}
        (missed,) = client.call(TaskWait(ids=(late,), timeout_ms=60_000))
        assert missed.error is not None
        assert (missed.state, missed.error.code) == ("failed", "deadline_passed")
        assert client.call(TaskShow(id=later)).row.state == "scheduled"


def test_a_day_back_lets_waiting_tasks_wait_and_new_ones_run(home: Path) -> None:
    with engine(home, program=FAULTY) as running, running.client() as client:
        soon = client.call(TaskSubmit(queue="echo", due_ms=_now_ms() + 800)).id
        running.process.send_signal(BACK)
        assert client.call(TaskRun(queue="echo", timeout_ms=20_000)).state == "completed"
        assert client.call(TaskWait(ids=(soon,), timeout_ms=1_500))[0].state == "scheduled"
        running.process.send_signal(AHEAD)
        assert _ended(client, (soon,)) == {"completed"}


@pytest.mark.slow
def test_rate_windows_stay_sane(home: Path) -> None:
    """Minutes slide whatever the wall clock does; a jump into a new day opens it, a jump back gives nothing twice."""
    with engine(home, program=FAULTY) as running, running.client() as client:
        limits = {"often": RateLimits(requests_per_minute=2), "daily": RateLimits(tokens_per_day=70)}
        workers = [WorkerDefinition(name=name, model="aiwm-nano", limits=limit) for name, limit in limits.items()]
        bundle = json.dumps({"workers": msgspec.to_builtins(workers)})
        assert client.call(BundleLoad(bundle=bundle, keep_others=True)).loaded
        for name in limits:
            make_queue(client, name, definition=name, instances=2)

        def ask(queue: str) -> str:
            payload = {"prompt": "What is 2+2?", "max_tokens": 30}
            return client.call(TaskSubmit(queue=queue, payload=payload)).id

        def opens_in_ms(task: str, ahead_ms: int) -> int:
            """How long the rate gate of a waiting task stays closed, by the engine's clock."""
            (gate,) = [gate for gate in client.call(TaskExplain(id=task)).gates if gate.closed]
            assert gate.name == "rate"
            assert gate.opens_ms is not None
            return gate.opens_ms - _now_ms() - ahead_ms

        def follows(task: str, ahead_ms: int) -> bool:
            return 0 < opens_in_ms(task, ahead_ms) <= 61_000

        assert _ended(client, (ask("often"), ask("often"))) == {"completed"}
        third = ask("often")
        wait_until(lambda: client.call(TaskExplain(id=third)).gates != (), "the third to be held")
        day_ms, ahead = 24 * HOUR_MS, 0
        for jump, by in ((AHEAD, day_ms), (BACK, -day_ms), (BACK, -day_ms), (AHEAD, day_ms)):
            running.process.send_signal(jump)
            ahead += by
            wait_until(partial(follows, third, ahead), "the gate to follow the clock")

        used = 0
        while _ended(client, (last := ask("daily"),), timeout_ms=2_000) == {"completed"}:
            used += 1
        assert used >= 1
        running.process.send_signal(AHEAD)
        # Who waits for a day looks at the clock at least once a minute.
        assert _ended(client, (last,), timeout_ms=120_000) == {"completed"}, "it is a new day"
        running.process.send_signal(BACK)
        assert _ended(client, (ask("daily"),), timeout_ms=1_500) != {"completed"}, "the old day is spent still"
