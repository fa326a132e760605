"""Changing definitions one by one: partial updates checked as a whole, deletes that break nothing, deeds that outlast a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

from engine.contract.definitions import (
    DataSource,
    PoolDefinition,
    QueueDefinition,
    RetryPolicy,
    SourceType,
    TaskTemplate,
)
from engine.contract.errors import AiwmError
from engine.contract.partial import merged, partial_of
from engine.contract.requests import definitions as changes
from engine.contract.requests import fleet
from engine.contract.requests.maintenance import EngineDrain, EngineResume
from engine.contract.requests.tasks import TaskShow, TaskSubmit
from engine.contract.states import TaskState
from engine.control.checks import Surroundings, check, refuse
from engine.control.definitions import Definition, Definitions
from engine.scheduling.decisions import SpawnInstance
from engine.workers.kinds.template import TemplateWorker
from engine.workers.registry import KindRegistry
from engine.workers.template import TaskInput, TaskOutput, WorkerContext
from tests.support.manager_room import ManagerRoom


@pytest.fixture
async def room(home: Path) -> AsyncIterator[ManagerRoom]:
    made = ManagerRoom(home)
    await made.start()
    yield made
    await made.stop()


def _said(request: type[Any], **fields: Any) -> Any:
    """The changes of an update request, as its own struct."""
    return get_type_hints(request)["changes"](**fields)


async def _refused(room: ManagerRoom, request: Any) -> AiwmError:
    with pytest.raises(AiwmError) as caught:
        await room.call(request)
    return caught.value


@pytest.mark.parametrize(
    ("definition", "field"),
    [
        (PoolDefinition(name="p", definition="ehco"), "definition"),
        (PoolDefinition(name="p/..", definition="echo"), "name"),
        (PoolDefinition(name="p", definition="echo", min_idle=3, max_total=2), "min_idle"),
        (PoolDefinition(name="p", definition="echo", max_total=10**30), "max_total"),
        (PoolDefinition(name="p\n", definition="echo"), "name"),
        (PoolDefinition(name="p", definition="echo", cooldown_ms=-1), "cooldown_ms"),
        (QueueDefinition(name="q", aging_ms=2**62), "aging_ms"),
        (QueueDefinition(name="q", max_length=-5), "max_length"),
        (QueueDefinition(name="q", retry=RetryPolicy(delay_ms=2**66)), "retry.delay_ms"),
        (QueueDefinition(name="q", retry=RetryPolicy(max_retries=2**70)), "retry.max_retries"),
        (QueueDefinition(name="q", retry=RetryPolicy(jitter=float("nan"))), "retry.jitter"),
        (QueueDefinition(name="q", supervisor="rules/../x"), "supervisor"),
        (QueueDefinition(name="q", supervisor="nobody"), "supervisor"),
        (TaskTemplate(name="t", priority=5_000), "priority"),
        (DataSource(name="s", path="x", filters=("../*",)), "filters[0]"),
        (DataSource(name="s", path="/fm", type=SourceType.file_store), "path"),
    ],
)  # fmt: skip
def test_a_definition_that_cannot_work_is_refused(definition: Definition, field: str) -> None:
    faults = check(definition, Definitions(), Surroundings(kinds=KindRegistry(), files=Path("/nowhere/files")))
    assert field in [fault.field for fault in faults]
    with pytest.raises(AiwmError) as caught:
        refuse(faults, "definition.")
    assert caught.value.info.field is not None
    assert caught.value.info.field.startswith("definition.")


def test_a_link_does_not_lead_out_of_the_allowed_directories(tmp_path: Path) -> None:
    (tmp_path / "home" / "files").mkdir(parents=True)
    (tmp_path / "allowed").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed" / "door").symlink_to(tmp_path / "secret")
    (tmp_path / "home" / "files" / "door").symlink_to(tmp_path / "secret")
    around = Surroundings(kinds=KindRegistry(), files=tmp_path / "home" / "files", roots=(tmp_path / "allowed",))

    def faults(path: str) -> list[str]:
        source = DataSource(name="s", path=path, external=True)
        return [fault.field for fault in check(source, Definitions(), around)]

    assert faults(str(tmp_path / "allowed")) == []
    assert faults("inside") == []
    assert faults(str(tmp_path / "allowed" / "door")) == ["path"]
    assert faults("door") == ["path"]
    assert faults("/") == ["path"]


def test_a_change_says_only_what_changes() -> None:
    queue = QueueDefinition(name="q", pools=("a",), max_length=3, retry=RetryPolicy(delay_ms=5, max_retries=7))
    kind = partial_of(QueueDefinition)
    said = msgspec.json.decode(b'{"max_length": null, "retry": {"delay_ms": 9}}', type=kind)
    changed = merged(queue, said, ("pools",))
    assert changed == QueueDefinition(name="q", retry=RetryPolicy(delay_ms=9, max_retries=7))
    with pytest.raises(msgspec.ValidationError, match="unknown field `name`"):
        msgspec.json.decode(b'{"name": "other"}', type=kind)
    with pytest.raises(AiwmError) as caught:
        merged(queue, kind(), ("poools",))
    assert caught.value.info.fix == 'did you mean "pools"?'
    with pytest.raises(AiwmError):
        merged(queue, kind(), ("name",))


async def test_an_update_is_checked_as_a_whole_and_stored(room: ManagerRoom) -> None:
    update = changes.PoolUpdate
    error = await _refused(room, update(name="demo", changes=_said(update, min_idle=9)))
    assert error.info.field == "changes.min_idle"
    detail = await room.call(update(name="demo", changes=_said(update, min_idle=0, max_total=9)))
    assert (detail.definition.min_idle, detail.definition.max_total) == (0, 9)
    await room.restart()
    assert room.manager.catalogue.pool("demo").max_total == 9
    assert (await _refused(room, update(name="dmeo"))).info.fix == 'did you mean "demo"?'


async def test_every_kind_is_made_changed_and_deleted(room: ManagerRoom) -> None:
    await room.call(changes.SourceCreate(definition=DataSource(name="s", path="notes")))
    await room.call(changes.TemplateCreate(definition=TaskTemplate(name="t", queue="echo", sources=("s",))))
    await room.call(fleet.QueueCreate(definition=QueueDefinition(name="q", sources=("s",))))
    (row,) = await room.call(changes.SourceList())
    assert (row.state, row.used_by) == ("missing", ("queue q", "template t"))
    (room.home / "files" / "notes").mkdir()
    assert (await room.call(changes.SourceShow(name="s"))).row.state == "usable"
    error = await _refused(room, changes.SourceDelete(name="s"))
    assert "queue q, template t" in error.info.message
    assert error.code == "conflict"
    template = await room.call(
        changes.TemplateUpdate(name="t", changes=_said(changes.TemplateUpdate, priority=3), clear=("sources",))
    )
    assert (template.definition.priority, template.definition.sources) == (3, ())
    source = await room.call(changes.SourceUpdate(name="s", changes=_said(changes.SourceUpdate, recursive=True)))
    assert source.definition.recursive
    await room.call(changes.QueueDelete(name="q"))
    await room.call(changes.SourceDelete(name="s"))
    assert "template t" in (await _refused(room, changes.QueueDelete(name="echo"))).info.message
    await room.call(changes.TemplateDelete(name="t"))
    assert await room.call(changes.TemplateList()) == []
    await room.restart()
    assert room.manager.catalogue.sources == {}
    assert "q" not in room.manager.catalogue.queues


async def test_a_pool_that_a_queue_names_stays(room: ManagerRoom) -> None:
    error = await _refused(room, changes.PoolDelete(name="demo"))
    assert error.info.fix == "change or delete first: aiwm queue update demo …"
    await room.call(changes.QueueUpdate(name="demo", clear=("pools",)))
    await room.call(changes.PoolDelete(name="demo"))
    assert room.manager.instances.of_pool("demo") == []
    assert (
        await _refused(room, fleet.PoolCreate(definition=PoolDefinition(name="echo", definition="echo")))
    ).code == "conflict"


async def test_a_queue_with_tasks_is_deleted_only_with_them(room: ManagerRoom) -> None:
    await room.call(fleet.QueuePause(name="echo"))
    ids = [(await room.call(TaskSubmit(queue="echo", payload={}))).id for _ in range(3)]
    error = await _refused(room, changes.QueueDelete(name="echo"))
    assert "3 waiting and 0 running" in error.info.message
    deleted = await room.call(changes.QueueDelete(name="echo", cancel_tasks=True))
    assert (deleted.cancelled, deleted.stopped) == (3, 0)
    assert (await room.call(TaskShow(id=ids[0]))).row.state == TaskState.cancelled
    assert "echo" not in room.manager.catalogue.queues


async def test_a_task_that_comes_while_its_queue_is_deleted_saves_the_queue(room: ManagerRoom) -> None:
    await room.call(fleet.QueuePause(name="echo", reason="as it was"))
    submitting = asyncio.ensure_future(room.call(TaskSubmit(queue="echo", payload={})))
    deleting = asyncio.ensure_future(room.call(changes.QueueDelete(name="echo")))
    task = await submitting
    with pytest.raises(AiwmError) as caught:
        await deleting
    assert caught.value.code == "conflict"
    assert (await room.call(TaskShow(id=task.id))).row.state == TaskState.pending
    queue = room.manager.catalogue.queue("echo")
    assert (queue.draining, queue.paused, queue.pause_reason) == (False, True, "as it was")


async def test_no_task_comes_into_a_queue_between_its_last_look_and_its_end(room: ManagerRoom) -> None:
    deleting = asyncio.ensure_future(room.call(changes.QueueDelete(name="echo")))
    acks: list[Any] = []
    while not deleting.done():
        await asyncio.sleep(0)
        acks.append(asyncio.ensure_future(room.call(TaskSubmit(queue="echo", payload={}))))
    taken = [it for it in await asyncio.gather(*acks, return_exceptions=True) if not isinstance(it, BaseException)]
    assert bool(taken) == ("echo" in room.manager.catalogue.queues)


async def _forever(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_queue_with_a_running_task_stops_it_first(room: ManagerRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TemplateWorker, "process", _forever)
    task = await room.call(TaskSubmit(queue="echo", payload={}))
    await room.until(task.id, TaskState.processing)
    assert "1 running" in (await _refused(room, changes.QueueDelete(name="echo"))).info.message
    deleted = await room.call(changes.QueueDelete(name="echo", cancel_tasks=True))
    assert deleted.stopped == 1
    assert (await room.call(TaskShow(id=task.id))).row.state == TaskState.cancelled


async def test_a_draining_queue_takes_nothing_new(room: ManagerRoom) -> None:
    detail = await room.call(changes.QueueDrain(name="echo", reason="moving house"))
    assert (detail.row.state, detail.definition.pause_reason) == ("draining", "moving house")
    error = await _refused(room, TaskSubmit(queue="echo", payload={}))
    assert "drain" in error.info.message
    await room.call(fleet.QueueResume(name="echo"))
    await room.call(TaskSubmit(queue="echo", payload={}))


async def test_a_queue_is_paused_even_when_something_it_names_is_gone(room: ManagerRoom) -> None:
    from engine.contract.requests.bundles import BundleLoad

    update = changes.QueueUpdate
    await room.call(update(name="echo", changes=_said(update, supervisor="nano")))
    await room.call(BundleLoad(bundle='{"workers": [{"name": "echo", "kind": "template"}]}'))
    detail = await room.call(fleet.QueuePause(name="echo", reason="3 a.m."))
    assert (detail.definition.paused, detail.definition.pause_reason) == (True, "3 a.m.")


# -- scaling and alerts ------------------------------------------------------------------------------------------------


async def test_every_scaling_step_is_kept_with_its_reason_and_effect(room: ManagerRoom) -> None:
    update = changes.PoolUpdate
    await room.call(update(name="echo", changes=_said(update, min_idle=2)))
    await room.call(changes.QueueUpdate(name="echo", clear=("pools",)))
    await room.call(update(name="echo", changes=_said(update, min_idle=0, max_total=1)))
    told = await room.events("pool.scaled")
    steps = await room.call(changes.PoolHistory(name="echo"))
    assert [(step.change, step.total) for step in reversed(steps)] == [(1, 1), (1, 2), (-1, 1)]
    assert all(step.reason and step.instance for step in steps)
    assert all(any(step.reason in line for line in told) for step in steps)
    await room.restart()
    assert (await room.call(changes.PoolHistory(name="echo")))[: len(steps)][-1].id == "echo/1"


async def test_a_mission_critical_pool_that_cannot_spawn_alerts(
    room: ManagerRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise AiwmError("definition_invalid", "the kind cannot be loaded")

    monkeypatch.setattr(room.manager.instances, "spawn", broken)
    room.manager.dispatcher._perform(SpawnInstance("echo", "tasks wait"))
    assert await room.events("alert.pool") == []
    assert await room.events("pool.spawn_failed") == ["the kind cannot be loaded"]
    update = changes.PoolUpdate
    await room.call(update(name="echo", changes=_said(update, mission_critical=True)))
    room.manager.dispatcher._perform(SpawnInstance("echo", "tasks wait"))
    assert await room.events("alert.pool") == ["the kind cannot be loaded"]
    assert (await room.call(changes.PoolHistory(name="echo")))[0].change == 0


async def test_a_dead_letter_of_a_mission_critical_queue_alerts(
    room: ManagerRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
        raise AiwmError("task_failed", "no luck")

    monkeypatch.setattr(TemplateWorker, "process", fails)
    plain = await room.call(TaskSubmit(queue="echo", payload={}, max_attempts=1))
    await room.until(plain.id, TaskState.failed)
    assert await room.events("alert.queue") == []
    update = changes.QueueUpdate
    await room.call(update(name="echo", changes=_said(update, mission_critical=True)))
    critical = await room.call(TaskSubmit(queue="echo", payload={}, max_attempts=1))
    await room.until(critical.id, TaskState.failed)
    (told,) = await room.events("alert.queue")
    assert critical.id in told
    assert "no luck" in told


# -- maintenance -------------------------------------------------------------------------------------------------------


async def test_maintenance_outlasts_a_restart_and_tasks_wait(room: ManagerRoom) -> None:
    drained = await room.call(EngineDrain(reason="driver update"))
    assert drained.idle
    assert drained.maintenance.by == "operator"
    assert room.manager.dispatching.mode() == "maintenance: driver update (operator)"
    await room.restart()
    assert room.manager.dispatching.mode() == "maintenance: driver update (operator)"
    task = await room.call(TaskSubmit(queue="echo", payload={}))
    assert (await room.call(TaskShow(id=task.id))).row.state == TaskState.pending
    # The engine's life has a say of its own: neither lets start what the other forbids.
    room.manager.enable(False, "nobody waits")
    room.manager.enable(True)
    assert (await room.call(TaskShow(id=task.id))).row.state == TaskState.pending
    resumed = await room.call(EngineResume())
    assert resumed.maintenance is not None
    await room.until(task.id, TaskState.completed)
    await room.restart()
    assert room.manager.dispatching.mode() == ""
    assert (await room.call(EngineResume())).maintenance is None


async def test_maintenance_that_cannot_be_stored_is_none(room: ManagerRoom) -> None:
    room.store.journal._failure = "no space left"
    assert (await _refused(room, EngineDrain(reason="driver"))).code == "storage_failed"
    room.store.journal._failure = None
    assert room.manager.dispatching.mode() == ""
    task = await room.call(TaskSubmit(queue="echo", payload={}))
    await room.until(task.id, TaskState.completed)
    await room.call(EngineDrain(reason="driver"))
    room.store.journal._failure = "no space left"
    assert (await _refused(room, EngineResume())).code == "storage_failed"
    assert room.manager.dispatching.mode() == "maintenance: driver (operator)"
    room.store.journal._failure = None


async def test_a_drain_says_what_a_restart_would_take_back(room: ManagerRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TemplateWorker, "process", _forever)
    monkeypatch.setattr(TemplateWorker, "idempotent", False)
    task = await room.call(TaskSubmit(queue="echo", payload={}))
    await room.until(task.id, TaskState.processing)
    drained = await room.call(EngineDrain(reason="reboot", wait_ms=20))
    assert not drained.idle
    assert [(it.id, it.kind, it.idempotent) for it in drained.running] == [(task.id, "template", False)]
    assert drained.risky == ["template"]


# -- what the scheduler is told ----------------------------------------------------------------------------------------


async def test_the_engine_has_no_more_instances_than_the_configuration_allows(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[scheduling]\nmax_total_instances = 1\n")
    room = ManagerRoom(home, config)
    await room.start()
    assert [it.pool for it in room.manager.instances.all()] == ["demo"], "the one that min_idle wants"
    task = await room.call(TaskSubmit(queue="echo", payload={}))
    why = await room.call(fleet.PoolExplain(name="echo"))
    assert [gate.name for gate in why.gates if gate.closed] == ["engine max"]
    await room.call(fleet.PoolScale(name="demo", min_idle=0))
    await room.call(changes.QueueDelete(name="demo"))
    await room.call(changes.PoolDelete(name="demo"))
    await room.until(task.id, TaskState.completed)
    await room.stop()


async def test_a_disabled_definition_gets_no_tasks_until_it_is_active(room: ManagerRoom) -> None:
    off = '[{"name": "nano", "model": "aiwm-nano"}, {"name": "echo", "kind": "template", "status": "disabled"}]'
    await room.call(changes.WorkerLoad(workers=off))
    task = await room.call(TaskSubmit(queue="echo", payload={}))
    assert (await room.call(TaskShow(id=task.id))).row.state == TaskState.pending
    row = next(row for row in await room.call(fleet.PoolList()) if row.id == "echo")
    assert row.held_by == "disabled"
    await room.call(changes.WorkerLoad(workers=off.replace("disabled", "active")))
    await room.until(task.id, TaskState.completed)


async def test_a_pool_without_its_worker_says_so_wherever_it_is_asked(room: ManagerRoom) -> None:
    await room.call(changes.QueueUpdate(name="demo", clear=("pools",)))
    from engine.contract.requests.bundles import BundleLoad

    await room.call(BundleLoad(bundle='{"workers": [{"name": "nano", "kind": "template"}]}'))
    await room.call(TaskSubmit(queue="echo", payload={}))
    row = next(row for row in await room.call(fleet.PoolList()) if row.id == "echo")
    assert (row.state, row.held_by) == ("broken", "no definition")
    why = await room.call(fleet.PoolExplain(name="echo"))
    assert not why.moving
    queue = await room.call(fleet.QueueExplain(name="echo"))
    assert not queue.moving
    assert next(row for row in await room.call(fleet.QueueList()) if row.id == "echo").state == "stuck"
