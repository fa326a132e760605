"""The command line inside a test's process, and one sample of every record that commands print."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from aiwm_tui.cli.app import run
from engine.contract.definitions import PoolDefinition, QueueDefinition
from engine.contract.records import (
    PoolDetail,
    QueueDetail,
    TaskDetail,
    TimelineStep,
)
from engine.contract.requests.session import EngineStatusResult, ViewRows
from engine.contract.requests.tasks import TaskOutcome
from engine.contract.why import Gate, Why
from tests.support.rows import instance_row, model_row, pool_row, queue_row, task_row, worker_row

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


QUEUE = queue_row()
POOL = pool_row()
INSTANCE = instance_row()
MODEL = model_row()
WORKER = worker_row()
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
    rows=[msgspec.to_builtins(task_row(state="failed"))],
    top=0,
    matched=7,
    total=9,
)
