"""kill -9 between one thing and what follows from it: dependencies, operations that wait, the rest of a retry."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from engine.client import BlockingClient
from engine.contract.errors import AiwmError
from engine.contract.ids import task_seq
from engine.contract.requests.fleet import QueuePause
from engine.contract.requests.operations import OperationDetail, OperationShow, OperationUndo
from engine.contract.requests.tasks import TaskCancel, TaskRetry, TaskShow, TaskSubmit, TaskWait
from engine.home import database_path
from tests.support.engines import Engine, engine, make_queue, wait_until

SEED = int(os.environ.get("AIWM_KILL_SEED", "20261121"))


def _chains(running: Engine, ids: list[list[str]]) -> None:
    """Submit chains of three until the engine dies under it."""
    try:
        with running.client() as client:
            while True:
                chain: list[str] = []
                ids.append(chain)
                chain.append(client.call(TaskSubmit(queue="echo")).id)
                chain.append(client.call(TaskSubmit(queue="echo", after=(chain[0],))).id)
                chain.append(client.call(TaskSubmit(queue="echo", after=tuple(chain))).id)
    except (AiwmError, OSError):
        return


def _check_order(home: Path, chains: list[list[str]]) -> None:
    """No task began before those that it waited for had ended."""
    with sqlite3.connect(database_path(home)) as database:
        rows = {
            seq: (first, last)
            for seq, first, last in database.execute(
                "SELECT task, min(CASE type WHEN 'task.started' THEN seq END),"
                " max(CASE type WHEN 'task.completed' THEN seq END) FROM events WHERE task IS NOT NULL GROUP BY task"
            )
        }
    for chain in chains:
        for before, after in pairwise(chain):
            assert rows[task_seq(before)][1] < rows[task_seq(after)][0], (before, after)


def test_dependents_run_after_what_they_wait_for_however_often_the_engine_dies(home: Path) -> None:
    draw = random.Random(SEED)
    chains: list[list[str]] = []
    for _ in range(6):
        running = Engine(home)
        try:
            thread = threading.Thread(target=_chains, args=(running, chains), daemon=True)
            thread.start()
            enough = sum(map(len, chains)) + draw.randrange(4, 24)
            wait_until(lambda enough=enough: sum(map(len, chains)) >= enough, "some are submitted")  # type: ignore[misc]
            time.sleep(draw.uniform(0.0, 0.01))
        finally:
            running.kill()
        thread.join(10)
    ids = [identifier for chain in chains for identifier in chain]
    assert len(ids) >= 24
    with engine(home) as last, last.client() as client:
        for outcome in client.call(TaskWait(ids=tuple(ids), timeout_ms=60_000)):
            assert outcome.state == "completed", (SEED, outcome)
    _check_order(home, chains)


def _operation(client: BlockingClient, identifier: str) -> OperationDetail:
    return client.call(OperationShow(id=identifier))


def test_what_is_due_is_done_by_the_next_engine_and_what_was_undone_is_not(home: Path) -> None:
    running = Engine(home)
    try:
        with running.client() as client:
            make_queue(client, "held")
            client.call(QueuePause(name="held"))
            gone, kept = (client.call(TaskSubmit(queue="held")).id for _ in range(2))
            due = client.call(TaskCancel(ids=(gone,), delay_ms=100)).operation
            undone = client.call(TaskCancel(ids=(kept,), delay_ms=100)).operation
            client.call(OperationUndo(id=undone))
    finally:
        running.kill()
    with engine(home) as last, last.client() as client:
        wait_until(lambda: _operation(client, due).row.state == "done", "the operation is done")
        assert client.call(TaskShow(id=gone)).row.state == "cancelled"
        assert client.call(TaskShow(id=kept)).row.state == "pending"
        assert _operation(client, undone).row.state == "undone"


@pytest.mark.parametrize("wait_s", [0.0, 0.03, 0.1])
def test_the_rest_of_a_retry_follows_once_wherever_the_engine_died(home: Path, wait_s: float) -> None:
    running = Engine(home)
    try:
        with running.client() as client:
            payload = {"prompt": "What is 2+3?", "max_tokens": 4, "adapters": [{"name": "none"}]}
            ids = [client.call(TaskSubmit(queue="demo", payload=payload)).id for _ in range(4)]
            client.call(TaskWait(ids=tuple(ids), timeout_ms=60_000))
            operation = client.call(TaskRetry(ids=tuple(ids), adapter="base", canary=1)).operation
            time.sleep(wait_s)
    finally:
        running.kill()
    with engine(home) as last, last.client() as client:
        wait_until(lambda: _operation(client, operation).row.state == "done", "the rest followed")
        assert set(_operation(client, operation).done) == set(ids)
        client.call(TaskWait(ids=tuple(ids), timeout_ms=60_000))
        assert {client.call(TaskShow(id=it)).row.state for it in ids} == {"completed"}
    with sqlite3.connect(database_path(home)) as database:
        revived = database.execute(
            "SELECT task, count(*) FROM events WHERE type = 'task.revived' GROUP BY task"
        ).fetchall()
    assert sorted(revived) == [(task_seq(it), 1) for it in ids]
