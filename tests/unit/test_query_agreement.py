"""The evaluator in memory and the SQL that the store compiles say the same about every filter and sort order."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract.errors import AiwmError
from engine.contract.ids import task_id
from engine.contract.query import matches, parse, sort_records
from engine.contract.records import EventRow
from engine.store import plan, schema, window
from engine.store.feeder import Feeder
from engine.store.journal import Journal
from engine.store.rows import EVENT_COLUMNS, RECORD_COLUMNS, TASK_ROW_COLUMNS, event_row, record_row, task_row
from engine.store.window import Windows

NOW = 1_790_000_000_000
QUEUES = ["etl", "Etl", "inbox", "nightly-eval"]
STATES = ["pending", "scheduled", "processing", "retrying", "completed", "failed", "cancelled"]
TEXTS = ["", "a", "A1", "i-2", "i-10", "Müller", "MÜLLER", "50%", "[x]", "a*b", "x_y", "ok, then", "t-10003", "0", "K"]
ADAPTERS = ["a", "A@v1", "a@v1,x@v2", "aa@v1", "a@b@c", "", "ok, then"]
"""What an adapter's column may hold: several names, versions, and what a task asked for without knowing better."""
NUMBERS = [None, 0, 1, 2, 5, 1000, 2048, 10**7]
TIMES = [None, NOW, NOW - 1, NOW - 60_000, NOW - 300_000, NOW - 3_600_000, NOW + 5_000]


class Counts:
    """The journal's counters, counted by hand."""

    def __init__(self, rows: dict[str, list[Any]]) -> None:
        self._tasks = dict(Counter((row.queue, row.state) for row in rows["tasks"]))
        self._events = dict(Counter(row.level for row in rows["events"]))
        self._records = dict(Counter(row.state for row in rows["records"]))

    def counts(self) -> dict[tuple[str, str], int]:
        return self._tasks

    def event_counts(self) -> dict[str, int]:
        return self._events

    def record_counts(self) -> dict[str, int]:
        return self._records


def _fill(path: Path, rng: random.Random, gaps: bool) -> dict[str, list[Any]]:
    connection = schema.connect(path)
    schema.use_wal(connection)
    schema.create(connection)
    pick = rng.choice
    seq = 0
    for _ in range(60):
        seq += rng.randrange(1, 40_000) if gaps else 1
        # Beyond 32^5 ids have six characters.
        number = seq + (33_000_000 if gaps and seq > 600_000 else 0)
        values = (
            number, pick(QUEUES), pick(STATES), pick([0, 1, 5]), pick([0, 1, 2]), pick([1, 3]), pick(TEXTS), NOW - 600_000 + seq,
            pick(TIMES), pick(TIMES), pick(TIMES), pick([None, *TEXTS]), pick([None, *TEXTS]), pick([None, *TEXTS]),
            pick([None, *TEXTS]), pick(TEXTS), pick(NUMBERS), pick(NUMBERS), pick([None, "timeout", "x"]), pick(TEXTS),
            pick([None, *TEXTS]), pick([None, *ADAPTERS]), pick([None, 0.0, 0.5, 2.0]), pick([None, "F-7c1"]), pick([0, 0, 1, 2]),
        )  # fmt: skip
        marks = ",".join("?" * len(values))
        connection.execute(
            f"INSERT INTO tasks ({TASK_ROW_COLUMNS}, rank, criteria, capabilities, durability, on_crash)"
            f" VALUES ({marks}, 0, '', '[]', 'disk', 'retry')",
            values,
        )
    for number in range(1, 41):
        seq = number * (3 if gaps else 1)
        level = pick(["info", "info", "debug", "warn", "error", "audit"])
        event = (
            seq,
            NOW - 1000 + seq,
            level,
            pick(TEXTS),
            pick(TEXTS),
            pick(TEXTS),
            pick(TEXTS),
            pick([None, 3, 500]),
            None,
            pick(TEXTS),
        )
        connection.execute(f"INSERT INTO events ({EVENT_COLUMNS}) VALUES ({','.join('?' * len(event))})", event)
    for number in range(1, 51):
        record = (
            number * (5 if gaps else 1), pick([1, 3, 14]), pick(["completed", "completed", "failed", "cancelled"]), NOW - 1000 + number,
            pick([None, NOW - 2000, NOW - 61_000]), pick([None, 0, 5_000]), pick([1, 2]), pick(QUEUES), pick([None, *TEXTS]),
            pick([None, *TEXTS]), pick([None, *TEXTS]), pick(TEXTS), pick([None, *TEXTS]), pick([None, *TEXTS]), pick([None, "nano"]),
            pick([None, *ADAPTERS]), pick(NUMBERS), pick(NUMBERS), pick([None, 0.0, 0.5, 2.0]), pick(NUMBERS), pick(NUMBERS),
            pick([None, "stop", "length"]), pick([None, "timeout"]), pick([None, "F-7c1"]), pick([None, 0.0, 0.5, 1.0]),
            pick([None, *TEXTS]), pick(TEXTS), pick([None, *TEXTS]),
        )  # fmt: skip
        columns = RECORD_COLUMNS.replace(" duration_ms,", "")
        connection.execute(f"INSERT INTO records ({columns}) VALUES ({','.join('?' * len(record))})", record)
    connection.execute("INSERT INTO record_counters SELECT state, count(*) FROM records GROUP BY 1")
    connection.execute("INSERT INTO counters SELECT queue, state, count(*) FROM tasks GROUP BY 1, 2")
    connection.execute("INSERT INTO event_counters SELECT level, count(*) FROM events GROUP BY 1")
    tasks = [task_row(row) for row in connection.execute(f"SELECT {TASK_ROW_COLUMNS} FROM tasks")]
    events = [event_row(row) for row in connection.execute(f"SELECT {EVENT_COLUMNS} FROM events")]
    records = [record_row(row) for row in connection.execute(f"SELECT {RECORD_COLUMNS} FROM records")]
    connection.close()
    return {"tasks": tasks, "events": events, "records": records}


class Case:
    def __init__(self, path: Path, gaps: bool) -> None:
        self.rows = _fill(path, random.Random(7), gaps)
        self.loop = asyncio.new_event_loop()
        # No term of these tests is searched in the word index.
        self.windows = Windows(path, cast(Journal, Counts(self.rows)), cast(Feeder, None))

    def expected(self, text: str) -> list[Any]:
        location = parse(text)
        records = self.rows[location.table]
        return sort_records(location, [record for record in records if matches(location, record, NOW)])

    def window(self, text: str, top: int, size: int) -> window.Window:
        return self.loop.run_until_complete(self.windows.window(parse(text), top, size, NOW))

    def index_of(self, text: str, identifier: str) -> int | None:
        return self.loop.run_until_complete(self.windows.index_of(parse(text), identifier, NOW))

    def close(self) -> None:
        self.loop.run_until_complete(self.windows.close())
        self.loop.close()


@pytest.fixture(scope="module", params=[False, True], ids=["dense", "gaps"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    found = Case(tmp_path_factory.mktemp("agreement") / "aiwm.db", request.param)
    yield found
    found.close()


def quoted(value: str) -> str:
    return f'"{value}"'


PATTERNS = st.one_of(
    st.sampled_from(
        TEXTS
        + STATES
        + QUEUES
        + ADAPTERS
        + ["true", "False", "F-7c1", "*", "?", "i-*", "*ll*", "t-10*", "t-1*", "t-v*", "T-10003", "ETL", "*[*", "t-"]
    ),
    st.sampled_from(["et?", "*ing", "i-?", "k", "ok*", "*%", "3", "42", "t-10014", "t-010003", "0*"]),
)
TASK_TEXT = st.sampled_from(
    ["id", "queue", "state", "by", "definition", "pool", "instance", "batch", "tenant", "error", "reason",
     "template", "adapter", "fail"]
)  # fmt: skip
RECORD_TEXT = st.sampled_from(
    ["id", "task", "state", "success", "queue", "pool", "definition", "instance", "by", "template", "batch", "model", "adapter",
     "finish_reason", "error", "fail", "comments", "summary", "reflection"]
)  # fmt: skip
RECORD_NUMBER = st.sampled_from(
    ["attempt", "tokens_in", "tokens_out", "cost_usd", "cost", "calls", "input_chars", "rating"]
)
EVENT_TEXT = st.sampled_from(["id", "level", "type", "who", "about", "text", "task", "causation", "correlation"])
SIGNS = st.sampled_from([":", ">", "<", ">=", "<="])
TASK_NUMBER = st.sampled_from(
    ["priority", "attempt", "max_attempts", "tokens_in", "tokens_out", "try", "prio", "cost_usd", "after"]
)
TASK_TIME = st.sampled_from(["submitted", "due", "started", "ended"])
BANG = st.sampled_from(["", "", "!"])


def _joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


def _values(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, min_size=1, max_size=3).map(",".join)


def _terms(
    text: st.SearchStrategy[str], time: st.SearchStrategy[str], number: st.SearchStrategy[str] | None
) -> st.SearchStrategy[str]:
    spans = st.sampled_from(["1ms", "1m", "5m", "1h", "9m59s", "0s"])
    numbers = (
        _joined(BANG, number, SIGNS, _values(st.sampled_from(["0", "1", "2", "1k", "2048", "10M", "1.5"])))
        if number is not None
        else None
    )
    return st.one_of(
        *([numbers] if numbers is not None else []),
        _joined(BANG, PATTERNS.map(quoted)),
        _joined(BANG, text, st.just(":"), _values(PATTERNS.map(quoted))),
        _joined(BANG, time, SIGNS, _values(st.sampled_from(["1ms", "1m", "5m", "1h", "now", "2026-09-21"]))),
        _joined(BANG, st.just("age"), SIGNS, spans),
        _joined(BANG, st.just("is:fault")),
    )


TASK_SORT = st.sampled_from(
    [
        "id",
        "submitted",
        "age",
        "ended",
        "started",
        "state",
        "queue",
        "priority",
        "tokens_out",
        "instance",
        "due",
        "reason",
        "cost_usd",
        "template",
    ]
)
EVENT_SORT = st.sampled_from(["id", "at", "age", "level", "who", "text", "task"])
RECORD_SORT = st.sampled_from(
    ["id", "ended", "age", "task", "duration", "rating", "cost", "success", "definition", "summary"]
)


@st.composite
def locations(draw: st.DrawFn) -> str:
    table = draw(st.sampled_from(["tasks", "tasks", "events", "records"]))
    if table == "tasks":
        terms, keys = _terms(TASK_TEXT, TASK_TIME, TASK_NUMBER), TASK_SORT
    elif table == "events":
        terms, keys = _terms(EVENT_TEXT, st.just("at"), None), EVENT_SORT
    else:
        spans = _joined(BANG, st.just("duration"), SIGNS, st.sampled_from(["0s", "1ms", "1s", "59s", "5m"]))
        terms = st.one_of(_terms(RECORD_TEXT, st.sampled_from(["ended", "started"]), RECORD_NUMBER), spans)
        keys = RECORD_SORT
    parts = [f":{table}", *draw(st.lists(terms, max_size=3))]
    sort = draw(st.lists(_joined(st.sampled_from(["", "-"]), keys), max_size=2))
    return " ".join([*parts, "sort:" + ",".join(sort)] if sort else parts)


COMMON = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def _valid(text: str) -> bool:
    try:
        parse(text)
    except AiwmError:
        return False
    return True


@COMMON
@given(text=locations().filter(_valid), top=st.integers(0, 70), size=st.integers(0, 70))
def test_a_window_is_a_slice_of_what_the_evaluator_says(case: Case, text: str, top: int, size: int) -> None:
    expected = case.expected(text)
    found = case.window(text, top, size)
    start = max(0, min(top, len(expected) - size))
    assert [row.id for row in found.rows] == [row.id for row in expected[start : start + size]]
    assert list(found.rows) == expected[start : start + size]
    assert (found.matched, found.exact, found.top) == (len(expected), True, start)
    assert found.total == len(case.rows[parse(text).table])
    broken = [row for row in expected if (row.level == "error" if isinstance(row, EventRow) else row.state == "failed")]
    assert found.faults == len(broken)


@COMMON
@given(text=locations().filter(_valid), top=st.integers(0, 70), size=st.integers(0, 20))
def test_beyond_the_count_limit_rows_are_right_or_refused(case: Case, text: str, top: int, size: int) -> None:
    expected = case.expected(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "COUNT_LIMIT", 9)
        patch.setattr(window, "COUNT_LIMIT", 9)
        order = plan.order_of(parse(text))
        if len(expected) > 9 and order.key is None:
            with pytest.raises(AiwmError, match="too many for this sort order"):
                case.window(text, top, size)
            return
        found = case.window(text, top, size)
    if found.exact:
        assert found.matched == len(expected)
        assert found.top == max(0, min(top, len(expected) - size))
        assert list(found.rows) == expected[found.top : found.top + size]
    else:
        assert 9 <= found.matched <= len(expected)
        assert list(found.rows) == expected[found.top : found.top + size]
        assert found.top == top


@COMMON
@given(text=locations().filter(_valid), number=st.integers(0, 59))
def test_index_of_finds_the_row(case: Case, text: str, number: int) -> None:
    records = case.rows[parse(text).table]
    row = records[number % len(records)]
    expected = case.expected(text)
    assert case.index_of(text, row.id) == (expected.index(row) if row in expected else None)


def test_ids_in_sql_are_ids_in_the_contract(tmp_path: Path) -> None:
    connection = sqlite3.connect(":memory:")
    for seq in (1, 2, 31, 32, 12345, 32**5 - 32**4 - 1, 32**5 - 32**4, 32**7, 32**8 - 32**4 - 1):
        assert connection.execute(f"SELECT {schema.id_sql('?1')}", (seq,)).fetchone()[0] == task_id(seq)


@pytest.mark.parametrize("sort", ["tokens_out", "-queue", "priority"])
def test_the_refusal_of_a_sort_order_says_which_ones_work(
    case: Case, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(plan, "COUNT_LIMIT", 9)
    monkeypatch.setattr(window, "COUNT_LIMIT", 9)
    with pytest.raises(AiwmError, match="too many for this sort order") as caught:
        case.window(f":tasks sort:{sort}", 0, 5)
    assert caught.value.info.fix == "sort by one of ended, id, submitted, or filter further"


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("adapter:a", {"a", "A@v1", "a@v1,x@v2", "a@b@c"}),
        ("adapter:a@v1", {"A@v1", "a@v1,x@v2"}),
        ("adapter:x", {"a@v1,x@v2"}),
        ("adapter:a@b", {"a@b@c"}),
        ("adapter:v1", set()),
        ('adapter:"a@v1,x@v2"', {"a@v1,x@v2"}),
        ("adapter:a*", {"a", "A@v1", "a@v1,x@v2", "aa@v1", "a@b@c"}),
    ],
)
def test_an_adapter_is_found_among_several_and_in_every_version(case: Case, term: str, found: set[str]) -> None:
    for table in ("tasks", "records"):
        rows = case.window(f":{table} {term}", 0, 1000).rows
        assert {row.adapter for row in rows if not isinstance(row, EventRow)} == found, table
        assert len(rows) == len(case.expected(f":{table} {term}"))
