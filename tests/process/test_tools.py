"""Tools with a real engine: what may be called, which files are read and written, what a task hands on (spec §6, 4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.contract.requests.context import TaskContextShow
from engine.contract.requests.instances import InstanceChat, InstanceSpawn
from engine.contract.requests.tasks import TaskShow, TaskSubmit
from engine.contract.requests.tools import ToolList
from tests.support.cli import Run
from tests.support.engines import wait_until
from tests.support.house import POEM, WORKERS, House

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
    house: House, in_house: Run, worker: str, tool: str, arguments: dict[str, Any], verdict: str, gate: str
) -> None:
    said = house.call(worker, tool, **arguments)
    assert said[:2] == [verdict, gate], said
    ran = in_house("tool", "call", tool, json.dumps(arguments), "--as", worker, "--json")
    assert (ran.json["data"]["verdict"], ran.json["data"]["gate"]) == (verdict, gate)
    assert ran.code == (0 if verdict == "allowed" else 5)


def test_a_definition_without_lists_has_no_tools_at_all(house: House, in_house: Run) -> None:
    assert house.run("nothing")["declared"] is None
    assert in_house("tool", "call", "read_file", '{"path": "notes.txt"}', "--as", "nothing").code == 5
    assert "nothing may call no tools" in in_house("tool", "list", "--definition", "nothing", "--allowed").err


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


def test_the_shipped_model_reads_a_file_because_its_answer_needs_it(house: House, in_house: Run) -> None:
    ran = in_house("task", "run", "reader", "--prompt", "Read the file notes.txt.", "--json")
    result = ran.json["data"]["result"]
    (call,) = result["tool_calls"]
    assert (call["tool"], call["arguments"], call["ok"]) == ("read_file", {"path": "notes.txt"}, True)
    assert call["text"] == POEM
    assert result["steps"] == 2
    assert json.loads(result["text"]) == {"name": "Tom", "age": 34, "city": "Paris"}, (
        "it is in the file and nowhere else"
    )
    plain = in_house("task", "run", "reader", "--prompt", "What is 12 plus 7?", "--json").json["data"]["result"]
    assert (plain["text"], plain["steps"], plain["tool_calls"]) == ("19", 1, [])


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


def test_what_a_worker_starts_outside_of_a_task_is_bounded_too(house: House, in_house: Run) -> None:
    wanted = {"calls": [{"tool": "read_file", "args": {"path": "datasource://vault/secret.txt"}}]}
    ran = in_house(
        "tool", "call", "task_run", json.dumps({"queue": "rich", "payload": wanted}), "--as", "boss", "--json"
    )
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


def test_a_chat_has_the_tools_of_its_definition(house: House) -> None:
    spawned = house.client.call(InstanceSpawn(definition="reader")).row
    assert spawned is not None
    turn = house.client.call(InstanceChat(id=spawned.id, message="Read the file notes.txt."))
    assert json.loads(turn.text) == {"name": "Tom", "age": 34, "city": "Paris"}
    (event,) = [event for event in house.events("type:tool.allowed") if event.who == f"instance:{spawned.id}/reader"]
    assert "notes.txt" in event.text
