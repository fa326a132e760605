"""Performance: one record a task, what they sum up to, and that the sums are what the records say."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.contract.definitions import AdapterUse, Cost, Sampling, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.records import SummaryRow
from engine.contract.requests.instances import InstanceChat, InstanceRetire, InstanceSpawn
from engine.contract.requests.performance import PerfList, PerfSummary
from engine.contract.requests.tasks import TaskSubmit
from engine.contract.requests.usage import UsageRead
from engine.contract.states import Durability
from engine.control.performance import Key, Performance, Sums, added
from engine.store import ops
from engine.store.performance import performed
from engine.store.retention import Limits, Retention
from tests.support.manager import House

ANNA = WorkerDefinition(
    name="anna",
    model="m",
    adapters=(AdapterUse(name="pirate"),),
    sampling=Sampling(max_tokens=10),
    cost=Cost(input_usd_per_1k=1.0, output_usd_per_1k=2.0),
)


def _rounded(sums: dict[Key, Sums]) -> dict[Key, Sums]:
    """Without what the order of adding does to the last digits of the cost."""
    return {key: msgspec.structs.replace(it, cost_usd=round(it.cost_usd, 9)) for key, it in sums.items()}


async def _three_and_one(house: House) -> list[str]:
    """Three tasks that work and one that does not."""
    ids = []
    for number in range(4):
        house.model.fails = AiwmError(Code.model_invalid, "it is odd") if number == 3 else None
        request = TaskSubmit(queue="anna", payload={"prompt": "two plus two"}, max_attempts=1)
        ids.append((await house.call(request)).id)
        await house.outcome(ids[-1])
    house.model.fails = None
    return ids


async def _summary(house: House, by: str = "definition", name: str = "anna") -> SummaryRow:
    rows = await house.call(PerfSummary(by=by))  # type: ignore[arg-type]
    return next(row for row in rows if row.id == name)


async def test_every_task_leaves_one_record_with_what_it_took(home: Path) -> None:
    async with House(home, ANNA, pool=1) as house:
        ids = await _three_and_one(house)
        page = await house.call(PerfList())
        assert [row.task for row in page.rows] == ids[::-1]
        failed, good = page.rows[0], page.rows[1]
        assert (good.success, good.definition, good.queue, good.pool) == (True, "anna", "anna", "anna")
        assert (good.tokens_in, good.tokens_out, good.calls, good.input_chars) == (3, 3, 1, 12)
        assert good.cost_usd == pytest.approx(3 / 1000 + 3 * 2 / 1000)
        assert (good.model, good.adapter, good.finish_reason, good.summary) == ("m", "pirate", "stop", "it is four")
        assert good.duration_ms is not None
        assert (failed.success, failed.error, failed.finish_reason) == (False, "model_invalid", "error")
        # What a failed call read is counted by its estimate.
        assert (failed.tokens_in, failed.tokens_out) == (7, 0)


async def test_records_are_filtered_by_what_the_seeds_name(home: Path) -> None:
    async with House(home, ANNA, pool=1) as house:
        ids = await _three_and_one(house)
        for where, count in (
            (f"task:{ids[0]}", 1),
            ("success:true", 3),
            ("success:false", 1),
            ("definition:anna duration<10m", 4),
            ("duration>10m", 0),
            ("cost>0.008", 3),
            ("cost<0.008", 1),
            ("instance:i-*", 4),
            ("instance:stateless*", 4),
            ("instance:i-99", 0),
            ("instance:stateless* success:false", 1),
        ):
            page = await house.call(PerfList(where=where))
            assert (page.total, len(page.rows)) == (count, count), where
        assert [row.task for row in (await house.call(PerfList(where="sort:id", offset=3))).rows] == ids[3:]
        assert (await house.call(PerfList(where="sort:id", offset=4))).rows == []
        with pytest.raises(AiwmError, match='"colour" is not a field of records'):
            await house.call(PerfList(where="colour:red"))


async def test_three_and_one_are_four_three_and_one(home: Path) -> None:
    async with House(home, ANNA, pool=1) as house:
        await _three_and_one(house)
        detail = await house.call(InstanceSpawn(definition="anna"))
        assert detail.row is not None
        await house.call(InstanceChat(id=detail.row.id, message="hello"))
        row = await _summary(house)
        assert (row.attempted, row.completed, row.failed, row.rate) == (4, 3, 1, 0.75)
        assert (row.tokens_in, row.tokens_out) == (3 * 3 + 7, 9)
        assert row.cost_usd == pytest.approx(16 / 1000 + 18 / 1000)
        assert (row.spawned, row.active) == (2, 2)
        assert (row.turns, row.chat_tokens) == (1, 4)
        records = (await house.call(PerfList())).rows
        durations = [record.duration_ms for record in records if record.duration_ms is not None]
        assert row.mean_ms == pytest.approx(sum(durations) / 4)
        assert row.last_ms is not None
        assert row.last_ms >= max(record.ended_ms for record in records)
        for by in ("pool", "queue"):
            other = await _summary(house, by)
            assert (other.attempted, other.completed, other.failed) == (4, 3, 1)
        assert (await _summary(house, "pool")).spawned == 1


async def test_quality_is_the_mean_of_what_was_rated(home: Path) -> None:
    async with House(home, ANNA, pool=1) as house:
        ids = await _three_and_one(house)
        assert (await _summary(house)).quality is None
        for seq, rating in ((1, 0.5), (2, 1.0)):
            await house.store.journal.write((ops.RateRecord(seq, rating, "well"),), Durability.os)
        row = await _summary(house)
        assert (row.quality, row.rated) == (0.75, 2)
        assert (await house.call(PerfList(where=f"task:{ids[0]}"))).rows[0].comments == "well"


async def test_sums_that_were_stored_are_what_the_records_say(home: Path) -> None:
    async with House(home, ANNA, pool=1) as house:
        await _three_and_one(house)
        await house.manager.performance.add_up()
        await _three_and_one(house)
        kept = await house.manager.performance.sums()
        assert _rounded(kept) == _rounded(added({}, await performed(house.store.windows, 0)))
        assert kept["definition", "anna"].tasks == 8
        # Another engine begins where this one was, and comes to the same.
        store = house.store
        again = Performance(store.journal, store.readers, store.windows, house.clock)
        assert _rounded(await again.sums()) == _rounded(kept)
        assert again._mark == 4


async def test_sums_outlive_the_records_that_they_were_made_of(home: Path) -> None:
    async with House(home, ANNA, pool=1) as house:
        await _three_and_one(house)
        store = house.store
        limits = Limits(events_days=0, records_days=1, tasks_days=0, max_rows=0)
        house.clock.jump(2 * 86_400_000)
        retention = Retention(
            store.journal,
            store.readers,
            store.windows,
            house.clock,
            limits,
            lambda _: None,
            house.manager.performance.add_up,
        )
        assert await retention.sweep() == 3
        assert (await house.call(PerfList())).total == 1
        row = await _summary(house)
        assert (row.attempted, row.completed, row.failed) == (4, 3, 1)


def test_sums_are_added_field_by_field() -> None:
    one = Sums(tasks=1, completed=1, timed=1, duration_ms=5, tokens_in=2, cost_usd=0.5, ended_ms=9)
    two = Sums(tasks=2, failed=2, duration_ms=1, tokens_out=3, cost_usd=0.25, ended_ms=4)
    both = Sums(
        tasks=3, completed=1, failed=2, timed=1, duration_ms=6, tokens_in=2, tokens_out=3, cost_usd=0.75, ended_ms=9
    )
    assert one.plus(two) == two.plus(one) == both


async def test_usage_counts_chats_beside_tasks(home: Path) -> None:
    async with House(home, ANNA, pool=1) as house:
        await house.outcome(await house.submit("anna", prompt="hello"))
        for retires in (True, False):
            detail = await house.call(InstanceSpawn(definition="anna"))
            assert detail.row is not None
            await house.call(InstanceChat(id=detail.row.id, message="hello"))
            if retires:
                await house.call(InstanceRetire(id=detail.row.id))
        for by, name in (("submitter", "operator"), ("definition", "anna"), ("model", "m")):
            (row,) = await house.call(UsageRead(by=by))  # type: ignore[arg-type]
            assert (row.name, row.tasks, row.completed, row.turns) == (name, 1, 1, 2)
            assert (row.tokens_in, row.tokens_out) == (3, 9)
            assert row.cost_usd == pytest.approx(3 / 1000 + 18 / 1000)
        (row,) = await house.call(UsageRead(by="queue"))
        assert (row.turns, row.tokens_in) == (0, 1)
        assert await house.call(UsageRead(since_ms=house.clock.wall_ms() + 1_000)) == []
