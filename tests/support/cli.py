"""The command line inside a test's process, and one sample of every record that commands print."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from aiwm_tui.cli.app import run
from engine.contract.definitions import PoolDefinition, QueueDefinition
from engine.contract.records import (
    InstanceRow,
    ModelRow,
    PoolDetail,
    PoolRow,
    QueueDetail,
    QueueRow,
    TaskDetail,
    TaskRow,
    TimelineStep,
    WorkerRow,
)
from engine.contract.requests.session import EngineStatusResult, ViewRows
from engine.contract.requests.tasks import TaskOutcome
from engine.contract.why import Gate, Why

EVIL = "\x1b[2J\x1b]0;owned\x07red\nsecond\u202eline\x9b31m"
"""Text that would clear the screen, set its title, colour it and turn its order around."""


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)


Run = Callable[..., Ran]


def in_process(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs command lines here: `aiwm("task", "list")` → exit code, stdout, stderr."""

    def go(*arguments: str) -> Ran:
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return go


def task_row(number: int = 1, **changes: Any) -> TaskRow:
    fields: dict[str, Any] = {
        "id": f"t-1000{number}",
        "queue": "demo",
        "state": "completed",
        "priority": 0,
        "attempt": 1,
    }
    fields |= {"max_attempts": 3, "by": "operator", "submitted_ms": 1_700_000_000_000, "reason": "fine"}
    return TaskRow(**(fields | changes))


QUEUE = QueueRow(
    id="demo",
    state="open",
    waiting=3,
    running=1,
    scheduled=0,
    retrying=0,
    completed=10,
    failed=2,
    cancelled=0,
    head_ms=None,
    in_per_min=1.5,
    out_per_min=0.0,
    pools=("demo",),
    durability="disk",
    gate="",
)
POOL = PoolRow(
    id="demo",
    state="busy",
    definition="nano",
    queues=("demo",),
    model="aiwm-nano",
    busy=1,
    idle=0,
    starting=0,
    min_idle=1,
    max_total=4,
    waiting=3,
    held_by="",
)
INSTANCE = InstanceRow(
    id="i-01",
    state="busy",
    pool="demo",
    definition="nano",
    kind="goat",
    task="t-10001",
    since_ms=1,
    done=1,
    failed=0,
    tokens=5,
    note="",
)
MODEL = ModelRow(
    id="aiwm-nano.0",
    model="aiwm-nano",
    state="busy",
    backend="reference",
    where="cpu",
    running=1,
    waiting=0,
    slots=8,
    tokens_per_s=12.0,
    steps_per_s=3.0,
    weights_bytes=5_000_000,
    kv_bytes=1024,
    kv_used_bytes=0,
    rss_bytes=1,
    adapters=0,
    restarts=0,
    since_ms=1,
    pid=7,
    note="",
)
WORKER = WorkerRow(
    id="nano", kind="goat", model="aiwm-nano", capabilities=(), pools=("demo",), digest="d", description=""
)
WHY = Why(
    scope="task",
    about="t-10001",
    moving=False,
    summary="waits",
    gates=(Gate(name="paused", closed=True, count=3, why="by someone", fix="aiwm queue resume demo"),),
)
STATUS = EngineStatusResult(
    version="1",
    pid=1,
    home="/h",
    epoch=1,
    started_ms=1,
    dispatching=True,
    storage="ok",
    clients=1,
    running=0,
    waiting=0,
    commits=9,
    text="well",
)
OUTCOME = TaskOutcome(id="t-10001", state="completed", attempt=1, result={"text": "four"}, tokens_in=3, tokens_out=1)
DETAIL = TaskDetail(
    row=task_row(),
    payload={"prompt": "2+2"},
    result={"text": "four"},
    timeline=(TimelineStep(at_ms=1_700_000_000_000, type="task.submitted", text="by operator"),),
)
QUEUE_DETAIL = QueueDetail(row=QUEUE, definition=QueueDefinition(name="demo"))
POOL_DETAIL = PoolDetail(row=POOL, definition=PoolDefinition(name="demo", definition="nano"))
VIEW = ViewRows(
    view="v1",
    seq=0,
    location=":tasks state:failed",
    table="tasks",
    rows=[{"id": "t-10001", "state": "failed", "queue": "demo", "submitted_ms": 1}],
    top=0,
    matched=7,
    total=9,
)
