"""Events that belong together, and events with their neighbours: what the store finds, and what it costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from aiwm_tui.screens.events import screen as events_screen
from engine.contract.errors import AiwmError
from engine.contract.ids import task_id
from engine.contract.query import Location, Op, Term, matches, parse
from engine.contract.records import EventRow
from engine.contract.states import Durability
from engine.store import ops
from engine.store.store import Store
from engine.views.relevance import Interest, Stale, appended_stale, frame
from tests.support.stored import T0, event, insert, open_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A task with a child, one operation that touched it and a stranger, a request's events, and noise around them."""
    store = open_store(tmp_path / "aiwm.db")
    entries: list[ops.Op] = [insert(1), insert(2, parent=1), insert(3), insert(4, parent=2)]

    def of(type_: str, seq: int | None, correlation: str | None = None, level: str = "info") -> None:
        entries.append(msgspec.structs.replace(event(type_, seq, level), correlation=correlation))

    of("task.submitted", 1)
    of("noise", None)
    of("task.started", 2)
    of("task.cancelled", 1, "op-7")
    of("task.cancelled", 3, "op-7")
    of("task.cancel", None, "op-7", "audit")
    of("task.started", 4)
    of("model.load", None, "c-1", "audit")
    of("model.refused", None, "c-1", "error")
    for _ in range(30):
        of("noise", None)
    await store.journal.write(tuple(entries), Durability.os)
    yield store
    await store.close()


async def _found(store: Store, text: str, size: int = 100, top: int = 0) -> list[str]:
    window = await store.windows.window(parse(text), top, size, T0)
    assert all(isinstance(row, EventRow) for row in window.rows)
    return [f"{row.type} {row.about}" for row in window.rows if isinstance(row, EventRow)]


async def test_a_chain_is_all_that_belongs_to_a_task_an_operation_or_a_request(store: Store) -> None:
    one, two, three = task_id(1), task_id(2), task_id(3)
    assert await _found(store, f":events chain:{one} sort:id") == [
        f"task.submitted {one}",
        f"task.started {two}",
        f"task.cancelled {one}",
        "task.cancel store",
    ], "its own, its children's, and the operation without what it did to others"
    assert await _found(store, ":events chain:OP-7 sort:id") == [
        f"task.cancelled {one}",
        f"task.cancelled {three}",
        "task.cancel store",
    ]
    assert await _found(store, ":events chain:c-1") == ["model.refused store", "model.load store"]
    assert len(await _found(store, f":events chain:c-1,{one}")) == 6
    assert await _found(store, ":events chain:c-1 level:error") == ["model.refused store"]
    assert await _found(store, ":events chain:nothing") == []
    assert len(await _found(store, ":events !chain:c-1")) == 37


def test_a_chain_has_no_order_and_only_the_store_knows_it() -> None:
    with pytest.raises(AiwmError, match="looked for"):
        parse(":events sort:chain")
    with pytest.raises(AiwmError, match="not a field"):
        parse(":tasks chain:t-10001")
    row = EventRow(id="1", at_ms=0, level="info", type="x", who="", about="", text="")
    with pytest.raises(AiwmError, match="store"):
        matches(parse(":events chain:op-1"), row, 0)


async def test_matches_stand_among_their_neighbours(store: Store) -> None:
    assert await _found(store, ":events type:model.refused -C 1") == [
        "noise store",
        "model.refused store",
        "model.load store",
    ]
    text = ":events type:task.submitted,task.cancel around:2 sort:id"
    window = await store.windows.window(parse(text), 0, 100, T0)
    assert [row.id for row in window.rows] == ["1", "2", "3", "4", "5", "6", "7", "8"]
    assert (window.matched, window.exact, window.faults) == (8, True, None)
    assert [row.id for row in (await store.windows.window(parse(text), 6, 100, T0)).rows] == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
    ]
    assert [row.id for row in (await store.windows.window(parse(text), 3, 2, T0)).rows] == ["4", "5"]
    assert await store.windows.index_of(parse(text), "5", T0) == 4
    assert await store.windows.index_of(parse(text), "9", T0) is None
    assert store.windows.counts(parse(":events level:error around:1"), T0) is None, "no counter knows of neighbours"
    assert len(await _found(store, ":events level:error around:0")) == 1
    with pytest.raises(AiwmError, match="cannot be sorted"):
        await _found(store, ":events level:error around:1 sort:type")


async def test_a_window_with_neighbours_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.store.window.COUNT_LIMIT", 10)
    window = await store.windows.window(parse(":events type:noise around:2"), 0, 100, T0)
    assert not window.exact
    assert len(window.rows) <= 10 + 4


def test_whatever_comes_may_be_a_neighbour() -> None:
    shown = frame(["9", "8"], "events", 2)
    plain, around = (Interest.of(parse(f":events level:error{more}")) for more in ("", " around:1"))
    assert appended_stale(plain, shown, ["info"]) is Stale.counts
    assert appended_stale(around, shown, ["info"]) is Stale.rows


@pytest.mark.parametrize("text", ["around:21", "around:x", "!around:2", "around:1,2", "around>2"])
def test_around_takes_a_small_number(text: str) -> None:
    with pytest.raises(AiwmError, match="around: takes a number from 0 to 20"):
        parse(f":events {text}")
    with pytest.raises(AiwmError, match="neighbours of events"):
        parse(":tasks around:3")


def test_what_grep_calls_c_is_around_and_marks_stay_in_place() -> None:
    assert str(parse(":events oom -C 3 level:error")) == ":events oom around:3 level:error"
    assert str(parse(":events -C2 oom")) == ":events around:2 oom"
    assert str(parse(':events "-C 3"')) == ':events "-C 3"'
    assert parse(":events -C x").terms[0] == Term(Op.word, ("-C",), None, False, 8)
    with pytest.raises(AiwmError, match="column 16"):
        parse(":events -C 3   nofield:x")


def test_audit_is_what_operators_did() -> None:
    assert str(parse(":audit")) == ":events level:audit"
    assert str(parse("audit since:1h -C 1 sort:id")) == ":events level:audit since:1h around:1 sort:id"
    assert str(parse(":audit level:audit,ask")) == ":events level:audit,ask"
    assert parse(":audits", ["audits"]) == Location("audits")


def test_a_chain_reads_what_belongs_to_it_and_no_more(tmp_path: Path) -> None:
    from engine.store import plan, schema

    steps = []
    for rows in (1_000, 30_000):
        connection = schema.connect(tmp_path / f"{rows}.db")
        connection.execute("PRAGMA synchronous = OFF")
        schema.create(connection)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO events VALUES (?, 0, 'info', 'x', '', '', '', ?, ?, NULL)",
            [(n, n if n % 2 else None, f"op-{n}" if n % 10 == 0 else None) for n in range(1, rows + 1)],
        )
        connection.execute("COMMIT")
        counted = 0

        def step() -> int:
            nonlocal counted
            counted += 1
            return 0

        location = parse(f":events chain:{task_id(501)},op-500")
        filter_ = plan.filter_of(location, {("info",): rows}, T0)
        query = plan.numbers(filter_, plan.order_of(location), 0, 100)
        connection.set_progress_handler(step, 10)
        assert sorted(row[0] for row in connection.execute(query.sql, query.parameters)) == [500, 501]
        steps.append(counted)
        connection.close()
    assert steps[1] <= steps[0] * 2 + 5, steps


@pytest.mark.parametrize(
    ("type_", "about", "task", "target"),
    [
        ("task.failed", "t-10001", "t-10001", ":tasks/t-10001"),
        ("model.crashed", "nano.0", None, ":models/nano.0"),
        ("need.stands", "etl", None, ":queues/etl"),
        ("task.cancel", "op-7", None, ":operations/op-7"),
        ("adapter.hit", "tone@v1", None, ":adapters/tone@v1"),
        ("queue.delete", "etl", None, ":events/9"),
        ("queue.pause", "a b sort:x", None, ":events/9"),
        ("model.load", "../x", None, ":events/9"),
        ("engine.started", "engine", None, ":events/9"),
    ],
)
def test_an_event_opens_what_it_is_about(type_: str, about: str, task: str | None, target: str) -> None:
    row = EventRow(id="9", at_ms=0, level="info", type=type_, who="", about=about, text="", task=task)
    assert events_screen.opens(row) == target
    assert str(parse(target)) == target
