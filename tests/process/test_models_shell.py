"""Models as an operator runs them from a shell, on a real engine: room, ways, crashes, logs, metrics, processes side by side."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.client import BlockingClient
from engine.contract.records import ModelRow
from engine.contract.requests.fleet import ModelList
from engine.contract.requests.memory import ModelKeep, ModelStatus
from engine.contract.requests.tasks import TaskSubmit, TaskWait
from tests.support.engines import Engine, engine, wait_until
from tests.support.shell import shell
from tests.support.tiny_model import write_model

NANO = Path(__file__).parents[2] / "engine" / "inference" / "shipped" / "aiwm-nano"
ROOM_FOR_ONE = {"AIWM_MODELS__MEMORY_GB": "0.2"}

Start = Callable[..., Engine]


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """An engine on a home with `second`, a copy of the shipped model, and `endless`, which never ends by itself."""
    shutil.copytree(NANO, home / "models" / "second")
    write_model(home / "models" / "endless", max_position_embeddings=100_000, eos_token_id=None)
    home.chmod(0o700)
    running: list[Any] = []

    def begin(**environment: str) -> Engine:
        context = engine(home, environment=environment)
        running.append(context)
        return context.__enter__()

    yield begin
    for context in running:
        context.__exit__(None, None, None)


def processes(home: Path) -> dict[str, dict[str, Any]]:
    rows = shell(home, "model", "ps", "--json").json["data"]
    return {row["id"]: row for row in rows}


def one(client: BlockingClient) -> ModelRow:
    """The process of `endless`."""
    return next(row for row in client.call(ModelStatus(name="endless")) if row.id == "endless.0")


def test_job_2_make_room_for_a_model(start: Start, home: Path) -> None:
    start(**ROOM_FOR_ONE)
    first = shell(home, "model", "load", "aiwm-nano", "--json").json["data"]
    assert (first["process"], first["unloaded"]) == ("aiwm-nano.0", [])
    assert first["measured"] > 0
    shell(home, "model", "keep", "aiwm-nano", "2h")
    refused = shell(home, "model", "load", "second", code=None)
    assert refused.code != 0
    assert "short" in refused.err
    assert "aiwm model plan second" in refused.err
    plan = shell(home, "model", "plan", "second", "--ctx", "512", "--json").json["data"]
    assert plan["estimate"]["total"] == sum(
        plan["estimate"][part] for part in ("weights", "kv", "adapters", "scratch", "process")
    )
    way = next(it for it in plan["ways"] if it["text"] == "unload aiwm-nano.0")
    assert (way["fits"], way["frees"], "somebody keeps it" in way["hit"]) == (True, first["estimate"], True)
    text = shell(home, "model", "plan", "second").out
    assert "unload aiwm-nano.0" in text
    assert "somebody keeps it" in text
    asked = shell(home, "model", "load", "second", "--way", str(way["number"]), code=5)
    assert "hits:" in asked.err
    assert "aiwm-nano.0" in processes(home)
    loaded = shell(home, "model", "load", "second", "--way", str(way["number"]), "--yes").out
    assert "second.0 is ready" in loaded
    assert "estimate" in loaded
    assert "unloaded: aiwm-nano.0" in loaded
    assert set(processes(home)) == {"second.0"}
    assert "is kept" in shell(home, "model", "keep", "second").out
    row = processes(home)["second.0"]
    assert (row["keep_until_ms"], row["estimate_bytes"], row["state"]) == (-1, plan["estimate"]["total"], "ready")
    assert "unloads now" in shell(home, "model", "unload", "second").out
    wait_until(lambda: processes(home) == {}, "the model to be unloaded")
    (device,) = [it for it in shell(home, "model", "devices", "--json").json["data"] if it["id"] == "CPU"]
    assert "models may take 205M" in device["note"]


def test_job_8_a_model_process_keeps_crashing(start: Start, home: Path) -> None:
    start()
    shell(home, "model", "load", "second")
    pid = processes(home)["second.0"]["pid"]
    os.kill(pid, signal.SIGSEGV)
    wait_until(lambda: processes(home)["second.0"]["pid"] not in (pid, None), "a new process")
    shown = shell(home, "model", "show", "second", "--crashes").out
    assert "SIGSEGV" in shown
    assert "Segmentation fault" in shown
    assert "crashed in native code" in shell(home, "model", "crashes", "second").out
    assert "Segmentation fault" in shell(home, "logs", "second.0", "--previous").out
    assert "second.0" in shell(home, "logs").out
    assert shell(home, "logs", "../engine", code=2).err
    shell(home, "model", "unload", "second", "--hold", "a bad file")
    wait_until(lambda: processes(home)["second.0"]["state"] == "paused", "it to be held")
    assert "a bad file" in processes(home)["second.0"]["note"]
    shell(home, "model", "restart", "second")
    wait_until(lambda: processes(home)["second.0"]["state"] == "ready", "it to be tried again")


def test_work_that_waits_gets_a_second_process_and_both_work(start: Start, home: Path) -> None:
    running = start(AIWM_MODELS__SLOTS="1", AIWM_MODELS__CONTEXT="6000", AIWM_MODELS__REPLICAS="2")
    shell(home, "model", "add", str(home / "models" / "endless"), "--name", "endless", "--context", "6000")
    shell(home, "pool", "scale", "endless", "--max-total", "4")
    with running.client() as client:
        payload = {"prompt": "on and on", "max_tokens": 5_000}
        ids = [client.call(TaskSubmit(queue="endless", payload=payload)).id for _ in range(6)]
        wait_until(lambda: len([row for row in client.call(ModelList()) if row.running]) == 2, "two that work", 60)
        ended = client.call(TaskWait(ids=tuple(ids), timeout_ms=120_000))
    assert {outcome.state for outcome in ended} == {"completed"}
    metrics = shell(home, "metrics", "--json").json["data"]
    served = {it["processId"]: it["totalRequests"] for it in metrics["processes"] if it["model"] == "endless"}
    assert set(served) == {"endless.0", "endless.1"}
    assert min(served.values()) >= 1
    assert metrics["totalRequestsProcessed"] == sum(served.values()) == 6
    names = {"processId", "status", "currentLoad", "queueDepth", "averageLatencyMs", "layerCacheHitRate"}
    assert names <= set(metrics["processes"][0])
    text = shell(home, "metrics", "--prometheus").out
    assert 'aiwm_model_total_requests{process="endless.0",model="endless"}' in text
    assert "# TYPE aiwm_requests_total counter" in text


def test_a_kill_in_mid_stream_loses_no_task(start: Start, home: Path) -> None:
    """The attempt that had shown text is tried again by its queue; the others never notice."""
    running = start(AIWM_MODELS__SLOTS="2", AIWM_MODELS__CONTEXT="6000", AIWM_MODELS__REPLICAS="1")
    shell(home, "model", "add", str(home / "models" / "endless"), "--name", "endless", "--context", "6000")
    shell(home, "pool", "scale", "endless", "--max-total", "4")
    with running.client() as client:
        client.call(ModelKeep(name="endless"))
        payload = {"prompt": "on and on", "max_tokens": 3_000}
        ids = [client.call(TaskSubmit(queue="endless", payload=payload)).id for _ in range(4)]
        wait_until(lambda: any(row.tokens_per_s > 0 for row in client.call(ModelList())), "text to come")
        row = one(client)
        assert row.pid is not None
        os.kill(row.pid, signal.SIGKILL)
        ended = client.call(TaskWait(ids=tuple(ids), timeout_ms=120_000))
        assert {outcome.state for outcome in ended} == {"completed"}
        assert one(client).restarts == 1
