"""Templates at submit: what is merged, what is filled in, and what a violation says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.definitions import TaskTemplate
from engine.contract.errors import AiwmError
from engine.contract.requests.tasks import TaskShow, TaskSubmit
from engine.control.templating import Templating, compile_schema, deep_merge, with_defaults
from tests.support.room import Room

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


@pytest.fixture
async def room(home: Path) -> AsyncIterator[Room]:
    made = Room(home)
    await made.manager.start(dispatch=False)
    yield made
    await made.close()


@given(OBJECTS, OBJECTS)
def test_what_is_said_wins_and_nothing_else_is_lost(under: dict[str, Any], over: dict[str, Any]) -> None:
    before = msgspec.json.encode(under)
    merged = deep_merge(under, over)
    assert merged.keys() == under.keys() | over.keys()
    for key, value in over.items():
        if not isinstance(value, dict):
            assert merged[key] == value
    assert all(merged[key] == value for key, value in under.items() if key not in over)
    assert deep_merge(merged, over) == merged
    assert msgspec.json.encode(under) == before


def test_null_replaces_and_objects_merge_deeply() -> None:
    under = {"a": {"x": 1, "y": {"z": 2}}, "b": 1}
    assert deep_merge(under, {"a": {"y": {"w": 3}}, "b": None}) == {"a": {"x": 1, "y": {"z": 2, "w": 3}}, "b": None}


def test_defaults_of_a_schema_reach_into_objects_and_lists_but_replace_nothing() -> None:
    item = {"type": "object", "properties": {"n": {"default": 1}}}
    schema = {"properties": {"items": {"type": "array", "items": item}, "o": item, "absent": item}}
    filled = with_defaults(schema, {"items": [{}, {"n": None}], "o": {}})
    assert filled == {"items": [{"n": 1}, {"n": None}], "o": {"n": 1}}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "nonsense"}, "payload_schema.type"),
        ({"$ref": "http://127.0.0.1:9/x.json"}, "nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
        ({"properties": []}, "payload_schema.properties"),
    ],
)
def test_a_schema_that_is_none_or_points_elsewhere_is_refused(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(AiwmError) as caught:
        compile_schema(schema)
    assert caught.value.code == "definition_invalid"
    assert said in str(caught.value)


async def test_a_submit_gets_what_its_template_says_unless_it_says_otherwise(room: Room) -> None:
    ack = await room.call(TaskSubmit(template="part", payload={"count": 2, "size": {"unit": "in"}}))
    task = await room.call(TaskShow(id=ack.id))
    assert task.payload == {"material": "steel_grade_a", "count": 2, "size": {"unit": "in", "round": True}}
    assert (task.row.queue, task.row.priority, task.row.template) == ("q", 7, "part")
    ack = await room.call(
        TaskSubmit(template="part", queue="still", priority=0, payload={"count": 2, "material": "oak"})
    )
    task = await room.call(TaskShow(id=ack.id))
    assert (task.row.queue, task.row.priority, task.payload["material"]) == ("still", 0, "oak")


@pytest.mark.parametrize(
    ("payload", "field", "said", "fix"),
    [
        ({}, "payload.count", "is missing", '"count": 1'),
        ({"count": "two"}, "payload.count", '"two" is not of type "integer"', "a value of type integer"),
        ({"count": 0}, "payload.count", "0 is less than the minimum of 1", "the limit is 1"),
        ({"count": 1, "materiel": "x"}, "payload.materiel", "not a field", 'did you mean "material"?'),
        ({"count": 1, "size": 3}, "payload.size", '3 is not of type "object"', "a value of type object"),
    ],
)
async def test_a_violation_names_the_field_its_value_and_the_fix(
    room: Room, payload: dict[str, Any], field: str, said: str, fix: str
) -> None:
    with pytest.raises(AiwmError) as caught:
        await room.call(TaskSubmit(template="part", payload=payload))
    error = caught.value.info
    assert (error.code, error.field, error.fix) == ("payload_invalid", field, fix)
    assert said in error.message


@pytest.mark.parametrize(
    ("request_", "field", "fix"),
    [
        (TaskSubmit(template="prat"), "template", 'did you mean "part"?'),
        (TaskSubmit(queue="stil"), "queue", 'did you mean "still"?'),
        (TaskSubmit(), "queue", "aiwm queue list"),
        (TaskSubmit(queue="q", sources=("dogs",)), "sources", 'did you mean "docs"?'),
        (TaskSubmit(queue="q", supervisor="ehco"), "supervisor", 'did you mean "echo"?'),
        (TaskSubmit(queue="q", definition="eccho"), "definition", 'did you mean "echo"?'),
        (TaskSubmit(queue="dry"), "queue", "aiwm queue resume dry"),
        (TaskSubmit(queue="q", metadata={"x": "y" * 20_000}), "metadata", "put it into the payload"),
    ],
)
async def test_what_does_not_exist_is_refused_by_name(room: Room, request_: TaskSubmit, field: str, fix: str) -> None:
    with pytest.raises(AiwmError) as caught:
        await room.call(request_)
    assert (caught.value.info.field, caught.value.info.fix) == (field, fix)


def test_a_schema_is_compiled_once_for_each_revision() -> None:
    templating = Templating()
    first = TaskTemplate(name="t", payload_schema={"type": "object", "required": ["a"]})
    templating.applied(TaskSubmit(payload={"a": 1}), first)
    compiled = templating._compiled["t"]
    templating.applied(TaskSubmit(payload={"a": 2}), first)
    assert templating._compiled["t"] is compiled
    second = msgspec.structs.replace(first, payload_schema={"type": "object", "required": ["b"]})
    with pytest.raises(AiwmError):
        templating.applied(TaskSubmit(payload={"a": 1}), second)
