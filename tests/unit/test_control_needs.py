"""What needs a person: which lines there are, in which order, and that each opens a location that shows what it is about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from aiwm_tui.screens.registry import locate
from engine.contract.definitions import QueueDefinition, WorkerDefinition
from engine.contract.errors import AiwmError
from engine.contract.query import matches, parse
from engine.contract.records import OperationRow
from engine.contract.requests import fleet
from engine.contract.requests.definitions import WorkerCreate
from engine.contract.requests.maintenance import EngineDrain, Maintenance
from engine.contract.requests.tasks import TaskSubmit
from engine.contract.why import Gate, Why
from engine.control.needs import Failed, Standing, need_rows
from tests.support.manager_room import ManagerRoom
from tests.support.rows import model_row, pool_row, queue_row

NOW = 1_795_144_061_000
MINUTE = 60_000


def standing(**changes: Any) -> Standing:
    quiet = Standing(
        queues=(),
        pools=lambda: (),
        models=(),
        failed=(),
        held=(),
        why=lambda name: Why(scope="queue", about=name, moving=False, summary="it waits", gates=()),
        maintenance=None,
        storage_failed_ms=None,
        home=Path("/h"),
        now_ms=NOW,
    )
    return msgspec.structs.replace(quiet, **changes)


def test_nothing_needs_anybody_where_all_is_well() -> None:
    well = [queue_row(state="open", waiting=500, head_ms=NOW - 9 * MINUTE, in_per_min=10.0, out_per_min=12.0)]
    assert need_rows(standing(queues=well, models=[model_row(state="busy")], pools=lambda: [pool_row()])) == []


def test_what_costs_most_to_wait_for_comes_first_and_the_oldest_of_equals() -> None:
    stuck = Gate(name="rate", closed=True, why="claude tokens/day used", opens_ms=NOW + 60 * MINUTE)
    found = need_rows(
        standing(
            queues=[
                queue_row(
                    "etl", state="open", waiting=1_102, head_ms=NOW - 41 * MINUTE, in_per_min=22.1, out_per_min=18.0
                ),
                queue_row("summaries", state="stuck", waiting=150, head_ms=NOW - 112 * MINUTE),
            ],
            pools=lambda: [pool_row("demo", state="at max", max_total=8)],
            models=[
                model_row(id="mistral24", state="refused", note="needs 15.8G", since_ms=NOW - 2 * MINUTE),
                model_row(id="llama8.0", state="backoff", note="exit code 71", since_ms=NOW - 50 * MINUTE),
                model_row(id="qwen14.0", state="ready"),
            ],
            failed=[Failed("F-7c1", "invoice: output is not JSON", 31, NOW - 38 * MINUTE), Failed("", "lost", 1, NOW)],
            held=[OperationRow(id="op-118", request="task.retry", state="held", by="ana", at_ms=NOW, count=31, done=1)],
            why=lambda name: Why(scope="queue", about=name, moving=False, summary="it waits", gates=(stuck,)),
            storage_failed_ms=NOW,
        )
    )
    said = [(need.what, need.press, need.location) for need in found]
    assert said == [
        ("nothing can be stored", "make room on the disk; it goes on by itself", ":events level:error"),
        ("summaries stands still", "↵ what it waits for", ":queues name:summaries"),
        ("llama8.0 keeps crashing", "↵, l its log, R restarts it", ":models name:llama8.0"),
        ("etl falls behind", "↵, S scales demo", ":pools name:demo"),
        ("mistral24 does not fit", "↵, L makes room", ":models name:mistral24"),
        ("31 tasks failed alike (F-7c1)", "↵, then * R tries again", ":tasks state:failed fail:F-7c1"),
        ("1 task failed", "↵, R tries again", ":tasks state:failed"),
        ("op-118 is held: its first ones failed", "↵, Z takes it back", ":operations id:op-118"),
    ]
    whys = {need.what: need.why for need in found}
    assert "claude tokens/day used; opens " in whys["summaries stands still"]
    assert whys["etl falls behind"] == "demo at max 8; in 22/m, out 18/m: never empty"
    assert [need.rank for need in found] == sorted(need.rank for need in found)
    assert len({need.id for need in found}) == len(found)
    assert all(str(locate(need.location)) == need.location for need in found), "each is a place to go to"


@pytest.mark.parametrize(
    "change",
    [{"waiting": 19}, {"head_ms": NOW - MINUTE + 1}, {"in_per_min": 18.5}, {"state": "paused"}, {"head_ms": None}],
)
def test_a_queue_falls_behind_only_if_many_wait_long_and_ever_more_come(change: dict[str, Any]) -> None:
    late: dict[str, Any] = {
        "state": "open",
        "waiting": 20,
        "head_ms": NOW - MINUTE,
        "in_per_min": 22.0,
        "out_per_min": 18.0,
    }
    assert len(need_rows(standing(queues=[queue_row(**late)]))) == 1
    assert need_rows(standing(queues=[queue_row(**late | change)])) == []


def test_under_maintenance_there_is_one_line_and_not_one_for_each_queue() -> None:
    quiet = Maintenance(reason="driver", by="ana", since_ms=NOW)
    queues = [queue_row("a", state="stuck", waiting=2), queue_row("b", state="stuck", waiting=3)]
    (need,) = need_rows(standing(queues=queues, maintenance=quiet))
    assert (need.what, need.why, need.location) == (
        "nothing new starts: maintenance",
        "by ana: driver; 5 wait",
        ":engine",
    )
    assert need_rows(standing(queues=[queue_row(waiting=0)], maintenance=quiet)) == [], "nobody waits for it"


# In a room of its own


@pytest.fixture
async def room(home: Path) -> AsyncIterator[ManagerRoom]:
    made = ManagerRoom(home)
    await made.start()
    yield made
    await made.stop()


async def test_the_lines_open_what_they_are_about(room: ManagerRoom) -> None:
    await room.call(fleet.QueueCreate(definition=QueueDefinition(name="alone")))
    await room.call(TaskSubmit(queue="alone", payload={}))
    (need,) = room.manager.tables.needs()
    assert need.what == "alone stands still"
    assert 'no pool serves queue "alone"' in need.why
    location = parse(need.location)
    assert [row.id for row in await room.call(fleet.QueueList()) if matches(location, row, 0)] == ["alone"]
    await room.call(EngineDrain(reason="driver"))
    assert [need.id for need in room.manager.tables.needs()] == ["maintenance"]


async def test_what_nobody_looks_at_counts_no_failures(room: ManagerRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.call(fleet.QueueCreate(definition=QueueDefinition(name="alone")))
    await room.call(TaskSubmit(queue="alone", payload={}))
    tables = room.manager.tables
    found = [need.id for need in tables.needs()]

    def counted(since_ms: int) -> NoReturn:
        raise AssertionError("thousands of rows are read, every other second")

    monkeypatch.setattr(tables.failed_alike, "since", counted)
    assert [need.id for need in tables.queue_needs()] == found == ["queue alone"]


async def test_a_worker_definition_is_added_alone_and_refused_whole(room: ManagerRoom) -> None:
    made = await room.call(WorkerCreate(definition=WorkerDefinition(name="w", model="aiwm-nano", system="Be brief.")))
    assert (made.row.id, made.definition.system) == ("w", "Be brief.")
    with pytest.raises(AiwmError, match='worker "w" exists already') as caught:
        await room.call(WorkerCreate(definition=WorkerDefinition(name="w", model="aiwm-nano")))
    assert caught.value.info.fix == "choose another name", "there is no other way to change one"
    with pytest.raises(AiwmError) as caught:
        await room.call(WorkerCreate(definition=WorkerDefinition(name="x", model="nope")))
    assert caught.value.info.field == "definition.model"
    assert {row.id for row in await room.call(fleet.WorkerList())} == {"nano", "echo", "w"}
