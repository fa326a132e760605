"""Fingerprints: failures alike are one, whatever they name; failures of another sort are not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.requests.failures import FailureList, FailureShow
from engine.contract.requests.tasks import TaskList, TaskSubmit
from engine.control.failures import fingerprint, whole
from engine.workers.kinds.template import TemplateWorker
from engine.workers.template import TaskInput, TaskOutput, WorkerContext
from tests.support.room import Room

ALIKE = [
    ('output is not JSON: "abc" at 3', "output is not JSON: “def” at 12"),
    ("t-4hq7x waited for t-10001", "t-zzzzz waited for t-10abc"),
    ("cannot read /home/a/x.json: no such file", "cannot read /srv/b.json: no such file"),
    ("cannot read ~/x", "cannot read ../y/z"),
    ("took 12.5 s of 30", "took 1e9 s of 7"),
    ("digest 3f09ab12cd differs", "digest 00ff12aa98b7 differs"),
    ("at 0x7ffe12 in worker", "at 0x1 in worker"),
    ("Out  of\nmemory", "out of memory"),
]
DIFFERENT = [
    ("output is not JSON", "output is not XML"),
    ("cannot read /a: no such file", "cannot read /a: permission denied"),
    ("it waited for t-10001, which is failed", "it waited for t-10001, which is cancelled"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_ids_numbers_paths_and_quoted_text_do_not_tell_failures_apart(one: str, other: str) -> None:
    assert fingerprint("task_failed", one, "nano") == fingerprint("task_failed", other, "nano")


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_words_codes_and_definitions_do(one: str, other: str) -> None:
    assert fingerprint("task_failed", one, "nano") != fingerprint("task_failed", other, "nano")
    assert fingerprint("task_failed", one, "nano") != fingerprint("model_crashed", one, "nano")
    assert fingerprint("task_failed", one, "nano") != fingerprint("task_failed", one, "other")


@given(st.text(max_size=300))
def test_any_message_has_a_fingerprint(message: str) -> None:
    found = fingerprint("c", message, None)
    assert len(found) == 8
    assert found.startswith("F-")


def test_an_error_without_a_fix_gets_a_command() -> None:
    assert whole(ErrorInfo(code="task_failed", message="x"), 1).fix == "aiwm task show t-10001"
    assert whole(ErrorInfo(code="task_failed", message="x", retryable=True), 1).fix == "aiwm task retry t-10001"
    assert whole(ErrorInfo(code="no_such_code", message="x", fix="do this"), 1).fix == "do this"
    assert (whole(ErrorInfo(code="prompt_too_long", message="x"), 1).fix or "").startswith(
        "aiwm task retry t-10001 --set"
    )


@pytest.fixture
async def room(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    async def broken(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
        raise ValueError(f'"{task.id}" is not number {task.payload["n"]}' if "n" in task.payload else "no number")

    monkeypatch.setattr(TemplateWorker, "process", broken)
    made = Room(home)
    await made.manager.start(dispatch=True)
    yield made
    await made.close()


async def test_failures_alike_are_one_line_with_what_they_have_in_common(room: Room) -> None:
    ids = [(await room.call(TaskSubmit(queue="q", payload={"n": n}, max_attempts=1))).id for n in range(12)]
    other = (await room.call(TaskSubmit(queue="q", max_attempts=1))).id
    for identifier in (*ids, other):
        outcome = await room.outcome(identifier)
        assert outcome.error is not None
        assert outcome.error.fix is not None
    rows = {row.count: row for row in await room.call(FailureList())}
    assert set(rows) == {12, 1}
    folded = await room.call(FailureShow(id=rows[12].id))
    assert folded.failed_now == 12
    assert set(folded.tasks) == set(ids)
    assert {(it.field, it.value, it.count) for it in folded.common} >= {("definition", "echo", 12), ("queue", "q", 12)}
    page = await room.call(TaskList(where=f"fail:{rows[12].id}"))
    assert {row.id for row in page.rows} == set(ids)
    assert {row.fail for row in page.rows} == {rows[12].id}
    firsts = [event for event in room.store.readers.events_of(1) if event.type == "failure.first"]
    assert len(firsts) == 1


async def test_a_failure_is_found_by_the_beginning_of_its_name_and_counted_on_after_a_restart(
    room: Room, home: Path
) -> None:
    await room.outcome((await room.call(TaskSubmit(queue="q", payload={"n": 1}, max_attempts=1))).id)
    (row,) = await room.call(FailureList())
    assert (await room.call(FailureShow(id=row.id[:5]))).row.id == row.id
    with pytest.raises(AiwmError, match="failure list"):
        await room.call(FailureShow(id="F-"))
    room.manager.desk.failures._recent.clear()
    await room.outcome((await room.call(TaskSubmit(queue="q", payload={"n": 2}, max_attempts=1))).id)
    (again,) = await room.call(FailureList())
    assert (again.count, again.first_ms) == (2, row.first_ms)


async def test_what_could_not_be_stored_of_a_failure_was_not_counted(room: Room) -> None:
    failures, error = room.manager.desk.failures, ErrorInfo(code=Code.task_failed, message="no luck")
    _, lost = failures.note(1, "q", "echo", error, 0)
    room.manager._storage_failed(AiwmError(Code.storage_failed, "no space left"))
    _, again = failures.note(1, "q", "echo", error, 0)
    assert again == lost
    room.manager._storage_recovered()
