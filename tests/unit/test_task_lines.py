"""The page of a task as lines: where settings come from, the timeline with what is to come, facts, tool calls."""

from __future__ import annotations

from typing import Any

from aiwm_tui.live.text import plain
from aiwm_tui.screens.tasks.facts import asked_lines, row_facts, tool_lines
from aiwm_tui.screens.tasks.settings import Given, setting_lines, settings
from aiwm_tui.screens.tasks.timeline import Usual, timeline, usual
from engine.contract.definitions import AdapterUse, QueueDefinition, Sampling, TaskTemplate, WorkerDefinition
from engine.contract.records import TaskDetail, TimelineStep
from engine.contract.states import Durability
from tests.support.rows import task_row

NOW = 1_795_144_061_000
WORKER = WorkerDefinition(
    name="nano",
    model="aiwm-nano",
    sampling=Sampling(temperature=0.2, stop=("END",)),
    adapters=(AdapterUse(name="invoice-de@v4", weight=0.5),),
)
QUEUE = QueueDefinition(name="etl", default_priority=5, durability=Durability.os)
TEMPLATE = TaskTemplate(name="invoice", priority=8, defaults={"max_tokens": 2048})


def _detail(row: Any, *steps: tuple[int, str, str], **more: Any) -> TaskDetail:
    told = tuple(TimelineStep(at_ms=at, type=kind, text=text) for at, kind, text in steps)
    return TaskDetail(row=row, payload=more.pop("payload", {"prompt": "x"}), timeline=told, **more)


def test_each_setting_says_which_level_gave_it() -> None:
    row = task_row(queue="etl", priority=8, max_attempts=3, template="invoice")
    payload = {"prompt": "x", "max_tokens": 2048, "seed": 7}
    found = {it.label: (it.value, it.origin) for it in settings(row, payload, Given(WORKER, TEMPLATE, QUEUE))}
    assert found == {
        "model": ("aiwm-nano", "definition nano"),
        "temperature": ("0.2", "definition nano"),
        "max output": ("2048", "template invoice"),
        "seed": ("7", "task"),
        "stop": ('["END"]', "definition nano"),
        "adapters": ("invoice-de@v4 w 0.5", "definition nano"),
        "prio": ("8", "template invoice"),
        "attempts": ("3", "queue etl"),
        "kept on": ("os", "queue etl"),
    }
    plainly = WorkerDefinition(name="plain", model="m")
    said = {it.label: it.origin for it in settings(task_row(priority=5), None, Given(plainly, None, QUEUE))}
    assert said["temperature"] == said["max output"] == "built in"
    assert said["prio"] == "queue etl"
    assert "top p" not in said
    assert [it.label for it in settings(task_row(priority=1), {}, Given())] == ["prio"]
    assert settings(task_row(priority=1), {}, Given())[0].origin == "task"


def test_settings_of_strangers_are_written_harmlessly() -> None:
    payload = {"stop": ["\x1b[31m[bold]"], "adapters": ["not a use"], "temperature": {"a": 1}}
    lines = setting_lines(settings(task_row(), payload, Given(WORKER)), 60)
    text = "\n".join(plain(line) for line in lines)
    assert "\x1b" not in text
    assert "[bold]" in text
    assert '{"a":1}' in text


def test_the_timeline_has_the_first_token_and_its_tools() -> None:
    row = task_row(
        state="completed", submitted_ms=NOW - 60_000, started_ms=NOW - 9_000, ended_ms=NOW - 1_000, tokens_in=1204
    )
    detail = _detail(
        row,
        (NOW - 60_000, "task.submitted", "to etl"),
        (NOW - 9_000, "task.started", "attempt 1 on i-01"),
        (NOW - 6_000, "tool.allowed", "file.read inv-2026/0431.txt"),
        (NOW - 5_000, "tool.denied", "file.write x (gate deny)"),
        (NOW - 1_000, "task.completed", ""),
        result={"text": "x", "first_token_ms": 500.0},
    )
    lines = [plain(line) for line in timeline(detail, row, None, NOW)]
    assert [line.split()[1] for line in lines] == ["submitted", "started", "first", "tool", "tool", "completed"]
    assert lines[0].endswith("to etl  51.0s")
    assert "after 500ms, prompt of 1,204 tokens" in lines[2]
    assert "denied: file.write" in lines[4]


def test_a_running_task_says_what_is_to_be_expected() -> None:
    row = task_row(state="processing", started_ms=NOW - 9_000, tokens_out=388)
    detail = _detail(row, (NOW - 9_000, "task.started", "attempt 1 on i-01"), deadline_ms=NOW + 199_000)
    lines = [plain(line) for line in timeline(detail, row, Usual(30, 500.0, 12_000.0), NOW)]
    assert "writing     388 tokens so far" in lines[1]
    assert "done        expected: 12.0s is the median of 30 like it" in lines[2]
    assert "deadline    in 3m19s" in lines[3]
    late = [plain(line) for line in timeline(detail, row, Usual(30, 500.0, 4_000.0), NOW)]
    assert "5s more than usual" in late[2]
    unknown = [plain(line) for line in timeline(detail, row, Usual(0), NOW)]
    assert len(unknown) == 3


def test_what_is_usual_are_medians_of_what_is_known() -> None:
    rows: list[dict[str, object]] = [{"tokens_out": value, "duration_ms": None} for value in (5, 900, 7)]
    assert usual(rows) == Usual(3, 7.0, None)
    assert usual([]) == Usual(0)


def test_facts_say_what_made_the_answer() -> None:
    row = task_row(state="completed", submitted_ms=NOW - 3_000, started_ms=NOW - 2_000, ended_ms=NOW, cost_usd=0.0012)
    result = {
        "adapters": [{"name": "invoice-de@v4", "digest": "9b77c2aa11", "weight": 0.5}, "odd"],
        "route": ["far: chosen by policy", "near"],
        "steps": 2,
        "tool_calls": [
            {"tool": "file.read", "arguments": {"path": "a"}, "ok": True, "ms": 4.0, "verdict": "allowed"},
            {"tool": "file.write", "arguments": {}, "ok": False, "verdict": "denied", "gate": "deny"},
            "\x1b[2J",
        ],
    }
    detail = _detail(
        row, result=result, idempotency_key="k-1", capabilities=("json",), payload={"schema": {"title": "v2"}}
    )
    text = "\n".join(plain(line) for line in row_facts(row, detail, NOW))
    for words in ("invoice-de@v4 9b77c2aa w 0.5", "odd", "far: chosen by policy → near", "$0.0012", "waited 1.0s"):
        assert words in text
    assert "3 tool calls in 2 model calls" in text
    assert "schema v2" in text
    assert "k-1" in text
    calls = [plain(line) for line in tool_lines(detail, 80)]
    assert calls[2] == '  1 ✓ file.read {"path":"a"}  4ms'
    assert calls[3] == "  2 ✗ file.write denied (deny) {}"
    assert "\x1b" not in calls[4]
    assert tool_lines(_detail(row, result={"tool_calls": "x"}), 80) == []


def test_what_was_asked_is_the_prompt_first() -> None:
    assert [plain(line) for line in asked_lines({"prompt": "a\nb"}, 40)] == ["a", "b"]
    more = [plain(line) for line in asked_lines({"prompt": "a", "seed": 1}, 40)]
    assert more == ["a", "", "{", '  "seed": 1', "}"]
    assert [plain(line) for line in asked_lines([1], 40)] == ["[", "  1", "]"]
