"""Submitting, waiting, streaming and changing sets of tasks, against a stand-in engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aiwm_tui.cli.app import run
from engine.contract.errors import ErrorInfo
from engine.contract.notifications import StreamChunk
from engine.contract.requests.operations import Undone
from engine.contract.requests.tasks import (
    Cancelled,
    Changed,
    Plan,
    PlanCost,
    Retried,
    StreamState,
    TaskAck,
    TaskOutcome,
)
from tests.support.cli import (
    OUTCOME,
    STATUS,
    Run,
)
from tests.support.fake_engine import FakeEngine, Hangup, Then


def test_submit_does_not_ask_for_work_and_wait_does(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers |= {
        "task.submit": TaskAck(id="t-10001", state="pending"),
        "engine.status": STATUS,
        "task.wait": [OUTCOME],
    }
    aiwm("task", "submit", "demo", "--prompt", "x")
    assert engine.params("engine.hello")["work"] is False
    aiwm("task", "submit", "demo", "--prompt", "x", "--wait")
    assert engine.params("engine.hello").get("work", True) is True


def test_a_submit_that_nothing_works_on_says_so(aiwm: Run, engine: FakeEngine) -> None:
    import msgspec

    engine.answers["task.submit"] = TaskAck(id="t-10001", state="pending")
    engine.answers["engine.status"] = msgspec.structs.replace(STATUS, dispatching=False)
    ran = aiwm("task", "submit", "demo", "--prompt", "x")
    assert (ran.code, ran.out) == (0, "t-10001\n")
    assert "aiwm engine run" in ran.err


@pytest.mark.parametrize("verb", [("submit", "--wait"), ("run",)])
def test_waiting_prints_the_answer(aiwm: Run, engine: FakeEngine, verb: tuple[str, ...]) -> None:
    engine.answers |= {"task.submit": TaskAck(id="t-10001", state="pending"), "task.wait": [OUTCOME]}
    line = ("task", verb[0], "demo", "--payload", '{"prompt": "2+2"}', *verb[1:])
    assert aiwm(*line).out == "four\n"
    whole = aiwm(*line, "--json")
    assert whole.json["kind"] == "task"
    assert whole.json["data"]["result"]["text"] == "four"


FAILED = TaskOutcome(
    id="t-10001",
    state="failed",
    attempt=3,
    error=ErrorInfo(code="model_crashed", message="it died", fix="aiwm model ps"),
)


@pytest.mark.parametrize(
    ("outcome", "code", "error"),
    [
        (FAILED, 1, "model_crashed"),
        (TaskOutcome(id="t-10001", state="cancelled", attempt=1), 1, "task_cancelled"),
        (TaskOutcome(id="t-10001", state="processing", attempt=1), 4, "timeout"),
    ],
)
@pytest.mark.parametrize(
    "line", ["task submit demo --prompt x --wait --timeout 1", "task run demo --timeout 1s", "task wait t-10001"]
)
def test_what_the_end_means(
    aiwm: Run, engine: FakeEngine, outcome: TaskOutcome, code: int, error: str, line: str
) -> None:
    engine.answers |= {"task.submit": TaskAck(id="t-10001", state="pending"), "task.wait": [outcome]}
    ran = aiwm(*line.split(), "--json")
    assert ran.code == code
    assert ran.error["code"] == error
    data = ran.json["data"]
    assert (data[0] if isinstance(data, list) else data)["state"] == outcome.state
    plain = aiwm(*line.split())
    assert plain.code == code
    assert plain.err.startswith("aiwm: ")
    assert plain.err.count("\n") == 1


def _chunks(*texts: str) -> list[StreamChunk]:
    offset, chunks = 0, []
    for text in texts:
        chunks.append(StreamChunk(stream="s1", task="t-10001", attempt=1, offset=offset, text=text))
        offset += len(text)
    end = StreamChunk(stream="s1", task="t-10001", attempt=1, offset=offset, text="", ended=True, state="completed")
    return [*chunks, end]


def test_streaming_prints_the_text_as_it_comes(aiwm: Run, engine: FakeEngine) -> None:
    begun = StreamState(stream="s1", task="t-10001", attempt=1, offset=0, text="o", ended=False)
    engine.answers |= {
        "task.submit": TaskAck(id="t-10001", state="pending"),
        "task.follow": Then(begun, _chunks("o", "ne ", "two")),
        "task.wait": [OUTCOME],
    }
    line = ("task", "submit", "demo", "--prompt", "x", "--stream")
    assert aiwm(*line).out == "one two\n"
    objects = [json.loads(text) for text in aiwm(*line, "--json").out.splitlines()]
    assert [thing["kind"] for thing in objects] == ["chunk", "chunk", "chunk", "task"]
    assert "".join(thing["data"]["text"] for thing in objects[:-1]) == "one two"
    assert [thing["data"]["offset"] for thing in objects[:-1]] == [0, 1, 4]
    assert objects[-1]["data"]["result"]["text"] == "four"


def test_a_second_attempt_starts_its_text_again(aiwm: Run, engine: FakeEngine) -> None:
    begun = StreamState(stream="s1", task="t-10001", attempt=1, offset=0, text="lost", ended=False)
    again = [
        StreamChunk(stream="s1", task="t-10001", attempt=2, offset=0, text="new"),
        StreamChunk(stream="s1", task="t-10001", attempt=2, offset=3, text="", ended=True, state="completed"),
    ]
    engine.answers |= {
        "task.submit": TaskAck(id="t-10001", state="pending"),
        "task.follow": Then(begun, again),
        "task.wait": [OUTCOME],
    }
    ran = aiwm("task", "run", "demo", "--prompt", "x", "--stream")
    assert ran.out == "lost\nnew\n"
    assert "attempt 2" in ran.err


def test_a_stream_without_text_prints_the_result(aiwm: Run, engine: FakeEngine) -> None:
    begun = StreamState(stream="s1", task="t-10001", attempt=1, offset=0, text="", ended=True)
    engine.answers |= {
        "task.submit": TaskAck(id="t-10001", state="pending"),
        "task.follow": begun,
        "task.wait": [OUTCOME],
    }
    assert aiwm("task", "run", "demo", "--prompt", "x", "--stream").out == "four\n"


def test_an_engine_that_dies_under_a_wait(aiwm: Run, engine: FakeEngine) -> None:
    def die(_: object) -> None:
        raise Hangup

    engine.answers |= {"task.submit": TaskAck(id="t-10001", state="pending"), "task.wait": die}
    ran = aiwm("task", "run", "demo", "--prompt", "x")
    assert ran.code == 3
    assert "t-10001 is stored" in ran.err
    assert "aiwm task wait t-10001" in ran.err


def test_an_engine_that_closes_while_we_write(aiwm: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("engine.client.BlockingClient.call", broken)
    ran = aiwm("queue", "list", "--json")
    assert ran.code == 3
    assert ran.error["code"] == "connection_lost"


def test_ctrl_c_says_what_goes_on(
    aiwm: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.client import BlockingClient
    from engine.contract.requests.tasks import TaskWait

    original = BlockingClient.call

    def interrupted(self: BlockingClient, request: Any, **options: Any) -> Any:
        if isinstance(request, TaskWait):
            raise KeyboardInterrupt
        return original(self, request, **options)

    monkeypatch.setattr(BlockingClient, "call", interrupted)
    engine.answers["task.submit"] = TaskAck(id="t-10001", state="pending")
    with pytest.raises(KeyboardInterrupt):
        run(["task", "run", "demo", "--prompt", "x"])
    assert "t-10001 is stored and goes on" in capsys.readouterr().err


def _planned(*ids: str, **done: Any) -> Any:
    """The engine's end of a change: a plan for a dry run, else what is said here."""

    def answer(params: dict[str, Any]) -> Cancelled:
        if params.get("dry_run"):
            plan = Plan(request="task.cancel", effect="destructive", ids=list(ids), count=len(ids), cost=PlanCost())
            return Cancelled(plan=plan)
        return Cancelled(operation="op-7", cancelled=list(params["ids"]), **done)

    return answer


def test_twenty_tasks_need_a_yes(aiwm: Run, engine: FakeEngine) -> None:
    ids = [f"t-1{n:04d}" for n in range(20)]
    engine.answers["task.cancel"] = _planned(*ids)
    refused = aiwm("task", "cancel", "--where", ":tasks state:pending", "--json")
    assert refused.code == 5
    assert refused.error["code"] == "needs_confirmation"
    assert refused.error["fix"].startswith("--yes")
    assert aiwm("task", "cancel", *ids).code == 5
    assert [params for _, params in engine.asked if "ids" in params] == []

    plan = aiwm("task", "cancel", "--where", "state:pending", "--dry-run", "--json")
    assert plan.json["kind"] == "plan"
    assert (plan.json["data"]["ids"], plan.json["data"]["count"]) == (ids, 20)
    assert plan.json["data"]["cost"]["tokens_in"] == 0
    assert engine.params("task.cancel") == {"where": "state:pending", "dry_run": True}

    done = aiwm("task", "cancel", "--where", "state:pending", "--yes", "--reason", "enough")
    assert done.code == 0
    assert "aiwm undo op-7" in done.err
    assert engine.params("task.cancel") == {"ids": ids, "reason": "enough"}
    assert aiwm("task", "cancel", *ids[:19]).code == 0


def test_a_set_is_named_one_way(aiwm: Run, engine: FakeEngine) -> None:
    for verb in ("retry", "cancel", "move"):
        assert aiwm("task", verb).code == 2
        assert aiwm("task", verb, "t-10001", "--where", "x").code == 2
        assert aiwm("task", verb, "--where", " ").code == 2
    engine.answers["task.cancel"] = _planned()
    none = aiwm("task", "cancel", "--where", "state:failed", "--json")
    assert (none.code, none.json["data"]["count"]) == (0, 0)


def test_a_retry_says_what_it_changes(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers["task.retry"] = Retried(operation="op-1", retried=["t-10001"], held=2)
    line = ("task", "retry", "t-10001", "--set", "max_tokens=64", "--set", "a.b=true", "--set", "note=two words")
    ran = aiwm(*line, "--adapter", "x@v3", "--front", "--canary", "1", "--priority", "3", "--delay", "5s")
    assert ran.code == 0
    assert "2 follow" in ran.err
    assert engine.params("task.retry") == {
        "ids": ["t-10001"],
        "set": {"max_tokens": 64, "a": {"b": True}, "note": "two words"},
        "adapter": "x@v3",
        "front": True,
        "canary": 1,
        "priority": 3,
        "delay_ms": 5_000,
    }
    for bad in ("max_tokens", "=1", "a..b=1"):
        assert aiwm("task", "retry", "t-10001", "--set", bad).code == 2
    assert aiwm("task", "retry", "t-10001", "--set", "a=1", "--set", "a.b=2").code == 2


def test_refusals_are_told_and_are_a_failure_when_nothing_else_happened(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers["task.move"] = Changed(operation="op-1", refused={"t-10001": "it is running"})
    ran = aiwm("task", "move", "t-10001", "--queue", "etl")
    assert ran.code == 1
    assert "t-10001 was not moved: it is running" in ran.err
    engine.answers["task.priority"] = Changed(operation="op-1", changed=["t-10001"], refused={"t-10002": "no"})
    assert aiwm("task", "priority", "5", "t-10001", "t-10002").code == 0
    assert engine.params("task.priority") == {"priority": 5, "ids": ["t-10001", "t-10002"]}


def test_an_undo_that_takes_nothing_back_fails(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers["operation.undo"] = Undone(id="op-1", state="done", refused={"t-10001": "it has completed"})
    ran = aiwm("undo", "op-1")
    assert (ran.code, ran.out) == (1, "taken back\n")
    assert "it has completed" in ran.err


def test_a_schema_from_a_file_is_the_payload_s(aiwm: Run, engine: FakeEngine, tmp_path: Path) -> None:
    engine.answers |= {"task.submit": TaskAck(id="t-10001", state="pending"), "task.wait": [OUTCOME]}
    file = tmp_path / "person.json"
    file.write_text('{"type": "object"}')
    assert aiwm("task", "run", "demo", "--prompt", "x", "--schema", str(file)).code == 0
    assert engine.params("task.submit")["payload"] == {"prompt": "x", "schema": {"type": "object"}}
    twice = aiwm("task", "run", "demo", "--payload", '{"schema": {}}', "--schema", str(file))
    assert (twice.code, "--payload has a schema already" in twice.err) == (2, True)
    file.write_text("[1]")
    for name, why in (
        (str(file), "--schema must be a JSON object, but is a list"),
        ("none.json", "none.json cannot be read"),
    ):
        ran = aiwm("task", "submit", "demo", "--prompt", "x", "--schema", name)
        assert ran.code == 2
        assert why in ran.err
    assert aiwm("task", "submit", "demo", "--prompt", "-", "--schema", "-").code == 2
