"""One moment of a small machine: the rows under the console's tests, which agree with each other."""

from __future__ import annotations

from typing import Any

from engine.contract.ids import task_id
from engine.contract.records import EventRow, InstanceRow, MachineRow, ModelRow, NeedRow, PoolRow, QueueRow, TaskRow
from tests.support.console_answers.agents import approval_row
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.console_inference import adapters, devices
from tests.support.rows import instance_row, model_row, pool_row, queue_row, task_row, worker_row


def task(number: int, **changes: Any) -> TaskRow:
    """A waiting task; numbers count from 1."""
    values: dict[str, Any] = {
        "id": task_id(number),
        "state": "pending",
        "priority": 5,
        "attempt": 0,
        "by": "ana",
        "submitted_ms": NOW - 60_000 * number,
        "reason": "pool at max 4",
    }
    return task_row(**(values | changes))


def populate(engine: ConsoleEngine) -> ConsoleEngine:
    """One moment of a small machine, so that screens agree with each other."""
    engine.put(
        "machine",
        MachineRow(
            id="anvil",
            host="anvil",
            started_ms=NOW - 3 * 86_400_000 - 4 * 3_600_000,
            running=2,
            waiting=14,
            fail_today=2,
            tokens_per_s=560.0,
            mode="live",
            cpu_percent=41.0,
        ),
    )
    engine.put("queues", *_queues())
    engine.put("pools", *_pools())
    engine.put("instances", *_instances())
    engine.put("models", *_models())
    engine.put("devices", *devices())
    engine.put("adapters", *adapters())
    engine.put(
        "workers",
        worker_row(
            "nano",
            kind="goat",
            model="aiwm-nano",
            capabilities=("json",),
            pools=("demo",),
            digest="41ac9f00d1",
            description="The shipped model: sums, extraction, JSON.",
        ),
        worker_row(
            "echo",
            kind="template",
            model="",
            capabilities=(),
            pools=("echo",),
            digest="00aa11bb22",
            description="Gives back what it is given.",
        ),
    )
    engine.put(
        "needs",
        NeedRow(
            id="n1",
            since_ms=NOW - 6_720_000,
            state="broken",
            what="summaries stands still",
            why="queue paused by ana",
            press="↵ what it waits for",
            location=":queues id:summaries",
        ),
        NeedRow(
            id="n2",
            since_ms=NOW - 2_280_000,
            state="wrong",
            what="2 tasks failed",
            why="output is not JSON",
            press="↵ see them",
            location=":tasks state:failed",
        ),
    )
    engine.put("tasks", *_tasks())
    engine.put("approvals", approval_row())
    engine.put("events", *_events())
    return engine


def _queues() -> list[QueueRow]:
    return [
        queue_row(
            "demo",
            state="open",
            waiting=12,
            running=2,
            completed=18_220,
            failed=2,
            head_ms=NOW - 2_460_000,
            in_per_min=22.1,
            out_per_min=18.0,
            pools=("demo",),
            gate="pool at max 4",
            retrying=1,
        ),
        queue_row(
            "echo",
            state="open",
            waiting=0,
            running=0,
            completed=41,
            failed=0,
            head_ms=None,
            in_per_min=0.0,
            out_per_min=0.0,
            pools=("echo",),
            gate="",
        ),
        queue_row(
            "summaries",
            state="paused",
            waiting=2,
            running=0,
            completed=903,
            failed=0,
            head_ms=NOW - 6_720_000,
            in_per_min=1.4,
            out_per_min=0.0,
            pools=("demo",),
            gate="paused by ana",
        ),
    ]


def _pools() -> list[PoolRow]:
    return [
        pool_row(
            "demo",
            state="at max",
            definition="nano",
            queues=("demo", "summaries"),
            model="aiwm-nano",
            busy=2,
            idle=0,
            starting=0,
            min_idle=1,
            max_total=4,
            waiting=12,
            held_by="max 4",
        ),
        pool_row(
            "echo",
            state="empty",
            definition="echo",
            queues=("echo",),
            model="",
            busy=0,
            idle=0,
            starting=0,
            min_idle=0,
            max_total=4,
            waiting=0,
            held_by="",
        ),
    ]


def _instances() -> list[InstanceRow]:
    return [
        instance_row(
            1,
            state="busy",
            pool="demo",
            definition="nano",
            kind="goat",
            task="t-10001",
            since_ms=NOW - 9_000,
            done=212,
            failed=1,
            tokens=1_912_004,
            note="",
        ),
        instance_row(
            2,
            state="busy",
            pool="demo",
            definition="nano",
            kind="goat",
            task="t-10002",
            since_ms=NOW - 4_000,
            done=207,
            failed=1,
            tokens=1_800_402,
            note="",
        ),
        instance_row(
            3,
            state="idle",
            pool="demo",
            definition="nano",
            kind="goat",
            task=None,
            since_ms=NOW - 182_000,
            done=66,
            failed=0,
            tokens=40_112,
            note="retires in 1m58s",
        ),
    ]


def _models() -> list[ModelRow]:
    return [
        model_row(
            state="busy",
            backend="reference",
            where="CPU",
            running=2,
            waiting=0,
            slots=16,
            tokens_per_s=362.0,
            steps_per_s=40.2,
            weights_bytes=5_242_880,
            kv_bytes=33_554_432,
            kv_used_bytes=2_097_152,
            rss_bytes=94_371_840,
            adapters=2,
            restarts=0,
            since_ms=NOW - 273_600_000,
            pid=4242,
            note="",
        )
    ]


def _tasks() -> list[TaskRow]:
    run: dict[str, Any] = {"state": "processing", "attempt": 1, "definition": "nano", "pool": "demo", "tokens_in": 1204}
    done: dict[str, Any] = {
        "attempt": 1,
        "definition": "nano",
        "pool": "demo",
        "started_ms": NOW - 600_000,
        "ended_ms": NOW - 592_000,
        "tokens_in": 880,
    }
    return [
        task(
            1,
            **run,
            instance="i-01",
            started_ms=NOW - 9_000,
            tokens_out=388,
            priority=8,
            reason='{"supplier": "Müller & Söhne',
        ),
        task(2, **run, instance="i-02", started_ms=NOW - 4_000, tokens_out=22, reason="category: invoice_question"),
        task(
            3,
            state="retrying",
            attempt=2,
            due_ms=NOW + 30_000,
            reason="output is not JSON",
            error="output_not_json",
            definition="nano",
        ),
        task(4),
        task(5),
        task(6, reason="needs vision: no pool has it", priority=9),
        task(7, state="scheduled", due_ms=NOW + 3_139_000, reason=""),
        task(
            8,
            **(done | {"state": "failed", "attempt": 3}),
            tokens_out=2048,
            error="output_not_json",
            reason="output is not JSON",
        ),
        task(
            9,
            **(done | {"state": "failed", "attempt": 3}),
            tokens_out=2048,
            error="output_not_json",
            reason="output is not JSON",
        ),
        task(10, state="cancelled", ended_ms=NOW - 500_000, reason="by ana: duplicate of t-10009"),
        task(11, **done, state="completed", tokens_out=402, reason='{"supplier": "Kern AG"}'),
        *(task(number, queue="summaries", reason="queue paused by ana") for number in (12, 13)),
    ]


def _events() -> list[EventRow]:
    rows = [
        ("info", "task.started", "dispatcher", "t-10002", "on i-02, waited 1.2s", "t-10002"),
        ("info", "task.started", "dispatcher", "t-10001", "on i-01, waited 41m", "t-10001"),
        ("warn", "task.retry", "scheduler", "t-10003", "2 of 3 at 03:08:11: output is not JSON", "t-10003"),
        ("info", "pool.scaled", "scheduler", "demo", "3 → 4: head of demo waited 9s", None),
        ("error", "task.failed", "i-01", "t-10008", "output is not JSON", "t-10008"),
        ("audit", "queue.paused", "ana (console)", "summaries", "no reason given", None),
        ("info", "model.ready", "inference", "aiwm-nano.0", "in 310 ms", None),
    ]
    return [
        EventRow(
            id=str(100 - place),
            at_ms=NOW - 700 - place * 11_300,
            level=level,
            type=kind,
            who=who,
            about=about,
            text=text,
            task=of,
        )
        for place, (level, kind, who, about, text, of) in enumerate(rows)
    ]
