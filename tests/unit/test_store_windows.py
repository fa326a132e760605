"""What a window costs, counted in steps of SQLite's machine, not in time: about the same in a small table as in a large one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.contract.query import parse
from engine.store import plan, schema
from engine.store.compile import TABLES
from engine.store.statements import INSERT_TASK
from tests.support.stored import T0

SMALL, LARGE = 1_000, 40_000


def _table(path: Path, rows: int) -> sqlite3.Connection:
    connection = schema.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    schema.create(connection)
    connection.execute("BEGIN")
    states = ["completed"] * 8 + ["failed", "pending"]
    INSERT_TASK.run(
        connection,
        [
            (
                seq,
                f"q{seq % 3}",
                states[seq % 10],
                0,
                seq,
                "",
                "",
                None,
                "[]",
                "t",
                None,
                None,
                "disk",
                "retry",
                1,
                T0,
                None,
                None,
                None,
            )
            for seq in range(1, rows + 1)
        ],
    )
    connection.execute("UPDATE tasks SET ended_ms = submitted_ms + seq WHERE state <> 'pending'")
    connection.execute("INSERT INTO counters SELECT queue, state, count(*) FROM tasks GROUP BY 1, 2")
    connection.execute("COMMIT")
    return connection


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[sqlite3.Connection]:
    folder = tmp_path_factory.mktemp("windows")
    return [_table(folder / f"{rows}.db", rows) for rows in (SMALL, LARGE)]


def _steps(connection: sqlite3.Connection, run: Callable[[], object]) -> int:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.set_progress_handler(count, 10)
    run()
    connection.set_progress_handler(None, 0)
    return steps * 10


@pytest.mark.parametrize(
    "filter_", ["", "state:failed", "queue:q1", "!state:completed queue:q1,q2", "is:fault", "state:completed"]
)
@pytest.mark.parametrize("sort", ["", "sort:id", "sort:-ended", "sort:ended"])
def test_the_first_window_costs_the_same_in_any_table(
    tables: list[sqlite3.Connection], filter_: str, sort: str
) -> None:
    location = parse(f":tasks {filter_} {sort}")
    costs = []
    for connection in tables:
        counts = {(row[0], row[1]): row[2] for row in connection.execute("SELECT queue, state, n FROM counters")}
        found = plan.filter_of(location, counts, T0)
        assert found.rest is None
        query = plan.numbers(found, plan.order_of(location), 0, 50)
        costs.append(_steps(connection, connection.execute(query.sql, query.parameters).fetchall))
    assert costs[1] <= costs[0] * 1.5 + 200


def test_the_rank_of_a_row_is_its_number_where_there_are_no_gaps(tables: list[sqlite3.Connection]) -> None:
    query = plan.dense(TABLES["tasks"])
    for connection, rows in zip(tables, (SMALL, LARGE), strict=True):
        assert connection.execute(query.sql).fetchone() == (1, rows, rows)
        assert _steps(connection, connection.execute(query.sql).fetchone) < 500


def test_skipping_reads_the_index_only(tables: list[sqlite3.Connection]) -> None:
    for text in (":tasks queue:q1", ":tasks !state:pending", ":tasks sort:-ended"):
        counts = {(row[0], row[1]): row[2] for row in tables[1].execute("SELECT queue, state, n FROM counters")}
        found = plan.filter_of(parse(text), counts, T0)
        query = plan.numbers(found, plan.order_of(parse(text)), 9000, 50)
        explained = tables[1].execute(f"EXPLAIN QUERY PLAN {query.sql}", query.parameters).fetchall()
        walks = [row[3] for row in explained if "tasks" in row[3]]
        assert walks
        assert all("COVERING INDEX" in walk for walk in walks)
        assert not any("TEMP B-TREE" in row[3] for row in explained)
