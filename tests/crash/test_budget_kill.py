"""kill -9 of an engine whose calls are limited: however often it is killed, a minute never has more calls than its limit."""

from __future__ import annotations

import random
import sqlite3
import time
from functools import partial
from pathlib import Path

import msgspec

from engine.contract.definitions import RateLimits, WorkerDefinition
from engine.contract.requests.fleet import WorkerReload
from engine.contract.requests.limits import LimitsShow
from engine.contract.requests.tasks import TaskSubmit
from engine.home import database_path
from tests.support.engines import Engine, make_queue, wait_until

SEED = 20261121
LIMIT = 6
SPAN_MS = 50_000


def _calls(home: Path) -> int:
    """Attempts that ended: each made one call."""
    with sqlite3.connect(database_path(home)) as database:
        (count,) = database.execute("SELECT count(*) FROM records WHERE definition = 'slow'").fetchone()
    return int(count)


def _most_at_once(home: Path) -> int:
    """The most calls of any span that is surely within a minute: a task starts a little before it calls."""
    with sqlite3.connect(database_path(home)) as database:
        starts: list[int] = [
            at for (at,) in database.execute("SELECT started_ms FROM records WHERE definition = 'slow'")
        ]
    return max(sum(0 <= other - start < SPAN_MS for other in starts) for start in starts)


def _more(home: Path, before: int) -> bool:
    return _calls(home) > before


def test_no_minute_has_more_calls_than_its_limit(home: Path) -> None:
    draw = random.Random(SEED)
    for life in range(4):
        engine = Engine(home)
        try:
            with engine.client() as client:
                if life == 0:
                    limited = WorkerDefinition(
                        name="slow", model="aiwm-nano", limits=RateLimits(requests_per_minute=LIMIT)
                    )
                    nano = WorkerDefinition(name="nano", model="aiwm-nano")
                    echo = WorkerDefinition(name="echo", kind="template")
                    file = home / "ai_worker_definitions.json"
                    file.write_bytes(msgspec.json.encode([nano, echo, limited]))
                    assert client.call(WorkerReload()).errors == []
                    make_queue(client, "slow", definition="slow", instances=2)
                    for number in range(20):
                        client.call(TaskSubmit(queue="slow", payload={"prompt": f"What is {number}+1?"}))
                before = _calls(home)
                used = client.call(LimitsShow(name="slow")).requests_per_minute.used
                assert used >= before, "what was called before the kill is not counted any more"
                if before < LIMIT - 2 and life < 3:
                    wait_until(partial(_more, home, before), "a call ends")
                    time.sleep(draw.uniform(0.0, 0.02))
                else:
                    wait_until(
                        lambda: client.call(LimitsShow(name="slow")).opens_ms is not None, "the limit is reached"
                    )
        finally:
            engine.kill()
    # A call that was under way when its engine was killed counts, though nothing came of it: never more, perhaps fewer.
    assert 0 < _most_at_once(home) <= LIMIT
