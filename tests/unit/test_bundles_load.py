"""Loading for real: policies, what is put in force and announced, what outlasts a restart, and what is refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.definitions import QueueDefinition
from engine.contract.errors import AiwmError
from engine.contract.requests import definitions as changes
from engine.contract.requests.bundles import BundleDiff, BundleExport, BundleLoad, BundlePolicy, BundleSetPolicy
from engine.contract.requests.fleet import QueueCreate, WorkerList, WorkerReload, WorkerShow
from engine.contract.requests.tasks import TaskShow, TaskSubmit
from engine.contract.states import TaskState
from engine.control.definitions import Kind, stable_id
from engine.workers.kinds.template import TemplateWorker
from engine.workers.template import TaskInput, TaskOutput, WorkerContext
from tests.support.manager_room import ManagerRoom

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def room(home: Path) -> AsyncIterator[ManagerRoom]:
    made = ManagerRoom(home)
    await made.start()
    yield made
    await made.stop()


def worker(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "kind": "template", **fields}


def text(**document: Any) -> str:
    return json.dumps(document)


GOOD = {
    "aiWorkerDefinitions": [worker("a"), worker("b")],
    "aiWorkerPoolDefinitions": [
        {"name": f"p{n}", "targetAIWorkerDefinitionName": "a", "maxTotalInstances": 2} for n in range(3)
    ],
}
BAD = {**GOOD, "aiWorkerPoolDefinitions": [*GOOD["aiWorkerPoolDefinitions"], {"name": "bad", "definition": "none"}]}


async def test_fail_fast_changes_nothing_and_load_valid_all_but_the_bad_one(room: ManagerRoom) -> None:
    before = room.manager.catalogue.now
    refused = await room.call(BundleLoad(bundle=text(**BAD), policy="FailFastOnError"))
    assert not refused.loaded
    assert room.manager.catalogue.now is before
    report = await room.call(BundleLoad(bundle=text(**BAD), policy="LoadValidAndReportErrors"))
    assert report.loaded
    assert [(error.kind, error.name, error.field) for error in report.errors] == [
        ("pool", "bad", "aiWorkerPoolDefinitions[3].definition")
    ]
    now = room.manager.catalogue.now
    assert sorted(now.workers) == ["a", "b"]
    assert sorted(now.pools) == ["demo", "echo", "p0", "p1", "p2"]
    assert await room.events("definitions.changed") == [
        "+worker a, +worker b, -worker echo, -worker nano, +pool p0, +pool p1, +pool p2"
    ]
    assert report.counts["pools"] == 5


async def test_a_second_bundle_with_one_worker_leaves_exactly_one(room: ManagerRoom) -> None:
    await room.call(BundleLoad(bundle=text(**GOOD)))
    await room.call(BundleLoad(bundle=text(workers=[worker("a")])))
    assert [row.id for row in await room.call(WorkerList())] == ["a"]
    assert "p0" in room.manager.catalogue.pools


async def test_bad_workers_under_load_valid_leave_the_valid_ones_and_fail_fast_the_old(room: ManagerRoom) -> None:
    document = text(workers=[worker("good"), worker("bad", kind="none")])
    await room.call(BundleLoad(bundle=document, policy="fail-fast"))
    assert sorted(room.manager.catalogue.workers) == ["echo", "nano"]
    await room.call(BundleLoad(bundle=document, policy="load-valid"))
    assert sorted(room.manager.catalogue.workers) == ["good"]


async def test_what_lost_its_worker_is_told_and_comes_back_with_it(room: ManagerRoom) -> None:
    report = await room.call(BundleLoad(bundle=text(workers=[worker("other")])))
    assert {(warning.kind, warning.name) for warning in report.warnings} == {("pool", "demo"), ("pool", "echo")}
    row = next(row for row in room.manager.tables.pools() if row.id == "echo")
    assert (row.state, row.held_by) == ("broken", "no definition")
    assert room.manager.dispatcher._scheduler.fleet.pools.keys() == set()
    await room.call(BundleLoad(bundle=text(workers=[worker("other"), worker("echo")])))
    assert room.manager.dispatcher._scheduler.fleet.pools.keys() == {"echo"}


async def test_a_bundle_outlives_the_engine_and_the_unchanged_file(room: ManagerRoom) -> None:
    await room.call(BundleLoad(bundle=text(**GOOD)))
    before = room.manager.catalogue.now
    await room.restart()
    assert room.manager.catalogue.now == before
    # Somebody edits the file while the engine is down: that is a wish, and it is heard.
    file = room.home / "ai_worker_definitions.json"
    file.write_text(json.dumps([worker("a"), worker("c"), worker("nano"), worker("echo")]))
    await room.restart()
    assert sorted(room.manager.catalogue.workers) == ["a", "c", "echo", "nano"]


async def test_a_broken_file_leaves_the_last_set_in_force_with_an_alarm(room: ManagerRoom) -> None:
    (room.home / "ai_worker_definitions.json").write_text('{"workers": [')
    await room.restart()
    assert sorted(room.manager.catalogue.workers) == ["echo", "nano"]
    await room.restart()
    assert len(await room.events("worker.refused")) == 2, "an alarm at each start"


async def test_a_new_home_begins_with_the_files_in_it(home: Path) -> None:
    room = ManagerRoom(home)
    files = {
        "ai_worker_definitions": [worker("w")],
        "ai_worker_pool_definitions": [
            {"name": "p", "target_ai_worker_definition_name": "w", "max_total_instances": 1}
        ],
        "ai_work_queue_definitions": [{"name": "q", "associated_pool_names": ["p"]}],
        "ai_work_item_definitions": {"workItemDefinitions": [{"name": "t"}]},
        "ai_global_data_source_definitions": [{"name": "s", "type": "local_directory", "local_path": "x"}],
    }
    for name, document in files.items():
        (home / f"{name}.json").write_text(json.dumps(document))
    await room.start()
    now = room.manager.catalogue.now
    assert [sorted(now.of(kind)) for kind in Kind] == [["s"], ["w"], ["p"], ["q"], ["t"]]
    # The same files again, by hand: nothing is different, and a new worker in them is there at once.
    report = await room.call(BundleLoad())
    assert all(change.unchanged == 1 and not change.added for change in report.changes)
    await room.stop()


async def test_a_diff_shows_fields_and_changes_nothing(room: ManagerRoom) -> None:
    before = room.manager.catalogue.now
    document = text(pools=[{"name": "demo", "definition": "nano", "max_total": 9, "retirement": {"max_tasks": 5}}])
    report = await room.call(BundleDiff(bundle=document))
    pools = next(change for change in report.changes if change.kind == "pool")
    assert [(field.field, field.before, field.after) for field in pools.changed[0].fields] == [
        ("min_idle", 1, 0),
        ("max_total", 4, 9),
        ("retirement.max_tasks", 0, 5),
    ]
    assert not report.loaded
    assert room.manager.catalogue.now is before


async def test_an_unknown_model_is_an_error_for_local_and_a_warning_for_others(room: ManagerRoom) -> None:
    local = {"name": "l", "model": "gone"}
    remote = {"name": "r", "model": "gone", "provider": "openai"}
    report = await room.call(BundleLoad(bundle=text(workers=[local, remote])))
    assert [error.field for error in report.errors] == ["workers[0].model"]
    assert ("worker", "r") in {(warning.kind, warning.name) for warning in report.warnings}
    assert sorted(room.manager.catalogue.workers) == ["r"]


async def test_a_model_that_went_is_told_at_the_start_and_stops_nothing(room: ManagerRoom) -> None:
    room.shelf.there = ()
    await room.restart()
    assert "nano" in room.manager.catalogue.workers
    (told,) = await room.events("worker.model_missing")
    assert "aiwm-nano" in told


async def test_an_export_brings_everything_back_into_an_empty_home(room: ManagerRoom, tmp_path: Path) -> None:
    await room.call(
        BundleLoad(bundle=text(**GOOD, workQueueDefinitions=[{"name": "q", "associated_pool_names": ["p1"]}]))
    )
    await room.call(changes.QueueDelete(name="demo"))
    exported = await room.call(BundleExport())
    other = ManagerRoom(tmp_path / "other")
    await other.start()
    report = await other.call(BundleLoad(bundle=json.dumps(exported.bundle), policy="fail-fast"))
    assert report.errors == []
    assert other.manager.catalogue.now == room.manager.catalogue.now
    assert (await other.call(BundleExport())).bundle == exported.bundle
    await other.stop()


async def test_a_complete_bundle_does_not_take_tasks_with_it(room: ManagerRoom) -> None:
    exported = (await room.call(BundleExport())).bundle
    await room.call(QueueCreate(definition=QueueDefinition(name="q", pools=("echo",), paused=True)))
    await room.call(TaskSubmit(queue="q", payload={}))
    report = await room.call(BundleLoad(bundle=json.dumps(exported), policy="fail-fast"))
    assert not report.loaded
    assert "has 1 task that has not ended" in report.errors[0].message
    kept = await room.call(BundleLoad(bundle=json.dumps(exported), policy="load-valid"))
    assert kept.loaded
    assert "q" in room.manager.catalogue.queues
    await room.call(changes.QueueDelete(name="q", cancel_tasks=True))
    gone = await room.call(BundleLoad(bundle=json.dumps(exported), keep_others=True))
    assert gone.errors == []


async def test_no_task_comes_into_a_queue_that_a_bundle_drops(
    room: ManagerRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = json.dumps((await room.call(BundleExport())).bundle)
    await room.call(QueueCreate(definition=QueueDefinition(name="q", pools=("echo",), paused=True)))
    keeping = room.manager.library.keeping
    change = keeping.change

    async def with_a_submit(*arguments: Any) -> None:
        with pytest.raises(AiwmError, match="is being deleted"):
            await room.call(TaskSubmit(queue="q", payload={}))
        await change(*arguments)

    monkeypatch.setattr(keeping, "change", with_a_submit)
    assert (await room.call(BundleLoad(bundle=exported, policy="load-valid"))).loaded
    assert "q" not in room.manager.catalogue.queues


async def test_a_task_on_its_way_saves_the_queue_that_a_bundle_would_drop(room: ManagerRoom) -> None:
    exported = json.dumps((await room.call(BundleExport())).bundle)
    await room.call(QueueCreate(definition=QueueDefinition(name="q", pools=("echo",), paused=True)))
    submitting = asyncio.ensure_future(room.call(TaskSubmit(queue="q", payload={})))
    loading = asyncio.ensure_future(room.call(BundleLoad(bundle=exported, policy="load-valid")))
    await submitting
    assert "has 1 task that has not ended" in (await loading).errors[0].message
    assert "q" in room.manager.catalogue.queues


async def test_the_load_policy_is_kept(room: ManagerRoom) -> None:
    assert (await room.call(BundlePolicy())).policy == "load-valid"
    await room.call(BundleSetPolicy(policy="FailFastOnError"))
    await room.restart()
    assert (await room.call(BundlePolicy())).policy == "fail-fast"
    assert not (await room.call(BundleLoad(bundle=text(**BAD)))).loaded
    with pytest.raises(AiwmError) as caught:
        await room.call(BundleSetPolicy(policy="fail-fats"))
    assert caught.value.info.fix == 'did you mean "fail-fast"?'


async def test_a_reload_reads_the_file_and_refuses_to_strand_a_pool(room: ManagerRoom) -> None:
    file = room.home / "ai_worker_definitions.json"
    file.write_text(json.dumps({"workers": [worker("nano"), worker("echo"), worker("third")]}))
    done = await room.call(WorkerReload())
    assert (done.added, done.changed, done.removed, done.unchanged) == (["third"], ["echo", "nano"], [], 0)
    file.write_text(json.dumps({"aiWorkerDefinitions": [worker("ecko")]}))
    refused = await room.call(WorkerReload())
    assert any('pool "echo" is left without its worker "echo"' in error.message for error in refused.errors)
    assert sorted(room.manager.catalogue.workers) == ["echo", "nano", "third"]
    file.write_text('{"workers": [')
    assert "is not JSON" in (await room.call(WorkerReload())).errors[0].message
    file.write_text('{"pools": []}')
    assert (await room.call(WorkerReload())).errors[0].field == "pools"
    file.write_text("{}")
    assert (await room.call(WorkerReload())).errors
    assert [row.name for row in room.store.readers.definitions("worker")] == ["echo", "nano", "third"]


async def test_a_worker_document_replaces_the_set_or_nothing(room: ManagerRoom) -> None:
    document = json.dumps([worker("nano"), worker("echo", description="new")])
    assert not (await room.call(changes.WorkerValidate(workers=document))).loaded
    assert room.manager.catalogue.workers["echo"].description != "new"
    assert (await room.call(changes.WorkerLoad(workers=document))).loaded
    assert room.manager.catalogue.workers["echo"].description == "new"


async def test_instances_of_a_changed_definition_drain(room: ManagerRoom) -> None:
    await room.call(changes.PoolUpdate(name="echo", changes=_changes(changes.PoolUpdate, min_idle=1)))
    (first,) = room.manager.instances.of_pool("echo")
    (idle,) = room.manager.instances.of_pool("demo")
    document = [worker("echo", description="changed"), {"name": "nano", "model": "aiwm-nano", "capabilities": ["text"]}]
    await room.call(changes.WorkerLoad(workers=json.dumps(document)))
    (second,) = room.manager.instances.of_pool("echo")
    assert second.id != first.id
    assert second.definition.description == "changed"
    assert room.manager.instances.of_pool("demo") != [idle], "its description went, so it is another definition"


async def test_a_busy_instance_ends_its_task_with_what_it_started_with(
    room: ManagerRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def waits(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
        await go_on.wait()
        return TaskOutput(result={"by": self.definition.description})

    monkeypatch.setattr(TemplateWorker, "process", waits)
    await room.call(BundleLoad(bundle=text(workers=[worker("echo", description="old"), worker("nano")])))
    first = await room.call(TaskSubmit(queue="echo", payload={}))
    await room.until(first.id, TaskState.processing)
    await room.call(BundleLoad(bundle=text(workers=[worker("echo", description="new"), worker("nano")])))
    second = await room.call(TaskSubmit(queue="echo", payload={}))
    await room.until(second.id, TaskState.processing)
    assert sorted(it.definition.description for it in room.manager.instances.of_pool("echo")) == ["new", "old"]
    go_on.set()
    for task, by in ((first, "old"), (second, "new")):
        await room.until(task.id, TaskState.completed)
        assert (await room.call(TaskShow(id=task.id))).result == {"by": by}
    await room.events("pool.scaled")
    assert [it.definition.description for it in room.manager.instances.of_pool("echo")] == ["new"]


async def test_a_definition_is_found_by_its_id_too(room: ManagerRoom) -> None:
    detail = await room.call(WorkerShow(name=stable_id(Kind.worker, "echo")))
    assert detail.definition.name == "echo"
    assert detail.uuid == stable_id(Kind.worker, "echo")
    assert stable_id(Kind.worker, "echo") != stable_id(Kind.pool, "echo")


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("", ["Beta", "alpha"]),
        ("name:alp*", ["alpha"]),
        ("NAME:BETA", ["Beta"]),
        ("provider:local status:active", ["alpha"]),
        ("capabilities:x capabilities:y", ["alpha"]),
        ("capabilities:x,z", ["Beta", "alpha"]),
        ("interaction:conversational,both", ["alpha"]),
    ],
)
async def test_worker_lists_are_filtered(room: ManagerRoom, where: str, found: list[str]) -> None:
    await room.call(
        BundleLoad(
            bundle=text(
                workers=[
                    worker("alpha", capabilities=["x", "y"]),
                    worker("Beta", capabilities=["z"], status="disabled", interaction="stateless_task"),
                ]
            )
        )
    )
    assert sorted(row.id for row in await room.call(WorkerList(where=where))) == found


async def test_worker_lists_are_in_the_order_of_their_lower_case_names(room: ManagerRoom) -> None:
    await room.call(BundleLoad(bundle=text(workers=[worker("b"), worker("C"), worker("a")])))
    assert [row.id for row in await room.call(WorkerList())] == ["a", "b", "C"]


async def test_what_breaks_a_critical_pool_is_an_alert(room: ManagerRoom) -> None:
    def bad(**fields: Any) -> str:
        return text(pools=[{"name": "p", "definition": "none", **fields}])

    await room.call(BundleLoad(bundle=bad()))
    assert len(await room.events("definition.refused")) == 1
    assert await room.events("alert.pool") == []
    await room.call(BundleLoad(bundle=bad(isMissionCritical=True)))
    await room.call(BundleLoad(bundle=bad(mission_critical=True, maxx=1), policy="fail-fast"))
    assert len(await room.events("alert.pool")) == 2


async def test_a_queue_whose_pool_lost_its_worker_still_takes_tasks(room: ManagerRoom) -> None:
    await room.call(BundleLoad(bundle=text(workers=[worker("other")])))
    task = await room.call(TaskSubmit(queue="echo", payload={"a": 1}))
    assert (await room.call(TaskShow(id=task.id))).row.state == "pending"
    await room.call(BundleLoad(bundle=text(workers=[worker("echo")])))
    await room.until(task.id, TaskState.completed)


async def test_worker_rows_say_whether_their_key_is_found(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[keys.far]\nmethod = "env"\nvalue = "FAR_KEY"\nhosts = ["far.example"]\n')
    room = ManagerRoom(home, config)
    await room.start()
    room.manager.tables.key_status = {"far": "Found", "": "Not Configured"}.__getitem__
    workers = [
        worker("here"),
        worker("there", provider="openai", auth={"method": "env_var", "value": "FAR_KEY"}),
        worker("nowhere", provider="openai", model="gpt-9"),
    ]
    report = await room.call(BundleLoad(bundle=text(workers=workers), policy="fail-fast"))
    assert report.errors == []
    rows = {row.id: (row.key, row.key_status) for row in await room.call(WorkerList())}
    assert rows == {"here": ("", ""), "there": ("far", "Found"), "nowhere": ("", "Not Configured")}
    pool = {"name": "far", "definition": "nowhere", "max_total": 1}
    assert (await room.call(BundleLoad(bundle=text(pools=[pool]), policy="fail-fast"))).errors == []
    (model,) = [row.model for row in room.manager.tables.pools() if row.id == "far"]
    assert model == "openai/gpt-9"
    await room.stop()


async def test_a_key_in_a_bundle_reaches_no_event_and_no_file(room: ManagerRoom) -> None:
    key = "sk-live-0123456789abcdef"
    bundle = text(workers=[worker("a", auth={"method": "inline", "value": key})])
    await room.call(BundleLoad(bundle=bundle))
    assert await room.events("bundle.load") == [""]
    await room.stop()
    assert not any(key.encode() in file.read_bytes() for file in room.home.rglob("*") if file.is_file())
    await room.start()


def _changes(request: Any, **fields: Any) -> Any:
    from typing import get_type_hints

    return get_type_hints(request)["changes"](**fields)


def test_a_new_home_starts_without_the_validator(home: Path) -> None:
    script = (
        "import asyncio, sys, pathlib\n"
        "from tests.support.manager_room import ManagerRoom\n"
        "async def main():\n"
        "    room = ManagerRoom(pathlib.Path(sys.argv[1]))\n"
        "    await room.start()\n"
        "    assert sorted(room.manager.catalogue.workers) == ['echo', 'nano']\n"
        "    await room.restart()\n"
        "    await room.stop()\n"
        "    assert 'jsonschema_rs' not in sys.modules\n"
        "asyncio.run(main())\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(home)], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
