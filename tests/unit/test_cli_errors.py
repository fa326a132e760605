"""Mistakes on the command line, errors of the engine, and text that nobody should trust, against a stand-in engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract.errors import AiwmError, Code
from engine.contract.records import (
    TaskDetail,
)
from engine.contract.requests.tasks import TaskPage
from engine.contract.why import Gate, Why
from tests.support.cli import (
    EVIL,
    Run,
)
from tests.support.fake_engine import FakeEngine
from tests.support.rows import task_row


def test_hostile_text_moves_no_cursor(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers |= {
        "task.list": TaskPage(rows=[task_row(reason=EVIL, queue=EVIL), task_row(2)], total=2),
        "task.show": TaskDetail(row=task_row(reason=EVIL), payload={"prompt": EVIL}, result={"text": EVIL}),
        "task.explain": Why(
            scope="task", about=EVIL, moving=False, summary=EVIL, gates=(Gate(name=EVIL, closed=True),)
        ),
        "queue.show": AiwmError(Code.not_found, EVIL, fix=EVIL),
    }
    for line in ("task list", "task show t-10001", "task explain t-10001", "queue show x"):
        ran = aiwm(*line.split())
        for character in "\x1b\x07\x9b\u202e":
            assert character not in ran.out + ran.err
    assert aiwm("task", "list").out.count("\n") == 3
    assert aiwm("task", "list", "--json").json["data"][0]["reason"] == EVIL


@pytest.mark.parametrize("line", ["batch export b", "task export --where x:y", "perf export x:y"])
def test_a_refused_export_leaves_the_file_that_is_there(
    aiwm: Run, engine: FakeEngine, tmp_path: Path, line: str
) -> None:
    refused = AiwmError(Code.bad_request, "no")
    engine.answers |= {"batch.results": refused, "task.export": refused, "perf.list": refused}
    out = tmp_path / "out"
    out.write_text("results of a night")
    assert aiwm(*line.split(), "--out", str(out)).code == 2
    assert out.read_text() == "results of a night"


def test_wide_characters_keep_columns_aligned(aiwm: Run, engine: FakeEngine) -> None:
    from rich.cells import cell_len

    rows = [task_row(queue="日本語", reason="A"), task_row(2, queue="ab", reason="A")]
    engine.answers["task.list"] = TaskPage(rows=rows, total=2)
    lines = aiwm("task", "list").out.splitlines()
    assert {cell_len(line[: line.rindex("A")]) for line in lines[1:]} == {cell_len(lines[1][: lines[1].rindex("A")])}


def test_an_empty_list_says_what_would_fill_it(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers["task.list"] = TaskPage(rows=[], total=0)
    ran = aiwm("task", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "aiwm task submit" in ran.err
    assert aiwm("task", "list", "--json").json == {"v": 1, "kind": "tasks", "data": [], "total": 0}


def test_errors_of_the_engine_keep_their_code(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers["task.submit"] = AiwmError(
        Code.not_found, 'queue "dmo" does not exist', field="queue", fix='did you mean "demo"?'
    )
    ran = aiwm("task", "submit", "dmo", "--prompt", "x", "--json")
    assert ran.out == ""
    assert ran.error == {
        "v": 1,
        "kind": "error",
        "code": "not_found",
        "message": 'queue "dmo" does not exist',
        "field": "queue",
        "fix": 'did you mean "demo"?',
    }
    assert ran.code == 2
    assert (
        aiwm("task", "submit", "dmo", "--prompt", "x").err
        == 'aiwm: queue "dmo" does not exist (did you mean "demo"?)\n'
    )


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["tsk"], 2, "task"),
        (["task", "lst"], 2, "list"),
        (["task", "list", "--jsn"], 2, "--json"),
        (["task", "submit"], 2, "QUEUE"),
        (["task", "submit", "demo", "--priority", "high"], 2, "--priority"),
        (["task", "submit", "demo", "--payload", '{"prompt": "x",}'], 2, "column 16"),
        (["task", "submit", "demo", "--payload", "[1]"], 2, "must be a JSON object"),
        (["task", "submit", "demo", "--payload", '{"x": NaN}'], 2, "NaN"),
        (["task", "submit", "demo", "--payload", '{"prompt": "x"}', "--prompt", "y"], 2, "already"),
        (["task", "submit", "demo", "--due", "soon"], 2, "--due"),
        (["task", "run", "demo", "--timeout", "later"], 2, "--timeout"),
        (["queue", "create", "x", "--durability", "stone"], 2, "disk"),
        (["call", "queue.lst"], 2, "queue.list"),
        (["call", "queue.show", "{}"], 2, "name"),
        (["call", "queue.show", '{"nam": "x"}'], 2, "name"),
        (["call", "queue.show", '{"name": 3}'], 2, "expected"),
        (["why", ":tasks state:failed"], 2, "one task"),
        (["engine", "attach"], 2, "--stdio"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_on_the_command_line(aiwm: Run, engine: FakeEngine, line: list[str], code: int, words: str) -> None:
    ran = aiwm(*line)
    assert ran.code == code
    assert ran.out == ""
    assert ran.err.startswith("aiwm: ")
    assert ran.err.count("\n") == 1
    assert words in ran.err
    as_json = aiwm(*line, "--json")
    assert as_json.code == code
    assert as_json.error["kind"] == "error"
    assert set(as_json.error) == {"v", "kind", "code", "message", "field", "fix"}


def test_people_are_told_the_option_that_they_typed_and_programs_the_field(aiwm: Run, engine: FakeEngine) -> None:
    text = "changes.max_total: 0 must lie between 1 and 1000"
    engine.answers["pool.update"] = AiwmError(Code.definition_invalid, text, field="changes.max_total")
    line = ("pool", "update", "demo", "--max-total", "0")
    assert "--max-total: 0 must lie" in aiwm(*line).err
    assert '"field":"changes.max_total"' in aiwm(*line, "--json").err


def test_only_the_field_itself_is_put_in_other_words(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers["queue.show"] = AiwmError(Code.not_found, 'queue name "x" is named by nobody', field="name")
    assert 'queue NAME "x" is named by nobody' in aiwm("queue", "show", "x").err
