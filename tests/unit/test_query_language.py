"""The location and filter language: what parses to what, what is refused with which words, and that the normal form is one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.errors import AiwmError
from engine.contract.fields import FAULT_STATES, SEARCHED, Kind, field_of, fields_of
from engine.contract.query import (
    Location,
    Op,
    SortKey,
    Term,
    matches,
    operand,
    parse,
    parse_filter,
    sort_records,
    span_ms,
    time_ms,
)
from engine.contract.records import TABLES, InstanceRow, TaskRow, WorkerRow

NOW = int(datetime(2026, 11, 20, 3, 7, 41).timestamp() * 1000)


def task(number: int, **more: Any) -> TaskRow:
    values: dict[str, Any] = {
        "queue": "etl", "state": "pending", "priority": 5, "attempt": 0, "max_attempts": 3, "by": "ann",
        "submitted_ms": NOW - 600_000,
    }  # fmt: skip
    return TaskRow(id=f"t-1000{number}", **(values | more))


def test_a_location_in_all_its_parts() -> None:
    location = parse(
        ':tasks/t-4hq7x state:failed,cancelled !queue:"night ly" age>5m tokens_out>=2k "in voice" sort:-age,queue'
    )
    assert (location.table, location.item) == ("tasks", "t-4hq7x")
    assert [(term.op, term.values, term.field, term.negated) for term in location.terms] == [
        (Op.any_of, ("failed", "cancelled"), "state", False),
        (Op.any_of, ("night ly",), "queue", True),
        (Op.more, ("5m",), "age", False),
        (Op.at_least, ("2k",), "tokens_out", False),
        (Op.word, ("in voice",), None, False),
    ]
    assert location.sort == (SortKey("age", True), SortKey("queue"))
    assert location.filter_text() == 'state:failed,cancelled !queue:"night ly" age>5m tokens_out>=2k "in voice"'


@pytest.mark.parametrize("text", ["tasks", " :tasks ", ":tasks\tstate:failed", ":events", ":machine"])
def test_what_a_location_may_look_like(text: str) -> None:
    assert parse(text).table in TABLES


def test_screens_without_a_table_take_any_words() -> None:
    location = parse(":logs what:ever sort:when", ["logs"])
    assert (location.table, location.terms[0].field) == ("logs", "what")


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ("", "a location starts with a table", "such as :tasks"),
        (":", "a location starts with a table", None),
        (":task", 'there is no table "task"', 'did you mean "tasks"?'),
        (":tasks stat:failed", '"stat" is not a field of tasks: "stat:failed" at column 8', 'did you mean "state"?'),
        (":tasks sort:size", '"size" is not a field', None),
        (':tasks queue:"etl', "a quote is not closed", None),
        (":tasks queue:", "a value is missing", None),
        (":tasks !", "a word is missing", None),
        (":tasks queue>etl", "queue is text and has no order", "queue:value or queue:glob*"),
        (":tasks priority>high", '"high" is not a number', None),
        (":tasks age>soon", '"soon" is not a duration', None),
        (":tasks submitted>25:00", "not a time", None),
        (":tasks is:broken", "is: knows only is:fault", None),
    ],
)
def test_refusals_name_the_token_and_its_column(text: str, message: str, fix: str | None) -> None:
    with pytest.raises(AiwmError) as caught:
        parse(text)
    assert caught.value.code == "bad_location"
    assert message in caught.value.info.message
    if fix is not None:
        assert caught.value.info.fix == fix


def test_columns_count_from_the_start_of_what_was_typed() -> None:
    with pytest.raises(AiwmError, match="at column 12"):
        parse(":tasks etl nope:1")
    with pytest.raises(AiwmError, match="at column 5"):
        parse_filter("tasks", "etl nope:1")


VALUES = st.text(st.characters(exclude_characters='"', exclude_categories=("Cs", "Cc")), max_size=8)
WORDS = VALUES.filter(lambda text: bool(text.strip()))
TERMS = st.one_of(
    st.builds(
        Term,
        op=st.just(Op.any_of),
        values=st.lists(VALUES, min_size=1, max_size=3).map(tuple),
        field=st.sampled_from(["queue", "id", "reason"]),
        negated=st.booleans(),
    ),
    st.builds(Term, op=st.just(Op.word), values=st.tuples(WORDS), negated=st.booleans()),
    st.builds(
        Term,
        op=st.sampled_from([Op.more, Op.at_most]),
        values=st.tuples(st.sampled_from(["1", "2k", "-3"])),
        field=st.just("priority"),
        negated=st.booleans(),
    ),
)
SORTS = st.lists(st.builds(SortKey, st.sampled_from(["age", "queue", "id"]), st.booleans()), max_size=2).map(tuple)


@given(st.builds(Location, table=st.just("tasks"), terms=st.lists(TERMS, max_size=4).map(tuple), sort=SORTS))
def test_the_normal_form_parses_to_the_same_location(location: Location) -> None:
    found = parse(str(location))
    assert tuple(msgspec.structs.replace(term, start=0) for term in found.terms) == location.terms
    assert (found.table, found.item, found.sort) == (location.table, location.item, location.sort)
    assert str(found) == str(location)


@given(st.text(max_size=60))
def test_nothing_typed_breaks_the_parser(text: str) -> None:
    try:
        location = parse(text)
    except AiwmError:
        return
    assert str(parse(str(location))) == str(location)


@pytest.mark.parametrize(
    ("filter_", "row", "expected"),
    [
        ("state:failed", task(1, state="failed"), True),
        ("state:FAILED", task(1, state="failed"), True),
        ("state:failed,pending", task(1), True),
        ("!state:failed", task(1), True),
        ("is:fault", task(1), False),
        ("is:fault", task(1, state="failed"), True),
        ("queue:et*", task(1), True),
        ("queue:e?", task(1), False),
        ("queue:[e]*", task(1), False),
        ("etl", task(1), True),
        ("T-1000", task(1), True),
        ("ann", task(1), False),
        ("!ann", task(1), True),
        ("age>5m", task(1), True),
        ("age<5m", task(1), False),
        ("age>=10m", task(1), True),
        ("age>10m", task(1), False),
        ("submitted>3h", task(1), True),
        ("submitted>03:00", task(1), False),
        ("submitted<03:00", task(1), True),
        ("priority>4 priority<6", task(1), True),
        ("prio:5,7", task(1), True),
        ("tokens_out>0", task(1), False),
        ("!tokens_out>0", task(1), True),
        ("tokens_out:1.5k", task(1, tokens_out=1500), True),
        ('error:""', task(1), True),
        ("reason:Ä*", task(1, reason="Äpfel"), True),
    ],
)
def test_which_rows_match(filter_: str, row: TaskRow, expected: bool) -> None:
    assert matches(parse(f":tasks {filter_}"), row, NOW) is expected


def test_fields_with_several_values_match_if_one_does() -> None:
    row = WorkerRow(
        id="nano", kind="goat", model="m", capabilities=("vision", "german"), pools=(), digest="d", description=""
    )
    assert matches(parse(":workers capabilities:ger*"), row, NOW)
    assert not matches(parse(":workers capabilities:french"), row, NOW)
    assert not matches(parse(":workers !capabilities:vision"), row, NOW)


def test_numbers_inside_text_sort_as_numbers() -> None:
    rows = [
        InstanceRow(
            id=f"i-{n}", state="idle", pool=pool, definition="d", kind="k", task=None, since_ms=n, done=0, failed=0, tokens=0,
            note="",
        )
        for n, pool in ((10, "b"), (2, "b"), (1, "a"))
    ]  # fmt: skip
    assert [row.id for row in sort_records(parse(":instances"), rows)] == ["i-1", "i-2", "i-10"]
    assert [row.id for row in sort_records(parse(":instances sort:-pool"), rows)] == ["i-2", "i-10", "i-1"]
    assert [row.id for row in sort_records(parse(":instances sort:age"), rows)] == ["i-10", "i-2", "i-1"]


def test_what_is_missing_sorts_last_both_ways() -> None:
    rows = [task(1, tokens_out=5), task(2), task(3, tokens_out=7)]
    assert [row.id[-1] for row in sort_records(parse(":tasks sort:tokens_out"), rows)] == ["1", "3", "2"]
    assert [row.id[-1] for row in sort_records(parse(":tasks sort:-tokens_out"), rows)] == ["3", "1", "2"]


def test_tasks_sort_by_number_when_they_sort_by_submission() -> None:
    """A clock that went back does not turn the order of submission around."""
    rows = [task(1, submitted_ms=NOW), task(2, submitted_ms=NOW - 9), task(3, submitted_ms=NOW)]
    assert [row.id[-1] for row in sort_records(parse(":tasks"), rows)] == ["3", "2", "1"]
    assert [row.id[-1] for row in sort_records(parse(":tasks sort:-age"), rows)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90_000), ("5m", 300_000), ("1h30m", 5_400_000), ("250ms", 250), ("2d", 172_800_000), ("1.5h", 5_400_000)],
)
def test_durations(text: str, expected: float) -> None:
    assert span_ms(text) == expected


def test_points_in_time() -> None:
    def at(text: str) -> str:
        return datetime.fromtimestamp(time_ms(text, NOW) / 1000).isoformat()

    assert at("now") == "2026-11-20T03:07:41"
    assert at("today") == "2026-11-20T00:00:00"
    assert at("yesterday") == "2026-11-19T00:00:00"
    assert at("02:30") == "2026-11-20T02:30:00"
    assert at("23:10:05") == "2026-11-19T23:10:05"
    assert at("2026-11-01") == "2026-11-01T00:00:00"
    assert at("2026-11-01T07:30") == "2026-11-01T07:30:00"
    assert at("1h") == "2026-11-20T02:07:41"


def test_sizes_and_numbers_have_their_own_units() -> None:
    assert operand(field_of("models", "weights"), "8G", NOW) == 8 * 2**30
    assert operand(field_of("tasks", "tokens_in"), "8k", NOW) == 8000


@pytest.mark.parametrize("table", TABLES)
def test_every_table_can_be_searched_filtered_and_sorted(table: str) -> None:
    fields = fields_of(table)
    assert "id" in fields
    attributes = TABLES[table].__struct_fields__
    assert all(hasattr(TABLES[table], field.attribute) for field in fields.values() if field.attribute)
    assert all(name in attributes for name in SEARCHED.get(table, ("id",)))
    if table in FAULT_STATES:
        assert "level" in attributes if table == "events" else "state" in attributes
    parse(f":{table} word id:x* sort:-id")


def test_kinds_of_fields() -> None:
    kinds = {name: field_of("tasks", name).kind for name in ("queue", "priority", "submitted", "age", "tokens_in")}
    assert kinds == {
        "queue": Kind.text, "priority": Kind.number, "submitted": Kind.time, "age": Kind.age, "tokens_in": Kind.number,
    }  # fmt: skip
    assert field_of("models", "kv").kind is Kind.size
    assert field_of("workers", "pools").kind is Kind.texts
    assert field_of("tasks", "WORKER").attribute == "definition"
