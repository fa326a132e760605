"""What the store keeps of adapters and prompts: the versions a task runs with, how tasks ended under each, what the model read."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.contract.errors import Code, ErrorInfo
from engine.contract.states import Durability, TaskState
from engine.store import ops
from engine.store.adapters import Ran
from engine.store.store import Store
from tests.support.stored import T0, end, open_store, submit


async def _run(store: Store, adapter: str | None, state: TaskState, at_ms: int, tokens_out: int | None = None) -> int:
    seq = await submit(store)
    begin = ops.StartTask(seq, 1, "i-01", "pool", "nano", at_ms, adapter)
    await store.journal.write((begin,), Durability.os)
    ended = ops.EndTask(seq=seq, attempt=1, state=state, at_ms=at_ms, adapter=adapter, tokens_out=tokens_out)
    await store.journal.write((ended,), Durability.os)
    return seq


async def test_how_tasks_ended_under_each_adapter(tmp_path: Path) -> None:
    store = open_store(tmp_path / "aiwm.db")
    for tokens in (10, 30, 20):
        await _run(store, "a@v1", TaskState.completed, T0, tokens)
    await _run(store, "a@v1", TaskState.failed, T0, 5)
    await _run(store, "a@v1,b@v2", TaskState.completed, T0)
    await _run(store, "a@v1", TaskState.completed, T0 - 1, 99)
    await _run(store, None, TaskState.completed, T0, 99)
    found = {it.adapter: it for it in await store.windows.ran(T0)}
    assert found == {"a@v1": Ran("a@v1", 4, 3, 1, 20.0), "a@v1,b@v2": Ran("a@v1,b@v2", 1, 1, 0, None)}
    plan = await store.windows.read(
        "EXPLAIN QUERY PLAN SELECT adapter FROM records INDEXED BY records_adapter"
        " WHERE adapter IS NOT NULL AND ended_ms >= 1"
    )
    assert "records_adapter (ended_ms>?)" in str([tuple(row) for row in plan])
    await store.close()


async def test_a_running_task_says_with_which_versions_it_began(tmp_path: Path) -> None:
    store = open_store(tmp_path / "aiwm.db")
    seq, plain = await submit(store, adapter="a"), await submit(store, adapter="a")
    await store.journal.write((ops.StartTask(seq, 1, "i-01", "p", "nano", T0, "a@v3"),), Durability.os)
    await store.journal.write((ops.StartTask(plain, 1, "i-01", "p", "nano", T0),), Durability.os)
    row, other = store.readers.task_row(seq), store.readers.task_row(plain)
    assert row is not None
    assert other is not None
    assert (row.state, row.adapter) == ("processing", "a@v3")
    assert (other.state, other.adapter) == ("processing", "a")
    await store.close()


async def test_the_prompt_of_the_last_attempt_is_kept_with_its_result(tmp_path: Path) -> None:
    store = open_store(tmp_path / "aiwm.db")
    seq = await submit(store)
    assert store.readers.prompt(seq) is None
    await store.journal.write((ops.StartTask(seq, 1, "i-01", "p", "nano", T0),), Durability.os)
    failed = ErrorInfo(code=Code.task_failed, message="no JSON")
    again = ops.RetryTask(
        seq=seq, attempt=1, due_ms=T0, at_ms=T0, error=msgspec.json.encode(failed), prompt="first\x1b"
    )
    await store.journal.write((again,), Durability.os)
    assert store.readers.prompt(seq) == "first\x1b"
    await store.journal.write((ops.StartTask(seq, 2, "i-01", "p", "nano", T0),), Durability.os)
    await store.journal.write((end(seq, 2, result=b'"x"', prompt="second"),), Durability.os)
    assert store.readers.prompt(seq) == "second"
    await store.close()
