"""Submitting, waiting, streaming and changing sets of tasks, against a stand-in engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiwm_tui.cli.app import run
from engine.contract.errors import ErrorInfo
from engine.contract.notifications import StreamChunk
from engine.contract.requests.tasks import Cancelled, StreamState, TaskAck, TaskOutcome, TaskPage
from tests.support.cli import (
    OUTCOME,
    STATUS,
    Run,
    task_row,
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


def test_more_than_one_task_needs_a_yes(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers |= {
        "task.list": TaskPage(rows=[task_row(1), task_row(2)], total=2),
        "task.cancel": Cancelled(cancelled=["t-10001", "t-10002"], stopping=[], ended=[]),
    }
    refused = aiwm("task", "cancel", "--where", ":tasks state:pending", "--json")
    assert refused.code == 5
    assert refused.error["code"] == "needs_confirmation"
    assert refused.error["fix"].startswith("--yes")
    assert aiwm("task", "cancel", "t-10001", "t-10002").code == 5
    assert "task.cancel" not in [method for method, _ in engine.asked]

    plan = aiwm("task", "cancel", "--where", "state:pending", "--dry-run", "--json")
    assert plan.json["kind"] == "plan"
    assert plan.json["data"]["ids"] == ["t-10001", "t-10002"]
    assert plan.json["data"]["count"] == 2
    assert "task.cancel" not in [method for method, _ in engine.asked]

    done = aiwm("task", "cancel", "--where", "state:pending", "--yes", "--reason", "enough")
    assert done.code == 0
    assert engine.params("task.cancel") == {"ids": ["t-10001", "t-10002"], "reason": "enough"}
    assert engine.params("task.list") == {"where": "state:pending", "limit": 10_000}


def test_a_set_is_named_one_way(aiwm: Run, engine: FakeEngine) -> None:
    assert aiwm("task", "retry").code == 2
    assert aiwm("task", "retry", "t-10001", "--where", "x").code == 2
    engine.answers["task.list"] = TaskPage(rows=[], total=0)
    assert aiwm("task", "retry", "--where", "state:failed").code == 0
    engine.answers["task.list"] = TaskPage(rows=[task_row()], total=20_000)
    assert aiwm("task", "retry", "--where", "state:failed", "--yes").code == 5
