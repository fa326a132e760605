"""Forms as data: fields from structs, what is typed into them, and the struct that comes of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aiwm_tui.forms.fields import Kind, fields_of
from aiwm_tui.forms.values import changes, field_named, made, nested, read, texts_of, written
from aiwm_tui.screens.dialogs.submit import starting_payload
from engine.contract.definitions import DataSource, PoolDefinition, QueueDefinition, TaskTemplate
from engine.contract.errors import AiwmError
from engine.contract.requests.tasks import TaskSubmit

QUEUE = {field.key: field for field in fields_of(QueueDefinition)}
SUBMIT = {field.key: field for field in fields_of(TaskSubmit)}


@pytest.mark.parametrize("kind", [QueueDefinition, PoolDefinition, TaskTemplate, DataSource])
def test_what_stands_in_a_fresh_form_makes_the_default(kind: type[msgspec.Struct]) -> None:
    needed = {"name": "a", "definition": "nano", "path": "x"}
    fields = fields_of(kind)
    texts = texts_of(fields) | {field.key: needed[field.key] for field in fields if field.required}
    expected = kind(**{field.key: needed[field.key] for field in fields if field.required})
    assert made(kind, {field.key: read(field, texts[field.key]) for field in fields}) == expected
    assert texts_of(fields, expected) == texts
    assert changes(fields, expected, {field.key: read(field, texts[field.key]) for field in fields}) == {}


def test_fields_know_their_type_default_and_what_the_docstring_says() -> None:
    assert (QUEUE["name"].kind, QUEUE["name"].required) == (Kind.text, True)
    assert (QUEUE["retry.delay_ms"].kind, QUEUE["retry.delay_ms"].default) == (Kind.duration, 1_000)
    assert QUEUE["retry.delay_ms"].label == "retry delay"
    assert (QUEUE["durability"].kind, QUEUE["durability"].choices) == (Kind.choice, ("disk", "os", "memory"))
    assert (QUEUE["paused"].kind, QUEUE["paused"].choices) == (Kind.choice, ("no", "yes"))
    assert (QUEUE["max_length"].kind, QUEUE["max_length"].optional) == (Kind.whole, True)
    assert "bounds the waiting tasks" in QUEUE["max_length"].help
    assert (SUBMIT["payload"].kind, SUBMIT["due_ms"].kind, SUBMIT["after"].kind) == (
        Kind.payload,
        Kind.moment,
        Kind.words,
    )
    assert [field.key for field in fields_of(QueueDefinition, only=("pools", "name"))] == ["pools", "name"]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("aging_ms", "90s", 90_000),
        ("aging_ms", "1h30m", 5_400_000),
        ("aging_ms", "2", 2_000),
        ("retention_ms", "", None),
        ("max_length", "", None),
        ("max_length", " 7 ", 7),
        ("retry.backoff", "1.5", 1.5),
        ("pools", "a, b ,,c", ["a", "b", "c"]),
        ("paused", "yes", True),
        ("metadata", '{"a": [1]}', {"a": [1]}),
        ("metadata", "", {}),
    ],
)
def test_values_are_read_and_written_back(key: str, text: str, value: Any) -> None:
    field = QUEUE[key]
    assert read(field, text) == value
    assert read(field, written(field, value)) == value


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        (QUEUE["name"], "a b", "a name has letters"),
        (QUEUE["name"], "", "must be said"),
        (QUEUE["max_length"], "7x", '"7x" is not a whole number'),
        (QUEUE["retry.jitter"], "much", "is not a number"),
        (QUEUE["aging_ms"], "soon", "is not a duration"),
        (QUEUE["durability"], "paper", "none of disk, os, memory"),
        (QUEUE["metadata"], "{", "is not JSON"),
        (SUBMIT["due_ms"], "yesterday", "is not a time to come"),
    ],
)
def test_mistakes_name_their_field(field: Any, text: str, said: str) -> None:
    with pytest.raises(AiwmError, match=said) as caught:
        read(field, text)
    assert caught.value.info.field == field.key


def test_a_payload_is_json_or_a_prompt() -> None:
    assert read(SUBMIT["payload"], '{"n": 1}') == {"n": 1}
    assert read(SUBMIT["payload"], "say {hello}") == {"prompt": "say {hello}"}


def test_what_does_not_fit_together_names_its_field() -> None:
    values = {
        field.key: read(field, text)
        for field, text in zip(QUEUE.values(), texts_of(QUEUE.values()).values(), strict=True)
        if field.key != "name"
    }
    with pytest.raises(AiwmError) as caught:
        made(QueueDefinition, {**values, "name": 7})
    assert caught.value.info.field == "name"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("definition.retry.jitter", "retry.jitter"),
        ("changes.pools[2]", "pools"),
        ("name", "name"),
        ("metadata.deep.in", "metadata"),
        ("elsewhere", None),
        (None, None),
    ],
)
def test_the_engines_errors_find_their_field(said: str | None, found: str | None) -> None:
    field = field_named(tuple(QUEUE.values()), said)
    assert (field.key if field else None) == found


def test_a_pools_own_definition_is_not_the_requests() -> None:
    fields = fields_of(PoolDefinition)
    found = [field_named(fields, said) for said in ("definition.name", "definition", "definition.definition")]
    assert [field.key if field else None for field in found] == ["name", "definition", "definition"]


def test_only_what_differs_is_sent() -> None:
    before = QueueDefinition(name="q", pools=("a",))
    values = {
        field.key: read(field, text)
        for field, text in zip(QUEUE.values(), texts_of(QUEUE.values(), before).values(), strict=True)
    }
    values |= {"retry.jitter": 0.5, "pools": ["a", "b"]}
    assert changes(QUEUE.values(), before, values) == nested({"retry.jitter": 0.5, "pools": ["a", "b"]})


def test_a_templates_payload_begins_with_its_defaults_and_what_its_schema_requires() -> None:
    schema = {"required": ["n", "text", 7], "properties": {"n": {"type": "integer"}, "text": {"type": ["string"]}}}
    template = TaskTemplate(name="t", defaults={"prompt": "Hm?"}, payload_schema=schema)
    assert msgspec.json.decode(starting_payload(template)) == {"prompt": "Hm?", "n": 0, "text": ""}
    assert starting_payload(TaskTemplate(name="t")) == ""
    assert starting_payload(TaskTemplate(name="t", payload_schema={"required": "all", "properties": []})) == ""
