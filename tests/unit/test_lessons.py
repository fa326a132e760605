"""Lessons: versions, matching, and how they come into prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.contract.definitions import WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.records import LessonRow
from engine.contract.records.knowledge import LessonContext
from engine.contract.requests.lessons import LessonDelete, LessonList, LessonQuery, LessonShow, LessonSubmit
from engine.contract.requests.tasks import TaskShow, TaskSubmit
from engine.contract.states import TaskState
from engine.knowledge.matching import MAX_LESSONS, Facts, chosen, fits, given, wording
from engine.ports import Message
from engine.workers.prompting import taught
from tests.support.manager import House, Model
from tests.support.stored import T0
from tests.support.waiting import until

NANO = WorkerDefinition(name="nano", model="m", system="be good", capabilities=("text", "de"))
PLAIN = WorkerDefinition(name="plain", model="m")


def facts(payload: Any = None, error: str = "", **more: Any) -> Facts:
    values: dict[str, Any] = {"template": "invoice", "queue": "etl", "definition": "nano"}
    return Facts(
        **(values | more), capabilities=frozenset({"text", "de"}), payload=lambda: payload or {}, error=lambda: error
    )


def row(identifier: str = "L-1", confidence: float = 0.5, insight: str = "insight", **context: Any) -> LessonRow:
    return LessonRow(
        id=identifier,
        title="title",
        insight=insight,
        confidence=confidence,
        version=1,
        by="operator",
        created_ms=T0,
        updated_ms=T0,
        **context,
    )


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (LessonContext(queue="etl"), True),
        (LessonContext(queue="ETL"), False),
        (LessonContext(queue="etl", template="invoice", definition="nano"), True),
        (LessonContext(queue="etl", template="mail"), False),
        (LessonContext(capabilities=("de",)), True),
        (LessonContext(capabilities=("de", "fr")), False),
        (LessonContext(payload={"country": "DE"}), True),
        (LessonContext(payload={"country": "d*"}), True),
        (LessonContext(payload={"customer.size": "12"}), True),
        (LessonContext(payload={"customer": "*12*"}), True),
        (LessonContext(payload={"customer.name": "*"}), False),
        (LessonContext(payload={"country.code": "DE"}), False),
        (LessonContext(error="IBAN"), True),
        (LessonContext(error="*iban*short*"), True),
        (LessonContext(error="timeout"), False),
    ],
)
def test_a_lesson_fits_when_everything_it_says_does(context: LessonContext, expected: bool) -> None:
    payload = {"country": "DE", "customer": {"size": 12}}
    assert fits(context, facts(payload, "task_failed: the iban is too short")) is expected


def test_a_lesson_about_an_error_is_not_for_tasks_without_one() -> None:
    assert not fits(LessonContext(error="iban"), facts())


def test_the_special_come_before_the_sure_and_these_before_the_old() -> None:
    rows = [
        row("L-1", 0.9, queue="etl"),
        row("L-2", 0.1, queue="etl", template="invoice"),
        row("L-3", 0.95, queue="etl"),
        row("L-4", 1.0, queue="other"),
    ]
    assert [it.id for it in chosen(rows, facts())] == ["L-2", "L-3", "L-1"]


def test_a_prompt_gets_as_many_as_it_has_room_for() -> None:
    rows = [row(f"L-{number}", queue="etl") for number in range(9)]
    assert len(given(rows, 10_000)) == MAX_LESSONS
    size = len(wording(rows[0]))
    assert [it.id for it in given(rows, 2 * size + 1)] == ["L-0", "L-1"]
    assert [it.id for it in given([row("L-9", insight="x" * 100, queue="etl"), *rows], size)] == ["L-0"]
    assert given(rows, 0) == ()


def test_lessons_stand_at_the_end_of_the_system_message_or_are_one() -> None:
    lessons = given([row(insight="a\n\nb", queue="etl")], 1_000)
    user = Message(role="user", content="u")
    assert taught((user,), ()) == (user,)
    alone = taught((user,), lessons)
    assert [it.role for it in alone] == ["system", "user"]
    assert "[L-1] title: a b" in alone[0].content
    both = taught((Message(role="system", content="s"), user), lessons)
    assert [it.role for it in both] == ["system", "user"]
    assert both[0].content.startswith("s\n\n")


async def test_a_lesson_is_in_the_next_matching_prompt_and_in_no_other(home: Path) -> None:
    async with House(home, NANO, PLAIN, model=Model(None), pool=1) as house:
        lesson = LessonSubmit(
            title="IBAN", insight="22 characters", context=LessonContext(queue="nano"), steps=("count",)
        )
        told = await house.call(lesson)
        assert (told.id, told.version) == ("L-1", 1)
        task, other = await house.submit("nano", prompt="x"), await house.submit("plain", prompt="x")
        outcome = await house.outcome(task)
        assert (await house.outcome(other)).state == "completed"
        assert [("22 characters (1) count" in it.messages[0].content) for it in house.model.asked] == [True, False]
        assert house.model.asked[0].messages[0].content.startswith("be good\n\n")
        assert outcome.result is not None
        assert outcome.result["lessons"] == ["L-1@1"]
        detail = await house.call(TaskShow(id=task))
        assert [(it.id, it.version, it.title) for it in detail.notes.lessons] == [("L-1", 1, "IBAN")]
        assert (await house.call(TaskShow(id=other))).notes.lessons == ()


async def test_versions_are_kept_and_tasks_remember_theirs(home: Path) -> None:
    async with House(home, NANO, model=Model(None), pool=1) as house:
        context = LessonContext(definition="nano")
        await house.call(LessonSubmit(title="first", insight="one", context=context))
        task = await house.submit("nano", prompt="x")
        await house.outcome(task)
        told = await house.call(LessonSubmit(id="L-1", title="second", insight="two", context=context, confidence=0.9))
        assert told.version == 2
        detail = await house.call(LessonShow(id="L-1"))
        assert (detail.row.title, detail.row.version, [it.title for it in detail.earlier]) == ("second", 2, ["first"])
        assert detail.row.created_ms == detail.earlier[0].created_ms
        assert (await house.call(TaskShow(id=task))).notes.lessons[0].version == 1
    # They outlast the engine.
    async with House(home, NANO, model=Model(None), pool=1) as house:
        assert [it.title for it in await house.call(LessonList(where="confidence>0.8"))] == ["second"]
        assert await house.call(LessonList(where="queue:etl")) == []
        assert [it.id for it in await house.call(LessonQuery(definition="nano"))] == ["L-1"]
        assert [it.id for it in await house.call(LessonQuery(task=task))] == ["L-1"]
        await house.call(LessonDelete(id="L-1"))
        assert await house.call(LessonList()) == []
        assert house.store.readers.documents("lesson_version") == []
        again = LessonSubmit(title="third", insight="three", context=LessonContext(definition="nano"))
        assert (await house.call(again)).id == "L-2", "a deleted lesson's id is not used again"


async def test_capabilities_of_a_definition_count_for_queries(home: Path) -> None:
    async with House(home, NANO, PLAIN) as house:
        lesson = LessonSubmit(title="German", insight="umlauts", context=LessonContext(capabilities=("de",)))
        await house.call(lesson)
        assert [it.id for it in await house.call(LessonQuery(definition="nano"))] == ["L-1"]
        assert await house.call(LessonQuery(definition="plain")) == []
        found = await house.call(LessonQuery(definition="plain", capabilities=("de",)))
        assert [it.id for it in found] == ["L-1"]


async def test_a_lesson_about_an_error_is_for_the_retry(home: Path) -> None:
    async with House(home, NANO, model=Model(None), pool=1) as house:
        await house.call(LessonSubmit(title="calm", insight="slow down", context=LessonContext(error="overload")))
        house.model.fails = AiwmError(Code.model_crashed, "overloaded", retryable=True)
        task = (await house.call(TaskSubmit(queue="nano", payload={"prompt": "x"}, max_attempts=2))).id
        await until(lambda: house.manager.tally.count("nano", TaskState.retrying) == 1)
        house.model.fails = None
        house.jump(10_000)
        await house.outcome(task)
        assert ["slow down" in it.messages[0].content for it in house.model.asked] == [False, True]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"title": " "}, "title"),
        ({"title": "x" * 121}, "title"),
        ({"insight": ""}, "insight"),
        ({"steps": ("ok", "x" * 301)}, "steps"),
        ({"context": LessonContext()}, "context"),
        ({"context": LessonContext(queue="x" * 65)}, "context.queue"),
        ({"context": LessonContext(payload={"a": "x" * 200})}, "context.payload"),
        ({"confidence": 1.1}, "confidence"),
        ({"evidence": ("t-1",)}, "evidence"),
        ({"id": "L-9"}, "id"),
    ],
)
async def test_what_is_wrong_with_a_lesson_is_said_by_its_field(home: Path, more: dict[str, Any], field: str) -> None:
    values: dict[str, Any] = {"title": "t", "insight": "i", "context": LessonContext(queue="q")}
    async with House(home, PLAIN) as house:
        with pytest.raises(AiwmError) as caught:
            await house.call(LessonSubmit(**(values | more)))
    assert caught.value.info.field == field
