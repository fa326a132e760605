"""Opening: fresh, clean, after a crash, older, newer, foreign."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.contract.errors import AiwmError
from engine.contract.states import Durability, TaskState
from engine.store import migrations, schema
from tests.support.stored import T0, check_file, end, event, insert, open_store, run, start, submit

if TYPE_CHECKING:
    from sqlite_utils import Database

OS, MEMORY = Durability.os, Durability.memory


async def test_a_fresh_file_is_private_and_epochs_rise(tmp_path: Path) -> None:
    path = tmp_path / "aiwm.db"
    for epoch in (1, 2, 3):
        store = open_store(path)
        assert store.epoch == epoch
        assert store.backup is None
        await store.close()
    assert os.stat(path).st_mode & 0o777 == 0o600
    check_file(path)


async def test_running_tasks_of_a_dead_engine_wait_again_then_are_given_up(tmp_path: Path) -> None:
    path = tmp_path / "aiwm.db"
    first = open_store(path)
    for on_crash in ("retry", "retry", "dead-letter", "retry"):
        await submit(first, max_attempts=2, on_crash=on_crash)
    for seq in (1, 2, 3):
        await first.journal.write((start(seq),), OS)
    await first.close()

    second = open_store(path, T0 + 5)
    assert (second.recovered.requeued, second.recovered.dead_lettered, second.recovered.dropped) == (2, 1, 0)
    one, three = second.readers.task(1), second.readers.task(3)
    assert one is not None
    assert three is not None
    assert (one.state, one.attempt, one.max_attempts, one.crashes, one.instance) == ("pending", 1, 3, 1, None)
    assert (three.state, three.error, three.ended_ms) == ("failed", "engine_crashed", T0 + 5)
    assert json.loads(second.readers.result(3)[1] or b"{}")["fix"] == "aiwm task retry t-10003"
    assert [it.type for it in second.readers.events_of(1)] == ["task.submitted", "task.requeued"]
    assert second.counters() == {("q", "pending"): 3, ("q", "failed"): 1}
    await second.journal.write((start(1, 2),), OS)
    await run(second, 2, 2)
    await second.close()

    third = open_store(path)
    assert (third.recovered.requeued, third.recovered.dead_lettered) == (0, 1)
    one = third.readers.task(1)
    assert one is not None
    assert (one.state, one.crashes, one.reason) == ("failed", 2, "the engine ended while it ran 2 times")
    await third.close()
    check_file(path)
    connection = sqlite3.connect(path)
    records = connection.execute("SELECT task, attempt, state, error, summary FROM records ORDER BY seq").fetchall()
    assert records == [
        (3, 1, "failed", "engine_crashed", "the engine ended while it ran once, and it may not run twice"),
        (2, 2, "completed", None, ""),
        (1, 2, "failed", "engine_crashed", "the engine ended while it ran 2 times"),
    ]
    connection.close()


async def test_unfinished_memory_tasks_are_dropped_and_their_numbers_stay_used(tmp_path: Path) -> None:
    path = tmp_path / "aiwm.db"
    store = open_store(path)
    await submit(store)
    for queue in ("m", "m", "n"):
        seq = store.journal.next_seq()
        store.journal.write((insert(seq, queue, durability=MEMORY),), MEMORY)
    store.journal.write((start(2), end(2)), MEMORY)
    store.journal.write((start(3),), MEMORY)
    await store.close()
    store = open_store(path)
    assert store.recovered.dropped == 2
    assert store.counters() == {("q", "pending"): 1, ("m", "completed"): 1}
    assert store.journal.next_seq() == 5
    event_text = sqlite3.connect(path).execute("SELECT text FROM events WHERE type = 'store.dropped'").fetchone()[0]
    assert event_text == "2 unfinished tasks of memory queues were dropped at the start: m 1, n 1"
    await store.close()
    store = open_store(path)
    assert store.journal.next_seq() == 5
    await store.close()
    check_file(path)


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "aiwm.db"
    store = open_store(path)
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(AiwmError, match="written by a newer aiwm") as caught:
        open_store(path)
    assert caught.value.code == "schema_newer"
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["garbage", "foreign"])
def test_what_is_not_ours_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "aiwm.db"
    if content == "garbage":
        path.write_bytes(b"this is no database, but long enough to be one" * 100)
    else:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE precious (a)")
        connection.close()
    before = path.read_bytes()
    with pytest.raises(AiwmError, match=r"aiwm\.db") as caught:
        open_store(path)
    assert caught.value.code == "config_invalid"
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(AiwmError, match="cannot be opened") as caught:
        open_store(tmp_path / "missing" / "aiwm.db")
    assert caught.value.code == "storage_failed"


def _add_cost(database: Database) -> None:
    database["tasks"].add_column("cost", int)  # type: ignore[union-attr]


def _fail(database: Database) -> None:
    database["tasks"].add_column("half", int)  # type: ignore[union-attr]
    raise RuntimeError("mistake in a migration")


async def test_an_older_schema_is_backed_up_and_migrated(tmp_path: Path) -> None:
    path = tmp_path / "aiwm.db"
    store = open_store(path)
    await submit(store)
    await store.close()
    connection = schema.connect(path)
    backup = migrations.prepare(connection, path, (_add_cost,))
    assert backup == tmp_path / "aiwm.db.schema-1.bak"
    assert connection.execute("PRAGMA user_version").fetchone()[0] == 2
    assert connection.execute("SELECT seq, cost FROM tasks").fetchall() == [(1, None)]
    assert migrations.prepare(connection, path, (_add_cost,)) is None
    connection.close()
    assert os.stat(backup).st_mode & 0o777 == 0o600
    with pytest.raises(AiwmError, match="has schema 2"):
        open_store(path)
    old = open_store(backup)
    assert old.counters() == {("q", "pending"): 1}
    await old.close()


async def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "aiwm.db"
    store = open_store(path)
    await store.close()
    connection = schema.connect(path)
    with pytest.raises(RuntimeError):
        migrations.prepare(connection, path, (_add_cost, _fail))
    connection.close()
    store = open_store(path)
    assert store.epoch == 2
    await store.close()


def test_opening_imports_neither_sqlite_utils_nor_aiosqlite(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from engine.clock import SystemClock; from engine.store.store import Store;"
        f"Store.open(pathlib.Path({str(tmp_path / 'aiwm.db')!r}), clock=SystemClock());"
        "print([name for name in ('sqlite_utils', 'aiosqlite', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_a_dropped_scheduled_task_leaves_no_trace_in_the_due_index(tmp_path: Path) -> None:
    store = open_store(tmp_path / "aiwm.db")
    seq = store.journal.next_seq()
    store.journal.write((insert(seq, durability=MEMORY, state=TaskState.scheduled, due_ms=T0 + 1),), MEMORY)
    await store.journal.write((event("a"),), OS)
    assert store.readers.next_due() == T0 + 1
    await store.close()
    store = open_store(tmp_path / "aiwm.db")
    assert store.readers.next_due() is None
    await store.close()
