"""Tools, data sources, contexts, approvals and API keys with real engines: what an operator would check by hand (spec §6, 4 to 6)."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.client import BlockingClient
from engine.contract.definitions import DataSource, PoolDefinition, QueueDefinition, TaskTemplate
from engine.contract.errors import AiwmError, Code
from engine.contract.records import EventRow
from engine.contract.records.approvals import ApprovalRow
from engine.contract.requests import catalogue
from engine.contract.requests.approvals import ApprovalApprove, ApprovalList, ApprovalReject, ApprovalShow
from engine.contract.requests.context import TaskContextShow
from engine.contract.requests.definitions import SourceCreate, TemplateCreate
from engine.contract.requests.fleet import PoolCreate, QueueCreate, QueuePause, WorkerReload
from engine.contract.requests.instances import InstanceChat, InstanceSpawn
from engine.contract.requests.session import ViewRead
from engine.contract.requests.sources import SourceFiles, SourceRead, SourceSync
from engine.contract.requests.tasks import TaskRun, TaskShow, TaskSubmit
from engine.contract.requests.tools import ToolList
from engine.contract.states import Effect
from tests.support.cli import Run, in_process
from tests.support.engines import Engine, engine, make_queue, wait_until

# A kind of another package: it calls the tools that its task names, over its pipe, and gives back what it was told.
_CALLER = """
from engine.workers.template import TaskOutput, WorkerTemplate

class Caller(WorkerTemplate):
    kind = "caller"
    async def process(self, task, context):
        if context.tools is None:
            return TaskOutput(result={"declared": None})
        said = []
        for call in task.payload.get("calls", []):
            answer = await context.tools.call(call["tool"], call["args"])
            said.append([answer.verdict, answer.gate, answer.ok, answer.text])
        return TaskOutput(result={"said": said, "declared": [tool.name for tool in context.tools.declared]})
"""
WORKERS: list[dict[str, Any]] = [
    {"name": "echo", "kind": "template"},
    {"name": "nano", "model": "aiwm-nano"},
    {
        "name": "reader",
        "kind": "goat",
        "model": "aiwm-nano",
        "sources": ["docs"],
        "tools_allow": ["read_file", "list_dir"],
    },
    {"name": "nothing", "kind": "caller", "sources": ["docs"]},
    {"name": "writer", "kind": "caller", "sources": ["docs"], "tools_allow": ["ReadFile", "write_file"]},
    {"name": "barred", "kind": "caller", "tools_allow": ["*"], "tools_deny": ["TOOL.WriteFile", "task_*"]},
    {
        "name": "boss",
        "kind": "caller",
        "sources": ["docs"],
        "tools_allow": [
            "read_file",
            "task_submit",
            "task_run",
            "task_show",
            "task_cancel",
            "source_read",
            "queue_list",
        ],
    },
    {"name": "rich", "kind": "caller", "sources": ["docs", "vault"], "tools_allow": ["*"], "supervisor": "nano"},
]
POEM = "My name is Tom, I am 34 years old and live in Paris."


@pytest.fixture(scope="module")
def caller_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("kind")
    (folder / "caller_kind.py").write_text(_CALLER)
    info = folder / "caller_kind-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: caller-kind\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aiwm.workers]\ncaller = caller_kind:Caller\n")
    return {"PYTHONPATH": str(folder)}


class House:
    """An engine with data sources, workers and a queue for each."""

    def __init__(self, running: Engine, client: BlockingClient, outside: Path) -> None:
        self.home, self.running, self.client, self.outside = running.home, running, client, outside

    def build(self) -> None:
        """Everything; `build_plain` leaves out what needs a configuration of its own."""
        self.build_plain()
        far = DataSource(name="far", path=str(self.outside / "listed"), external=True, target="fm:/far")
        self.client.call(SourceCreate(definition=far))

    def build_plain(self) -> None:
        files = self.home / "files"
        (files / "docs").mkdir()
        (files / "vault").mkdir()
        (files / "docs/notes.txt").write_text(POEM)
        (files / "docs/code.py").write_text("print()")
        (files / "vault/secret.txt").write_text("the treasure")
        for source in (
            DataSource(name="docs", path="docs", filters=("*.txt",)),
            DataSource(name="vault", path="vault"),
        ):
            self.client.call(SourceCreate(definition=source))
        (self.home / "ai_worker_definitions.json").write_text(json.dumps({"workers": WORKERS}))
        assert not self.client.call(WorkerReload()).errors
        for worker in WORKERS[2:]:
            make_queue(self.client, worker["name"], definition=worker["name"], instances=1)

    def run(self, queue: str, /, **payload: Any) -> Any:
        outcome = self.client.call(TaskRun(queue=queue, payload=payload, timeout_ms=60_000))
        assert outcome.error is None, outcome.error
        return outcome.result

    def call(self, queue: str, tool: str, /, **arguments: Any) -> list[Any]:
        """One tool call by a task of a queue: verdict, gate, ok, text."""
        return list(self.run(queue, calls=[{"tool": tool, "args": arguments}])["said"][0])

    def events(self, filters: str) -> list[EventRow]:
        found = self.client.call(ViewRead(location=f":events {filters}", size=100))
        return [EventRow(**row) for row in found.rows]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, caller_kind: dict[str, str]) -> Iterator[House]:
    base = tmp_path_factory.mktemp("tools")
    (base / "listed").mkdir()
    for name in "abc":
        (base / "listed" / f"{name}.txt").write_text(name)
    (base / "unlisted").mkdir()
    (base / "config.toml").write_text(
        f'[security]\nexternal_roots = ["{base}/listed"]\n[keys.late]\nmethod = "env"\nvalue = "NOT_SET"\n'
    )
    environment = {**caller_kind, "AIWM_CONFIG": str(base / "config.toml")}
    with engine(base / "home", environment=environment) as running, running.client() as client:
        made = House(running, client, base)
        made.build()
        yield made


@pytest.fixture
def aiwm(house: House, capsys: pytest.CaptureFixture[str]) -> Run:
    run = in_process(capsys)
    return lambda *arguments: run(*arguments, "--home", str(house.home))


# -- allow and deny --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worker", "tool", "arguments", "verdict", "gate"),
    [
        ("writer", "read_file", {"path": "notes.txt"}, "allowed", "all"),
        ("writer", "TOOL.ReadFile", {"path": "notes.txt"}, "allowed", "all"),
        ("writer", "write_file", {"path": "x.txt", "content": "x"}, "allowed", "all"),
        ("writer", "list_files", {}, "not_allowed", "allow"),
        ("barred", "list_files", {}, "allowed", "all"),
        ("barred", "write_file", {"path": "x.txt", "content": "x"}, "denied", "deny"),
        ("barred", "task_submit", {"queue": "echo"}, "denied", "deny"),
        ("barred", "key_list", {}, "blocked", "policy"),
        ("barred", "approval_approve", {"id": "ap-1"}, "blocked", "policy"),
        ("barred", "fly", {}, "unknown", "registry"),
        ("barred", "read_file", {"pat": "x"}, "arguments", "arguments"),
        ("boss", "queue_list", {}, "allowed", "all"),
    ],
)
def test_the_matrix_of_lists_holds_for_tasks_and_for_people_who_try_it(
    house: House, aiwm: Run, worker: str, tool: str, arguments: dict[str, Any], verdict: str, gate: str
) -> None:
    said = house.call(worker, tool, **arguments)
    assert said[:2] == [verdict, gate], said
    ran = aiwm("tool", "call", tool, json.dumps(arguments), "--as", worker, "--json")
    assert (ran.json["data"]["verdict"], ran.json["data"]["gate"]) == (verdict, gate)
    assert ran.code == (0 if verdict == "allowed" else 5)


def test_a_definition_without_lists_has_no_tools_at_all(house: House, aiwm: Run) -> None:
    assert house.run("nothing")["declared"] is None
    assert aiwm("tool", "call", "read_file", '{"path": "notes.txt"}', "--as", "nothing").code == 5
    assert "nothing may call no tools" in aiwm("tool", "list", "--definition", "nothing", "--allowed").err


def test_only_permitted_tools_are_declared(house: House) -> None:
    assert house.run("writer")["declared"] == ["read_file", "write_file"]
    boss = house.run("boss")["declared"]
    assert "task_submit" in boss
    assert "task_cancel" not in boss, "what is destructive is never offered"


def test_the_list_says_for_every_tool_why_not(house: House) -> None:
    rows = {row.id: row for row in house.client.call(ToolList(definition="boss"))}
    assert rows["read_file"].allowed == "allowed"
    assert rows["task_cancel"].allowed == "approval"
    assert rows["write_file"].why == "write_file is not on the allow list of worker boss"
    assert {row.allowed for row in house.client.call(ToolList())} == {"allowed", "approval", "blocked"}


def test_every_decision_is_an_event_of_its_task(house: House) -> None:
    calls = [{"tool": "read_file", "args": {"path": "notes.txt"}}, {"tool": "list_files", "args": {}}]
    ack = house.client.call(TaskSubmit(queue="writer", payload={"calls": calls}))
    wait_until(lambda: house.client.call(TaskShow(id=ack.id)).row.state == "completed", "the task ends")
    timeline = [(step.type, step.text) for step in house.client.call(TaskShow(id=ack.id)).timeline]
    assert ("tool.allowed", 'read_file {"path":"notes.txt"}') in timeline
    assert any(kind == "tool.denied" and "list_files" in text and "gate allow" in text for kind, text in timeline)
    (denied,) = [event for event in house.events("type:tool.denied") if event.task == ack.id]
    assert (denied.who, denied.level) == (f"task:{ack.id}", "warn")


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_task_reads_its_own_sources_and_no_others(house: House) -> None:
    assert house.call("writer", "read_file", path="datasource://docs/notes.txt")[2:] == [True, POEM]
    for path, said in (
        ("datasource://vault/secret.txt", "not among those of this task"),
        ("datasource://docs/../vault/secret.txt", ".."),
        ("datasource://docs/code.py", "has no"),
        ("secret.txt", "no file"),
        ("/etc/passwd", "absolute"),
    ):
        verdict, _, ok, text = house.call("writer", "read_file", path=path)
        assert (verdict, ok) == ("allowed", False)
        assert said in text
    assert house.call("rich", "read_file", path="datasource://vault/secret.txt")[3] == "the treasure"


def test_a_task_writes_into_its_own_area_only(house: House) -> None:
    calls = [
        {"tool": "write_file", "args": {"path": "out/report.txt", "content": "mine"}},
        {"tool": "read_file", "args": {"path": "out/report.txt"}},
        {"tool": "write_file", "args": {"path": "datasource://docs/new.txt", "content": "x"}},
        {"tool": "write_file", "args": {"path": "../escaped.txt", "content": "x"}},
    ]
    ack = house.client.call(TaskSubmit(queue="writer", payload={"calls": calls}))
    wait_until(lambda: house.client.call(TaskShow(id=ack.id)).row.state == "completed", "the task ends")
    said = house.client.call(TaskShow(id=ack.id)).result["said"]  # type: ignore[index]
    assert [answer[2] for answer in said] == [True, True, False, False]
    assert (house.home / "files/tasks" / ack.id / "out/report.txt").read_text() == "mine"
    assert sorted(path.name for path in (house.home / "files/docs").iterdir()) == ["code.py", "notes.txt"]
    assert not list(house.home.rglob("escaped.txt"))


def test_the_shipped_model_reads_a_file_because_its_answer_needs_it(house: House, aiwm: Run) -> None:
    ran = aiwm("task", "run", "reader", "--prompt", "Read the file notes.txt.", "--json")
    result = ran.json["data"]["result"]
    (call,) = result["tool_calls"]
    assert (call["tool"], call["arguments"], call["ok"]) == ("read_file", {"path": "notes.txt"}, True)
    assert call["text"] == POEM
    assert result["steps"] == 2
    assert json.loads(result["text"]) == {"name": "Tom", "age": 34, "city": "Paris"}, (
        "it is in the file and nowhere else"
    )
    plain = aiwm("task", "run", "reader", "--prompt", "What is 12 plus 7?", "--json").json["data"]["result"]
    assert (plain["text"], plain["steps"], plain["tool_calls"]) == ("19", 1, [])


# -- external paths --------------------------------------------------------------------------------------------------


def test_outside_the_home_only_what_the_configuration_lists(house: House, aiwm: Run) -> None:
    assert [file.id for file in house.client.call(SourceFiles(name="far")).files] == ["a.txt", "b.txt", "c.txt"]
    assert house.client.call(SourceRead(name="far", path="a.txt")).text == "a"
    for path in ("/etc", str(house.outside / "unlisted"), str(house.outside / "listed" / ".." / "unlisted")):
        ran = aiwm("source", "create", "bad", path, "--external")
        assert ran.code in (2, 5), ran
        assert "bad" not in aiwm("source", "list").out
    assert aiwm("source", "create", "bad", str(house.outside / "listed")).code in (2, 5), "and only when it says so"


def test_no_request_loosens_security() -> None:
    writing = [method for method, kind in catalogue().by_method.items() if kind.effect is not Effect.read]
    assert not [method for method in writing if method.startswith(("config.", "security.", "key."))]


def test_a_sync_copies_the_one_of_three_that_changed(house: House, aiwm: Run) -> None:
    first = house.client.call(SourceSync(name="far"))
    assert (first.copied, first.skipped) == (["a.txt", "b.txt", "c.txt"], [])
    (house.outside / "listed/b.txt").write_text("B")
    ran = aiwm("source", "sync", "far", "--json")
    assert ran.code == 0
    assert (ran.json["data"]["copied"], ran.json["data"]["skipped"]) == (["b.txt"], ["a.txt", "c.txt"])
    by_alias = aiwm("call", "syncDataSource", '{"name": "far"}', "--json").json["data"]
    assert (by_alias["copied"], by_alias["skipped"]) == ([], ["a.txt", "b.txt", "c.txt"])
    (synced,) = [event for event in house.events("type:source.synced") if event.text.startswith("1 copied")]
    assert "2 skipped, 0 failed to fm:/far" in synced.text


# -- contexts --------------------------------------------------------------------------------------------------------


def test_the_explain_screen_says_which_level_gave_what(house: House, aiwm: Run) -> None:
    call = house.client.call
    for name in ("s-queue", "s-pool", "s-template", "s-task"):
        (house.home / "files" / name).mkdir()
        call(SourceCreate(definition=DataSource(name=name, path=name)))
    call(
        PoolCreate(
            definition=PoolDefinition(name="levels", definition="rich", sources=("s-pool", "docs"), supervisor="echo")
        )
    )
    call(QueueCreate(definition=QueueDefinition(name="levels", pools=("levels",), sources=("s-queue",), paused=True)))
    call(
        TemplateCreate(definition=TaskTemplate(name="tpl", queue="levels", sources=("s-template",), supervisor="nano"))
    )
    ack = call(TaskSubmit(queue="", template="tpl", sources=("s-task",)))
    context = call(TaskContextShow(id=ack.id))
    assert [(source.source, source.level) for source in context.sources] == [
        ("docs", "definition"),
        ("vault", "definition"),
        ("s-queue", "queue"),
        ("s-pool", "pool"),
        ("s-template", "template"),
        ("s-task", "task"),
    ]
    assert context.sources[0].also == ("pool",)
    assert context.supervisor is not None
    assert (context.supervisor.supervisor, context.supervisor.level) == ("nano", "template")
    assert context.supervisor.over == ("pool", "definition")
    text = aiwm("task", "explain", ack.id, "--context").out
    assert "s-template  from template tpl" in text
    assert "supervisor  nano  from template tpl, before pool, definition" in text
    assert "not started" in text
    assert text in aiwm("task", "show", ack.id, "--context").out
    assert aiwm("task", "explain", ack.id, "--context", "--json").json["kind"] == "context"
    with pytest.raises(AiwmError) as unknown:
        call(TaskSubmit(queue="levels", sources=("nowhere",)))
    assert unknown.value.code == Code.not_found
    assert '"nowhere"' in str(unknown.value)


# -- what a task starts ----------------------------------------------------------------------------------------------


def test_a_task_hands_on_no_more_than_it_has(house: House) -> None:
    """`boss` starts a task of `rich`, which by itself may read the vault and call everything."""
    wanted = [
        {"tool": "read_file", "args": {"path": "datasource://vault/secret.txt"}},
        {"tool": "write_file", "args": {"path": "x", "content": "x"}},
        {"tool": "read_file", "args": {"path": "datasource://docs/notes.txt"}},
    ]
    answer = house.call("boss", "task_run", queue="rich", payload={"calls": wanted}, timeout_ms=30_000)
    assert answer[2], answer
    child = json.loads(answer[3])
    said = child["result"]["said"]
    assert [(verdict, ok) for verdict, _, ok, _ in said] == [
        ("allowed", False),
        ("not_allowed", False),
        ("allowed", True),
    ]
    assert "not among those of this task" in said[0][3]
    assert "task t-" in said[1][3]
    assert "read_file" in child["result"]["declared"]
    assert set(child["result"]["declared"]) <= {*WORKERS[6]["tools_allow"]}
    context = house.client.call(TaskContextShow(id=child["id"]))
    assert len(context.bounded_by) == 1
    assert [source.problem.partition(":")[0] for source in context.sources if source.source == "vault"] == ["withheld"]
    assert house.client.call(TaskShow(id=child["id"])).row.by == f"task:{context.bounded_by[0]}"


def test_what_a_worker_starts_outside_of_a_task_is_bounded_too(house: House, aiwm: Run) -> None:
    wanted = {"calls": [{"tool": "read_file", "args": {"path": "datasource://vault/secret.txt"}}]}
    ran = aiwm("tool", "call", "task_run", json.dumps({"queue": "rich", "payload": wanted}), "--as", "boss", "--json")
    child = json.loads(ran.json["data"]["text"])
    assert "not among those of this task" in child["result"]["said"][0][3]
    assert house.client.call(TaskContextShow(id=child["id"])).bounded_by == ("worker:boss",)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("task_submit", {"queue": "rich", "sources": ["vault"]}),
        ("source_read", {"name": "vault", "path": "secret.txt"}),
    ],
)
def test_a_task_reaches_no_foreign_source_through_a_request(house: House, tool: str, arguments: dict[str, Any]) -> None:
    verdict, _, ok, text = house.call("boss", tool, **arguments)
    assert (verdict, ok) == ("allowed", False)
    assert '"vault" is not among those of whoever asks' in text
    assert "treasure" not in text


# -- approvals -------------------------------------------------------------------------------------------------------


def _parked(house: House, client: BlockingClient) -> tuple[str, ApprovalRow]:
    """A waiting task, and the approval of its cancelling, as a task of `boss` asked for it."""
    client.call(QueuePause(name="rich"))
    victim = client.call(TaskSubmit(queue="rich")).id
    outcome = client.call(
        TaskRun(
            queue="boss", payload={"calls": [{"tool": "task_cancel", "args": {"ids": [victim]}}]}, timeout_ms=30_000
        )
    )
    (said,) = outcome.result["said"]  # type: ignore[index]
    assert said[:3] == ["approval", "policy", False]
    row = client.call(ApprovalList())[-1]
    assert row.id in said[3]
    assert row.by == f"task:{outcome.id}"
    assert (row.task, row.method, row.params["ids"], row.state) == (outcome.id, "task.cancel", [victim], "pending")
    return victim, row


def _state(client: BlockingClient, task: str) -> str:
    return client.call(TaskShow(id=task)).row.state


def test_a_parked_request_survives_a_kill_and_is_made_once_when_approved(
    tmp_path: Path, caller_kind: dict[str, str], home: Path
) -> None:
    with engine(home, environment=caller_kind) as running, running.client() as client:
        House(running, client, tmp_path / "nowhere").build_plain()
        victim, row = _parked(House(running, client, tmp_path), client)
        assert _state(client, victim) == "pending"
        needs = client.call(ViewRead(location=":needs", size=50)).rows
        assert [need["id"] for need in needs if need["state"] == "asks"] == [row.id]
        running.kill()
    with engine(home, environment=caller_kind) as running, running.client() as client:
        assert [it.id for it in client.call(ApprovalList())] == [row.id]
        done = client.call(ApprovalApprove(id=row.id, reason="go on"))
        assert (done.state, done.decided_by, done.reason) == ("done", "operator", "go on")
        assert done.result["cancelled"] == [victim]
        assert _state(client, victim) == "cancelled"
        assert client.call(ApprovalList()) == []
        for again in (ApprovalApprove(id=row.id), ApprovalReject(id=row.id)):
            with pytest.raises(AiwmError, match="decided once") as refused:
                client.call(again)
            assert refused.value.code == Code.conflict
        audit = [EventRow(**it) for it in client.call(ViewRead(location=":events type:task.cancel", size=9)).rows]
        assert [event.who for event in audit] == [row.by], "on behalf of whoever asked"


def test_a_rejected_request_is_never_made(house: House, aiwm: Run) -> None:
    victim, row = _parked(house, house.client)
    assert row.id in aiwm("approval", "list").out
    ran = aiwm("approval", "reject", row.id, "--reason", "not now", "--json")
    assert ran.json["data"]["state"] == "rejected"
    assert aiwm("approval", "approve", row.id).code == 1
    assert _state(house.client, victim) == "pending"
    shown = house.client.call(ApprovalShow(id=row.id))
    assert (shown.reason, shown.decided_by) == ("not now", "operator")


def test_a_request_that_nobody_decides_on_expires(tmp_path: Path, caller_kind: dict[str, str], home: Path) -> None:
    environment = {**caller_kind, "AIWM_TOOLS__APPROVAL_MS": "1500"}
    with engine(home, environment=environment) as running, running.client() as client:
        House(running, client, tmp_path / "nowhere").build_plain()
        victim, row = _parked(House(running, client, tmp_path), client)
        wait_until(lambda: client.call(ApprovalShow(id=row.id)).state == "expired", "the approval expires")
        with pytest.raises(AiwmError):
            client.call(ApprovalApprove(id=row.id))
        assert _state(client, victim) == "pending"


# -- API keys --------------------------------------------------------------------------------------------------------


KEY = "sk-THE-KEY-ITSELF-0123456789"


def test_the_text_of_a_key_is_nowhere(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inline, environment, file and vault; listed, checked, shown, reported by doctor, named by a worker, in events and logs."""
    config = tmp_path / "config.toml"
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    config.write_text(
        f'[keys.inline]\nmethod = "inline"\nvalue = "{KEY}"\nhosts = ["api.example.com"]\n'
        '[keys.env]\nmethod = "env"\nvalue = "SOME_KEY"\nhosts = ["api.example.com"]\n'
        f'[keys.file]\nmethod = "file"\npath = "{tmp_path}/key"\nhosts = ["api.example.com"]\n'
        '[keys.vault]\nmethod = "vault"\nhosts = ["api.example.com"]\n[keys.gone]\nmethod = "env"\nvalue = "NOT_SET"\n'
    )
    environment = {"AIWM_CONFIG": str(config), "SOME_KEY": KEY, "AIWM_VAULT_PASSPHRASE": "a passphrase"}
    said = _set_key(home, environment)
    run = in_process(capsys)
    with engine(home, environment=environment) as running, running.client():
        workers = [*WORKERS[:2], {"name": "keyed", "model": "aiwm-nano", "key": "inline"}]
        (home / "ai_worker_definitions.json").write_text(json.dumps({"workers": workers}))

        def aiwm(*arguments: str) -> str:
            ran = run(*arguments, "--home", str(home))
            return ran.out + ran.err

        statuses = {name: aiwm("key", "check", name) for name in ("inline", "env", "file", "vault", "gone")}
        assert all("Found" in statuses[name] for name in ("inline", "env", "file", "vault")), statuses
        assert "Not Found" in statuses["gone"]
        said += (
            "".join(statuses.values()) + aiwm("worker", "reload") + aiwm("key", "list") + aiwm("key", "check", "none")
        )
        for command in (
            "doctor",
            "config show --origin",
            "worker show keyed",
            "events search",
            "engine status",
            "tool list",
        ):
            said += aiwm(*command.split()) + aiwm(*command.split(), "--json")
        assert "(hidden)" in said
        assert "keyed" in aiwm("key", "list")
        said += aiwm("task", "run", "demo", "--prompt", "What is 1 plus 1?", "--json")
        said += (running.log).read_text()
    assert KEY not in said
    hidden = KEY.encode()
    for path in home.rglob("*"):
        if path.is_file():
            assert hidden not in path.read_bytes(), path
    with sqlite3.connect(home / "aiwm.db") as database:
        assert hidden not in b"".join(line.encode() for line in database.iterdump())


def _set_key(home: Path, environment: dict[str, str]) -> str:
    """`aiwm key set` as a script would use it: the key through a pipe."""
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "aiwm_tui.main", "key", "set", "vault", "--home", str(home)],
        input=KEY,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=True,
    )
    return ran.stdout + ran.stderr


def test_a_worker_whose_key_is_missing_does_not_begin(house: House, aiwm: Run) -> None:
    workers = [*WORKERS, {"name": "keyed", "model": "aiwm-nano", "key": "late"}]
    (house.home / "ai_worker_definitions.json").write_text(json.dumps({"workers": workers}))
    assert not house.client.call(WorkerReload()).errors
    make_queue(house.client, "keyed", definition="keyed")
    outcome = house.client.call(TaskRun(queue="keyed", payload={"prompt": "hello"}, timeout_ms=30_000))
    assert outcome.error is not None
    assert outcome.error.code == Code.key_not_found
    assert outcome.error.message == 'the API key "late" is Not Found: the environment variable NOT_SET is not set'
    assert outcome.error.fix == "aiwm key check late"
    assert "late" in aiwm("doctor").out


def test_a_chat_has_the_tools_of_its_definition(house: House) -> None:
    spawned = house.client.call(InstanceSpawn(definition="reader")).row
    assert spawned is not None
    turn = house.client.call(InstanceChat(id=spawned.id, message="Read the file notes.txt."))
    assert json.loads(turn.text) == {"name": "Tom", "age": 34, "city": "Paris"}
    (event,) = [event for event in house.events("type:tool.allowed") if event.who == f"instance:{spawned.id}/reader"]
    assert "notes.txt" in event.text
