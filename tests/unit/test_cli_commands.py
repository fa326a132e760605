"""Every command against a stand-in engine: what it asks, what it prints in each format, how it exits."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiwm_tui.cli.app import WORDS
from engine.contract.definitions import WorkerDefinition
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.notifications import EngineNotice, InstanceChunk, ViewChanged
from engine.contract.records import (
    ChatTurn,
    InstanceDetail,
    RecordRow,
    RetiredRow,
    SummaryRow,
    WorkerDetail,
)
from engine.contract.requests.fleet import Reloaded
from engine.contract.requests.limits import LimitRow, LimitWindow
from engine.contract.requests.performance import RecordPage
from engine.contract.requests.session import Finding, Setting, Stopping, ViewRows
from engine.contract.requests.tasks import Cancelled, Retried, TaskAck, TaskPage
from tests.support.cli import (
    DETAIL,
    EVIL,
    INSTANCE,
    MODEL,
    OUTCOME,
    POOL,
    POOL_DETAIL,
    QUEUE,
    QUEUE_DETAIL,
    STATUS,
    VIEW,
    WHY,
    WORKER,
    Run,
)
from tests.support.fake_engine import Bye, FakeEngine, Then
from tests.support.rows import task_row

RETIRED = RetiredRow(
    id="i-07", state="completed", pool="", definition="nano", reason="enough", spawned_ms=1, retired_ms=2, done=2, failed=0,
    tokens_in=5, tokens_out=2, cost_usd=0.0,
)  # fmt: skip
TURN = ChatTurn(
    n=1, at_ms=1, message="What is 2+2?", text="four", reason="stop", tokens_in=5, tokens_out=1, context=6, total_ms=3.0
)
INSTANCE_DETAIL = InstanceDetail(row=INSTANCE, definition=WorkerDefinition(name="nano"), turns=(TURN,))
RECORD = RecordRow(
    id="1", task="t-10001", state="completed", success=True, ended_ms=2, started_ms=1, duration_ms=1, attempt=1, queue="demo",
    by="operator", cost_usd=0.5, summary="=cmd()",
)  # fmt: skip
SUMMARY = SummaryRow(
    id="demo", by="queue", attempted=4, completed=3, failed=1, rate=0.75, mean_ms=8.0, tokens_in=1, tokens_out=1, cost_usd=0.0,
    quality=None, rated=0, last_ms=1,
)  # fmt: skip
_NO_LIMIT = LimitWindow(name="tokens per day", used=7, limit=0)
LIMIT = LimitRow(
    id="nano", state="limited", requests_per_minute=LimitWindow(name="requests per minute", used=2, limit=2, opens_ms=9),
    tokens_per_minute=_NO_LIMIT, tokens_per_day=_NO_LIMIT, instances=_NO_LIMIT, under_way=0, waiting=1, opens_ms=9,
)  # fmt: skip

# command line, method, answer, kind in --json, what people must read in it, exit code
CASES: list[tuple[str, str, Any, str, str, int]] = [
    ("task submit demo --prompt hello", "task.submit", TaskAck(id="t-10001", state="pending"), "task", "t-10001", 0),
    ("task list", "task.list", TaskPage(rows=[task_row()], total=1), "tasks", "t-10001", 0),
    ("task show t-10001", "task.show", DETAIL, "task", "task.submitted", 0),
    ("task explain t-10001", "task.explain", WHY, "why", "aiwm queue resume demo", 0),
    ("task wait t-10001", "task.wait", [OUTCOME], "tasks", "four", 0),
    ("task cancel t-10001", "task.cancel", Cancelled(cancelled=["t-10001"], stopping=[], ended=[]), "cancelled", "t-10001", 0),
    ("task cancel t-10001", "task.cancel", Cancelled(cancelled=[], stopping=[], ended=["t-10001"]), "cancelled", "ended", 1),
    ("task retry t-10001", "task.retry", Retried(retried=["t-10001"]), "retried", "t-10001", 0),
    ("task retry t-10001", "task.retry", Retried(retried=[], refused={"t-10001": "runs"}), "retried", "", 1),
    ("queue list", "queue.list", [QUEUE], "queues", "demo", 0),
    ("queue show demo", "queue.show", QUEUE_DETAIL, "queue", "aging", 0),
    ("queue create etl --pools demo", "queue.create", QUEUE_DETAIL, "queue", "demo", 0),
    ("queue pause demo --reason tired", "queue.pause", QUEUE_DETAIL, "queue", "demo", 0),
    ("queue resume demo", "queue.resume", QUEUE_DETAIL, "queue", "demo", 0),
    ("queue explain demo", "queue.explain", WHY, "why", "paused", 0),
    ("pool list", "pool.list", [POOL], "pools", "nano", 0),
    ("pool show demo", "pool.show", POOL_DETAIL, "pool", "nano", 0),
    ("pool create p nano --max-total 3", "pool.create", POOL_DETAIL, "pool", "nano", 0),
    ("pool scale demo --min-idle 2", "pool.scale", POOL_DETAIL, "pool", "nano", 0),
    ("pool explain demo", "pool.explain", WHY, "why", "paused", 0),
    ("instance list", "instance.list", [INSTANCE], "instances", "i-01", 0),
    ("instance list --retired", "instance.retired", [RETIRED], "retired", "enough", 0),
    ("instance show i-01", "instance.show", INSTANCE_DETAIL, "instance", "> What is 2+2?", 0),
    ("instance spawn nano --temperature 0.1", "instance.spawn", INSTANCE_DETAIL, "instance", "i-01", 0),
    ("instance set i-01 --state idle", "instance.set", INSTANCE_DETAIL, "instance", "i-01", 0),
    ("instance retire i-01 --reason enough", "instance.retire", InstanceDetail(retired=RETIRED), "instance", "i-07", 0),
    ("instance stop i-01", "instance.stop", lambda _: None, "result", "", 0),
    ("instance chat i-01 hello", "instance.chat", TURN, "turn", "four", 0),
    ("perf list success:true", "perf.list", RecordPage(rows=[RECORD], total=1), "records", "t-10001", 0),
    ("perf summary --by queue", "perf.summary", [SUMMARY], "summaries", "75%", 0),
    ("limits list", "limits.list", [LIMIT], "limits", "2/2", 0),
    ("limits show nano", "limits.show", LIMIT, "limit", "2/2", 0),
    ("worker limits nano", "limits.show", LIMIT, "limit", "2/2", 0),
    ("worker list", "worker.list", [WORKER], "workers", "nano", 0),
    ("worker show nano", "worker.show", WorkerDetail(row=WORKER, definition=WorkerDefinition(name="nano")), "worker", "goat", 0),
    ("worker reload", "worker.reload", Reloaded(added=["a"], changed=[], removed=[], unchanged=2), "reloaded", "added a", 0),
    ("model ps", "model.list", [MODEL], "models", "aiwm-nano", 0),
    ("model list", "model.list", [MODEL], "models", "reference", 0),
    ("model explain aiwm-nano", "model.explain", WHY, "why", "paused", 0),
    ("view :tasks state:failed", "view.read", VIEW, "tasks", "t-10001", 0),
    ("why", "engine.why", WHY, "why", "paused", 1),
    ("why :queues etl", "queue.explain", WHY, "why", "paused", 1),
    ("why :tasks/t-10001", "task.explain", WHY, "why", "paused", 1),
    ("events search level:error", "view.read", VIEW, "tasks", "", 0),
    ("doctor", "engine.doctor", [Finding(what="model", state="ok", seen="loads")], "findings", "loads", 0),
    ("config show --origin", "config.show", [Setting(key="a.b", value=1, origin="default")], "settings", "default", 0),
    ("call queue.list", "queue.list", [QUEUE], "queues", "demo", 0),
    ("engine status", "engine.status", STATUS, "engine", "well", 0),
    ("engine stop --no-wait", "engine.stop", Stopping(mode="drain", running=1, waiting=2), "stopping", "drain", 0),
]  # fmt: skip


@pytest.mark.parametrize(("line", "method", "answer", "kind", "words", "code"), CASES, ids=[case[0] for case in CASES])
def test_each_command_prints_its_answer(
    aiwm: Run, engine: FakeEngine, line: str, method: str, answer: Any, kind: str, words: str, code: int
) -> None:
    engine.answers |= {"engine.status": STATUS, method: answer}
    if line.startswith("events"):
        kind = "events"
    people = aiwm(*line.split())
    assert words in people.out
    assert people.code == code
    assert method in [asked for asked, _ in engine.asked]

    whole = aiwm(*line.split(), "--json")
    assert whole.out.count("\n") == 1
    assert whole.json["v"] == 1
    assert whole.json["kind"] == kind
    assert whole.code == code
    if isinstance(whole.json["data"], list):
        assert isinstance(whole.json["total"], int)

    lines = aiwm(*line.split(), "--jsonl")
    for text in lines.out.splitlines():
        assert json.loads(text)["v"] == 1
    assert lines.code == code


def _all_commands() -> list[str]:
    import typer

    from aiwm_tui.cli.app import build

    root: Any = typer.main.get_command(build())
    found = []
    for name, thing in root.commands.items():
        found += [f"{name} {verb}" for verb in thing.commands] if hasattr(thing, "commands") else [name]
    return found


# The help of `simulate` is the engine's own.
@pytest.mark.parametrize("line", sorted({*_all_commands(), *WORDS} - {"simulate"}))
def test_help_of_every_command(aiwm: Run, line: str) -> None:
    ran = aiwm(*line.split(), "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: aiwm {line}")


def test_the_command_tree_is_the_one_of_the_design() -> None:
    wanted = """demo,engine run,engine status,engine stop,engine attach,task submit,task run,task list,task show,task cancel,task retry,
    task explain,task wait,queue list,queue show,queue create,queue pause,queue resume,queue explain,pool list,pool show,pool create,
    pool scale,pool explain,instance list,worker list,worker show,worker reload,model ps,model list,view,why,call,doctor,config show,
    events tail,events search,simulate"""
    assert {name.strip() for name in wanted.split(",")} <= set(_all_commands())


def test_an_option_says_what_it_is_of_its_own_noun(aiwm: Run) -> None:
    worker = " ".join(aiwm("worker", "create", "--help").out.split())
    assert "API key" in worker
    assert "second submit" not in worker
    assert "only an active one does" in worker
    assert "how it ended" not in worker
    assert "how it ended" in " ".join(aiwm("instance", "retire", "--help").out.split())
    assert "second submit" in " ".join(aiwm("task", "submit", "--help").out.split())


def test_options_become_the_request(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers["task.submit"] = TaskAck(id="t-10001", state="scheduled")
    engine.answers["engine.status"] = STATUS
    ran = aiwm(
        *(
            "task",
            "submit",
            "demo",
            "--payload",
            '{"temperature": 0.5}',
            "--prompt",
            "hi",
            "--priority",
            "-3",
            "--key",
            "k",
        ),
        *("--capabilities", "a", "--capabilities", "b", "--due", "2h", "--batch", "b-1", "--definition", "nano"),
    )
    assert ran.code == 0
    asked = engine.params("task.submit")
    due = asked.pop("due_ms")
    assert due > 1_700_000_000_000
    assert asked == {
        "queue": "demo",
        "payload": {"temperature": 0.5, "prompt": "hi"},
        "priority": -3,
        "idempotency_key": "k",
        "capabilities": ["a", "b"],
        "batch": "b-1",
        "definition": "nano",
    }
    engine.answers["queue.create"] = QUEUE_DETAIL
    options = "--pools a --pools b --retry-delay 2s --retry-max-retries 5 --durability os --aging 30s --paused"
    aiwm("queue", "create", "etl", *options.split())
    made = engine.params("queue.create")["definition"]
    assert (made["name"], made["pools"], made["durability"], made["paused"]) == ("etl", ["a", "b"], "os", True)
    assert (made["retry"]["delay_ms"], made["retry"]["max_retries"], made["aging_ms"]) == (2000, 5, 30_000)


def test_following_events_prints_each_once(
    aiwm: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def event(number: int) -> dict[str, Any]:
        return {
            "id": str(number),
            "at_ms": 1,
            "level": "info",
            "type": "task.started",
            "about": "t-10001",
            "text": EVIL,
        }

    opened = ViewRows(
        view="v1", seq=0, location=":events", table="events", rows=[event(2), event(1)], top=0, matched=2, total=2
    )
    notes = [
        ViewChanged(view="v1", seq=1, rows=[event(3), event(2)]),
        ViewChanged(view="other", seq=1, rows=[event(9)]),
        ViewChanged(view="v1", seq=2, rows=[event(4)]),
    ]
    engine.answers["view.open"] = Then(opened, [*notes, Bye()])
    ran = aiwm("events", "tail", "--follow", "--jsonl")
    assert [json.loads(line)["data"]["id"] for line in ran.out.splitlines()] == ["1", "2", "3", "4"]
    assert ran.code == 3
    plain = aiwm("events", "tail", "-f")
    assert plain.out.count("\n") == 4
    assert "\x1b" not in plain.out


def test_a_noun_alone_shows_its_help(aiwm: Run) -> None:
    ran = aiwm("task")
    assert ran.code == 2
    assert "submit" in ran.err
    assert ran.out == ""


def test_no_engine_and_none_started(aiwm: Run, home: Path) -> None:
    for line in (["engine", "status"], ["engine", "stop"]):
        ran = aiwm(*line, "--home", str(home))
        assert ran.code == 3
        assert "aiwm engine run" in ran.err
    assert not home.exists()


def test_stop_waits_until_the_engine_is_gone(aiwm: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = Stopping(mode="now", running=0, waiting=0)
    engine.answers["engine.stop"] = Then(stopping, [EngineNotice(what="stopping", text="bye"), Bye()])
    assert aiwm("engine", "stop", "--mode", "now").code == 0
    monkeypatch.setattr("aiwm_tui.cli.engine._STOP_TIMEOUT_S", 0.1)
    engine.answers["engine.stop"] = stopping
    assert aiwm("engine", "stop").code == 4
    # It hangs up, but its process lives on: this one's.
    engine.answers["engine.stop"] = Then(stopping, [Bye()])
    engine.pid = os.getpid()
    assert aiwm("engine", "stop").code == 4


def test_home_may_stand_before_or_after(aiwm: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIWM_HOME", "/nowhere")
    engine.answers["queue.list"] = [QUEUE]
    assert aiwm("queue", "list", "--home", str(engine.home)).code == 0
    assert aiwm("--home", str(engine.home), "queue", "list").code == 0


def test_a_second_engine_on_one_home(aiwm: Run, engine: FakeEngine) -> None:
    ran = aiwm("engine", "run", "--json")
    assert ran.code == 1
    assert ran.error["code"] == "engine_running"


def test_read_only_is_passed_on(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers["queue.pause"] = AiwmError(Code.read_only, "this connection only looks")
    assert aiwm("--read-only", "queue", "pause", "demo").code == 5
    assert engine.params("engine.hello")["read_only"] is True


def test_a_reload_with_mistakes_changes_nothing_and_says_which(aiwm: Run, engine: FakeEngine) -> None:
    wrong = ErrorInfo(
        code="definition_invalid", message="unknown key modle", field="nano.modle", fix='did you mean "model"?'
    )
    engine.answers["worker.reload"] = Reloaded(added=[], changed=[], removed=[], unchanged=2, errors=[wrong])
    ran = aiwm("worker", "reload")
    assert ran.code == 2
    assert "did you mean" in ran.err
    assert aiwm("worker", "reload", "--json").json["data"]["errors"][0]["field"] == "nano.modle"


def test_the_doctor_reports_an_engine_that_does_not_start(
    aiwm: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiwm_tui.cli.command.connect_blocking", _cannot)
    ran = aiwm("doctor", "--home", str(home), "--json")
    assert ran.code == 2
    assert ran.json["data"][0]["what"] == "engine"
    assert ran.json["data"][0]["seen"] == "bad key"


def _cannot(*_: object, **__: object) -> None:
    raise AiwmError(Code.config_invalid, "bad key")


def test_records_are_exported_page_by_page(aiwm: Run, engine: FakeEngine, tmp_path: Path) -> None:
    first = [msgspec.structs.replace(RECORD, id=str(number)) for number in range(2_000)]
    pages = {0: RecordPage(rows=first, total=2_001), 2_000: RecordPage(rows=[RECORD], total=2_001)}
    engine.answers["perf.list"] = lambda params: pages[params.get("offset", 0)]
    ran = aiwm("perf", "export", "queue:demo")
    assert ran.code == 0
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert (len(lines), lines[0]["task"]) == (2_001, "t-10001")
    assert engine.params("perf.list")["where"] == "queue:demo sort:id"

    out = tmp_path / "records.csv"
    ran = aiwm("perf", "export", "--format", "csv", "--out", str(out))
    assert (ran.code, ran.out) == (0, "")
    assert "2,001 records" in ran.err
    rows = list(csv.DictReader(out.open()))
    # What a spreadsheet would run is text to it.
    assert (len(rows), rows[0]["summary"], rows[0]["success"]) == (2_001, "'=cmd()", "true")
    assert out.stat().st_mode & 0o777 == 0o600
    assert aiwm("perf", "export", "--format", "xml").code == 2


def test_an_answer_is_printed_as_it_comes(aiwm: Run, engine: FakeEngine) -> None:
    chunks = [InstanceChunk(instance="i-01", turn=1, offset=0, text="fo")]
    engine.answers["instance.chat"] = lambda params: Then(TURN, chunks) if params.get("stream") else TURN
    ran = aiwm("instance", "chat", "i-01", "What is 2+2?", "--json")
    assert ran.json["kind"] == "turn"
    ran = aiwm("instance", "chat", "i-01")
    assert ran.code == 2
    assert "a message is missing" in ran.err
