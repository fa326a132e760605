"""Failed tasks by what they failed of: kept by what each commit changed, they are what counting them anew would find."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from engine.contract.states import Durability, TaskState
from engine.control import alike
from engine.control.alike import Alike, FailedAlike
from engine.store import ops
from engine.store.store import Store
from tests.support.stored import T0, insert, open_store, start


class Home:
    """A store, its failed tasks as they are kept, and how often these were counted anew."""

    def __init__(self, path: Path) -> None:
        self.store: Store = open_store(path)
        self.kept = FailedAlike(self.store.readers)
        self.store.journal.on_commit(lambda batch: self.kept.committed(batch.changed))
        self.counted = 0
        count = self.store.readers.failures_since

        def counting(ms: int) -> list[tuple[int, str, str, int]]:
            self.counted += 1
            return count(ms)

        self.store.readers.failures_since = counting  # type: ignore[method-assign]

    async def fail(self, causes: Sequence[str | None], at_ms: int = T0) -> list[int]:
        """A task that fails of each of these; their numbers."""
        seqs = [self.store.journal.next_seq() for _ in causes]
        for seq, cause in zip(seqs, causes, strict=True):
            error = b'{"code":"task_failed","message":"no"}'
            failed = ops.EndTask(seq=seq, attempt=1, state=TaskState.failed, at_ms=at_ms + seq, error=error, fail=cause)
            await self.write(insert(seq), start(seq))
            await self.write(failed)
        return seqs

    async def write(self, *entry: ops.Op) -> None:
        await self.store.journal.write(entry, Durability.os)

    def fresh(self, since_ms: int) -> list[Alike]:
        return FailedAlike(self.store.readers).since(since_ms)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Home]:
    found = Home(tmp_path / "aiwm.db")
    yield found
    await found.store.close()


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_kept_is_what_there_is(house: Home, seed: int) -> None:
    rng = random.Random(seed)
    failed: list[int] = await house.fail(["F-a", "F-b", "F-b", None])
    assert [(it.fail, it.tasks) for it in house.kept.since(T0)] == [("F-b", 2), ("F-a", 1), ("", 1)]
    for _ in range(25):
        match rng.randrange(4):
            case 0 | 1:
                failed += await house.fail([rng.choice(["F-a", "F-b", "F-c", None])], T0 + rng.randrange(-200, 200))
            case 2 if failed:
                seq = failed.pop(rng.randrange(len(failed)))
                await house.write(ops.ReviveTask(seq=seq, at_ms=T0, rank=seq))
            case 3 if failed:
                await house.write(ops.DeleteTasks((failed.pop(0),)))
        if rng.random() < 0.6:
            found = house.kept.since(T0)
            assert sorted(found) == sorted(house.fresh(T0))
    before = house.counted
    house.kept.since(T0)
    assert house.counted == before, "a look reads what changed alone"
    later = house.kept.since(T0 + 10)
    assert house.counted == before + 1
    assert sorted(later) == sorted(house.fresh(T0 + 10)), "the day has changed"


async def test_of_too_many_the_latest_count(house: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "FAILURES_LOOKED_AT", 6)
    monkeypatch.setattr("engine.store.readers.FAILURES_LOOKED_AT", 6)
    old = await house.fail(["F-old"] * 4)
    new = await house.fail(["F-new"] * 4)
    assert [(it.fail, it.tasks) for it in house.kept.since(T0)] == [("F-new", 4), ("F-old", 2)]
    new += await house.fail(["F-new"])
    assert [(it.fail, it.tasks) for it in house.kept.since(T0)] == [("F-new", 5), ("F-old", 1)]
    for seq in new[:4]:
        await house.write(ops.ReviveTask(seq=seq, at_ms=T0, rank=seq))
    assert [(it.fail, it.tasks) for it in house.kept.since(T0)] == [("F-old", 4), ("F-new", 1)], "the older ones too"
    assert house.counted == 2
    await house.write(ops.DeleteTasks(tuple(old)))
    assert [(it.fail, it.tasks, it.since_ms) for it in house.kept.since(T0)] == [("F-new", 1, T0 + new[4])]


async def test_nothing_is_kept_while_nobody_looks(house: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "_REREAD", 3)
    await house.fail(["F-a"])
    assert not house.kept._changed
    house.kept.since(T0)
    await house.fail(["F-a"] * 4)
    assert not house.kept._changed
    assert not house.kept._of
    assert house.kept.since(T0)[0].tasks == 5
