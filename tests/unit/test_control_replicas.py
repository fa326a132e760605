"""Replicas between scheduler and models: whose slot is held for whom, which adapters a task asks for, what control performs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.contract.definitions import AdapterUse, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.fleet import ModelExplain
from engine.contract.requests.instances import InstanceChat, InstanceSpawn
from engine.contract.requests.tasks import TaskCancel, TaskExplain, TaskRetry, TaskSubmit
from engine.control import adapter_names
from engine.control.loading import stored_ref
from engine.ports import ReplicaState
from engine.store.rows import StoredTask
from tests.support.manager import House, Model
from tests.support.waiting import until

DE = AdapterUse(name="de")
ANNA = WorkerDefinition(name="anna", kind="goat", model="m", adapters=(DE,))


def replica(number: int, total: int | None = 1, *resident: str, gone: bool = False) -> ReplicaState:
    return ReplicaState(model="m", replica=f"m.{number}", total=total, resident=frozenset(resident), gone=gone)


def stored(house: House) -> StoredTask:
    task = house.store.readers.task(1)
    assert task is not None
    return task


async def submit(house: House, **payload: object) -> str:
    ack = await house.call(TaskSubmit(queue="anna", payload={"prompt": "hello", **payload}))
    return ack.id


@pytest.mark.parametrize(
    ("payload", "column", "names"),
    [
        ({}, None, None),
        ({"adapters": []}, "", ()),
        ({"adapters": [{"name": "de"}]}, "de", ("de",)),
        ({"adapters": [{"name": "de@v3", "weight": 0.5}, {"name": "fr"}]}, "de@v3,fr", ("de@v3", "fr")),
        ({"adapters": "nonsense"}, None, None),
        ({"adapters": [3, {"weight": 1}, {"name": 4}]}, "", ()),
    ],
)
def test_what_a_payload_asks_for(payload: dict[str, object], column: str | None, names: tuple[str, ...] | None) -> None:
    assert adapter_names.asked(payload) == column
    assert adapter_names.read(column) == names


async def test_the_scheduler_knows_a_waiting_tasks_adapters_from_its_row(home: Path) -> None:
    async with House(home, ANNA, pool=1) as house:
        house.manager.slots.changed(replica(0, 0))
        own, base, other = (
            await submit(house),
            await submit(house, adapters=[]),
            await submit(house, adapters=[{"name": "fr"}]),
        )
        readers = house.store.readers
        page = readers.page("anna", "", "", None, 10)
        assert [task.adapter for task in page] == [None, "", "fr"]
        stored = [readers.task(task.seq) for task in page]
        assert [stored_ref(one).adapters for one in stored if one is not None] == [None, (), ("fr",)]
        for identifier, wanted in ((own, "de is not there"), (other, "fr is not there")):
            notes = (await house.call(TaskExplain(id=identifier))).notes
            assert wanted in notes[0], notes
        assert "not there" not in (await house.call(TaskExplain(id=base))).notes[0]


async def test_a_retry_with_another_adapter_is_seen(home: Path) -> None:
    async with House(home, ANNA, pool=1) as house:
        house.manager.slots.changed(replica(0, 0))
        task = await submit(house)
        for name, column, wanted in (("fr", "fr", ("fr",)), ("base", "", ())):
            await house.call(TaskCancel(ids=(task,)))
            await until(lambda: stored(house).state == "cancelled")
            await house.call(TaskRetry(ids=(task,), adapter=name))
            assert stored(house).adapter == column
            assert stored_ref(stored(house)).adapters == wanted
            notes = (await house.call(TaskExplain(id=task))).notes
            assert ("fr is not there" in notes[0]) == (name == "fr")


async def test_a_task_runs_with_the_slot_that_it_was_given(home: Path) -> None:
    async with House(home, ANNA, pool=2) as house:
        house.model.hold = asyncio.Event()
        house.manager.slots.changed(replica(0, 1, "fr"))
        house.manager.slots.changed(replica(1, 1, "de"))
        first, second = await submit(house), await submit(house)
        await until(lambda: house.model.running == 2)
        assert [one.replica for one in house.model.reservations] == ["m.1", "m.0"], "the one with its adapter first"
        why = await house.call(TaskExplain(id=first))
        assert "with m.1, attempt 1" in why.summary
        assert why.notes[0].startswith("m.1 had 13")
        assert "adapters 100, load 20, queue 8, latency 4" in why.notes[0]
        model = await house.call(ModelExplain(name="m"))
        assert [note.split(":")[0] for note in model.notes] == ["m.0", "m.1"]
        house.model.hold.set()
        for task in (first, second):
            assert (await house.outcome(task)).state == "completed"


async def test_a_model_that_nobody_knows_is_not_explained(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone: set[str] = set()

    def check(_: Model, model: str) -> None:
        if model in gone:
            raise AiwmError(Code.model_not_found, f'there is no model "{model}"', field="model")

    monkeypatch.setattr(Model, "check", check)
    async with House(home, ANNA, pool=1) as house:
        assert "no pool has" in (await house.call(ModelExplain(name="unused"))).summary
        gone |= {"nosuch", "m"}
        with pytest.raises(AiwmError) as caught:
            await house.call(ModelExplain(name="nosuch"))
        assert caught.value.code == Code.model_not_found
        assert (await house.call(ModelExplain(name="m"))).about == "m", "a worker waits for it"


async def test_a_chat_holds_a_slot_of_the_replica_that_suits_it_best(home: Path) -> None:
    async with House(home, ANNA, pool=2) as house:
        house.model.hold = asyncio.Event()
        house.manager.slots.changed(replica(0, 1))
        house.manager.slots.changed(replica(1, 1, "de"))
        spawned = await house.call(InstanceSpawn(definition="anna"))
        assert spawned.row is not None
        chat = asyncio.create_task(house.call(InstanceChat(id=spawned.row.id, message="hello")))
        await until(lambda: house.model.running == 1)
        await submit(house)
        await until(lambda: house.model.running == 2)
        assert [one.replica for one in house.model.reservations] == ["m.1", "m.0"]
        await submit(house)
        assert house.manager.dispatcher.gate(2) == "slots"
        house.manager.slots.changed(replica(1, gone=True))
        house.model.hold.set()
        assert (await chat).text == "it is four"


async def test_what_the_scheduler_asks_of_models_is_passed_on(home: Path) -> None:
    async with House(home, ANNA, pool=4) as house:
        house.model.hold = asyncio.Event()
        house.manager.slots.changed(replica(0, 1, "de"))
        tasks = [await submit(house), await submit(house, adapters=[{"name": "fr"}])]
        assert house.model.prefetched == [("m", "m.0", ("fr",), True)]
        assert house.model.grown == []
        house.jump(1_500)
        assert house.model.grown == ["m"]
        house.model.hold.set()
        for task in tasks:
            assert (await house.outcome(task)).state == "completed"
