"""The ten most frequent jobs of an operator, each by its keys, in no more keystrokes than its mock-up shows, and its command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiwm_tui.app import ConsoleApp
from engine.client import BlockingClient, connect
from engine.contract.definitions import ModelDefinition, QueueDefinition
from engine.contract.requests import approvals, memory, models
from engine.contract.requests.fleet import QueueCreate, WorkerReload
from engine.contract.requests.maintenance import EngineResume
from engine.contract.requests.tasks import TaskShow, TaskSubmit, TaskWait
from tests.support.cli import in_process
from tests.support.console_engine import ConsoleEngine
from tests.support.console_inference import models as model_rows
from tests.support.console_night import night
from tests.support.engines import engine as running_engine
from tests.support.engines import make_queue
from tests.support.house import caller_environment
from tests.support.monkey.house import SHIPPED
from tests.support.screens import press, shows, wait_until

SIZE = (120, 36)
WORKERS = [
    {"name": "echo", "kind": "template"},
    {"name": "nano", "model": "aiwm-nano"},
    {"name": "toned", "model": "aiwm-nano", "adapters": [{"name": "tone@v1"}]},
    {"name": "boss", "kind": "caller", "tools_allow": ["task_cancel"]},
]
BROKEN = {
    "prompt": "Who?",
    "max_tokens": 3,
    "schema": {"type": "object", "required": ["a"], "properties": {"a": {"minLength": 99, "type": "string"}}},
}
FAILED = 22


class Shop:
    """An engine after a night: failures of one adapter, a queue that nobody serves, a task that asks to cancel another."""

    def __init__(self, home: Path, client: BlockingClient) -> None:
        self.home, self.client = home, client

    def build(self) -> None:
        for version, name in ((1, "house-words"), (2, "ticket-labels")):
            shutil.copytree(SHIPPED / name, self.home / "adapters" / f"tone@v{version}")
        (self.home / "ai_worker_definitions.json").write_text(json.dumps({"workers": WORKERS}))
        assert not self.client.call(WorkerReload()).errors
        self.client.call(QueueCreate(definition=QueueDefinition(name="still")))
        for queue, definition in (("etl", "toned"), ("bulk", "echo"), ("boss", "boss")):
            make_queue(self.client, queue, definition=definition, instances=1)
        self.failed = [
            self.client.call(TaskSubmit(queue="etl", payload=BROKEN, max_attempts=1)).id for _ in range(FAILED)
        ]
        victim = self.client.call(TaskSubmit(queue="still", payload={"text": "waits"})).id
        call = {"tool": "task_cancel", "args": {"ids": [victim]}}
        boss = self.client.call(TaskSubmit(queue="boss", payload={"calls": [call]})).id
        self.client.call(TaskWait(ids=(*self.failed, boss), timeout_ms=60_000))

    def console(self) -> ConsoleApp:
        async def dial() -> Any:
            return await connect(self.home, spawn=False, name="console")

        return ConsoleApp(dial)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    base = tmp_path_factory.mktemp("jobs")
    with running_engine(base / "home", environment=caller_environment(base)) as running, running.client() as client:
        made = Shop(base / "home", client)
        made.build()
        yield made


def cursor(app: ConsoleApp) -> Any:
    """The row under the cursor."""
    return app.page.row


class Keys:
    """Presses keys and counts them. `shown` are the strokes of the mock-up, with the names of this engine in place of its own."""

    def __init__(self, app: Any, *shown: str) -> None:
        self.app, self.pressed = app, 0
        self.allowed = sum(len(part.removeprefix("=")) if part[0] in ":/=" else 1 for part in shown)

    async def __call__(self, *keys: str) -> None:
        self.pressed += len(keys)
        await press(self.app, *keys)

    async def on_a_row(self) -> None:
        await wait_until(lambda: self.app.page.row is not None, "a row under the cursor")

    def done(self) -> None:
        assert self.pressed <= self.allowed, f"{self.pressed} keystrokes where the mock-up shows {self.allowed}"


async def test_1_why_is_nothing_moving(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    app = shop.console()
    async with app.run_test(size=SIZE):
        keys = Keys(app, "3", "!")
        await shows(app, "NEEDS YOU", "live")
        await keys("3", "!")
        await shows(app, ":queues is:fault", "still", "no pool serves queue")
        keys.done()
        # Or from the overview: what needs somebody, the most urgent first, opens what solves it.
        keys = Keys(app, "1", "↵")
        await keys("1")
        await shows(app, "NEEDS YOU", "still")
        await keys.on_a_row()
        await keys("enter")
        await wait_until(lambda: app.page.location.table != "overview", "what solves it")
        keys.done()
    aiwm = in_process(capsys)
    home = ("--home", str(shop.home))
    assert aiwm("why", *home).code == 1
    assert "no pool serves queue" in aiwm("why", ":queues still", *home).out


async def test_2_make_room_for_a_model(engine: ConsoleEngine, console: Any) -> None:
    for row in model_rows():
        engine.put("models", row)
    app = console(location=":overview")
    async with app.run_test(size=SIZE):
        await shows(app, "anvil")
        keys = Keys(app, "6", "/mistral", "↓↑", "way 1", "L", "↵")
        await keys("6")
        await shows(app, ":models", "mistral24")
        await keys(*"/mistral", "enter")
        await shows(app, "1 match", "mistral24")
        await keys.on_a_row()
        await keys("L")
        await shows(app, "LOAD mistral24", "aiwm model load mistral24 --way 1 --yes")
        await keys("enter")
        await wait_until(lambda: any(isinstance(it, memory.ModelLoad) for it in engine.requests), "the load")
        (request,) = [it for it in engine.requests if isinstance(it, memory.ModelLoad)]
        assert (request.name, request.way) == ("mistral24", 1)
        keys.done()


async def test_3_requeue_the_failures_of_the_night(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    where = "state:failed ended>yesterday adapter:tone@v1"
    aiwm = in_process(capsys)
    home = ("--home", str(shop.home))
    dry = aiwm(
        "task", "retry", "--where", where, "--adapter", "tone", "--front", "--canary", "1", "--dry-run", "--json", *home
    )
    assert (dry.code, dry.json["data"]["count"]) == (0, FAILED)
    app = shop.console()
    async with app.run_test(size=SIZE):
        await shows(app, "NEEDS YOU", "live")
        keys = Keys(app, "2", "/" + where, "↵", "*", "R", "current", "canary", "=" + str(FAILED), "↵")
        await keys("2")
        await shows(app, ":tasks", "live")
        await keys("/", *"state:f", "tab", *" ended>yesterday ", *"ad", "tab", *"tone@v1", "enter")
        await shows(app, f":tasks {where}", f"{FAILED} match")
        await keys("*", "R")
        await shows(app, f"RETRY {FAILED} TASKS", f"Type {FAILED} to go on")
        # From what is typed last over the end to the adapter, on to the first one, and back.
        await keys("tab", *"tone", "tab", "tab", "right", "tab", "tab", "tab", *str(FAILED), "enter")
        await shows(app, "R back in the queue", f"and {FAILED - 5} more", "Z takes it back")
        keys.done()
    # One went first, the rest behind it, with the current version of the adapter.
    assert shop.client.call(TaskShow(id=shop.failed[0])).row.attempt > 1


async def test_4_who_used_the_tokens(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    app = shop.console()
    async with app.run_test(size=SIZE):
        await shows(app, "NEEDS YOU", "live")
        keys = Keys(app, ":usage by:submitter since:1h sort:-tokens", "↵", "↵")
        await keys(*":usage by:submitter since:1h sort:-tokens", "enter")
        await shows(app, ":usage by:submitter", "operator")
        await keys.on_a_row()
        await keys("enter")
        await shows(app, ":tasks", "by:operator")
        keys.done()
    ran = in_process(capsys)("usage", "--by", "submitter", "--since", "1h", "--json", "--home", str(shop.home))
    assert any(row["tokens_in"] > 0 for row in ran.json["data"])


async def test_5_set_an_adapter_back(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    app = shop.console()
    async with app.run_test(size=SIZE):
        await shows(app, "NEEDS YOU", "live")
        keys = Keys(app, "7", "/tone", "V", "=v2", "↵", "Z")
        await keys("7")
        await shows(app, ":adapters", "tone@v1", "tone@v2")
        await keys(*"/tone", "enter")
        await shows(app, "2 match")
        await keys.on_a_row()
        other = "tone@v2" if cursor(app).current else "tone@v1"
        if cursor(app).id != other:
            await keys("down")
            await wait_until(lambda: cursor(app).id == other)
        other = cursor(app).id
        await keys("V")
        await shows(app, f"{other} IS THE CURRENT ONE", f"aiwm adapter use {other}")
        await keys("enter")
        await shows(app, f"→ {other}   Z takes it back")
        await keys("Z")
        await shows(app, "is undone")
        keys.done()
    ran = in_process(capsys)("adapter", "versions", "tone", "--home", str(shop.home))
    assert "v1" in ran.out


async def test_6_quiet_the_machine_and_go_on(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    app = shop.console()
    async with app.run_test(size=SIZE):
        await shows(app, "NEEDS YOU", "live")
        keys = Keys(app, ":engine", "↵", "D", "=driver", "↵", "P")
        await keys(*":engine", "enter")
        await shows(app, "● tasks start")
        await keys("D")
        await shows(app, "DRAIN THE ENGINE")
        await keys(*"driver", "enter")
        await shows(app, "the machine is quiet", "‖ maintenance: driver")
        await keys("P")
        await shows(app, "the engine goes on")
        keys.done()
    aiwm = in_process(capsys)
    home = ("--home", str(shop.home))
    try:
        assert aiwm("engine", "drain", "--reason", "driver", "--wait", "10s", *home).code == 0
        assert aiwm("engine", "resume", *home).code == 0
    finally:
        shop.client.call(EngineResume())


async def test_7_what_made_this_answer(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    task = shop.failed[-1]
    app = shop.console()
    async with app.run_test(size=SIZE):
        await shows(app, "NEEDS YOU", "live")
        keys = Keys(app, "2", "/" + task, "↵", "i", "C", "base", "v1", "v2", "↵")
        await keys("2")
        await shows(app, ":tasks", task)
        await keys("/", *task, "enter")
        await shows(app, "1 match")
        await keys.on_a_row()
        await keys("enter")
        await shows(app, f":tasks/{task}", "FACTS")
        await keys("i")
        await shows(app, "Who?")
        await keys("C")
        await shows(app, f":compare/{task}", "base", "tone@v1")
        keys.done()
    aiwm = in_process(capsys)
    home = ("--home", str(shop.home))
    assert "Who?" in aiwm("task", "show", task, "--prompt", *home).out
    assert "tone@v1" in aiwm("task", "compare", task, "--adapters", "base,tone@v1", *home).out


async def test_8_a_model_process_keeps_crashing(engine: ConsoleEngine, console: Any) -> None:
    for row in model_rows():
        engine.put("models", row)
    definition = ModelDefinition(name="llama8", path="/models/llama8", kv_bytes=6 * 2**30)
    engine.answers[models.ModelShow] = lambda *_: models.ModelDetail(definition=definition, origin="added")
    engine.answers[models.ModelSet] = lambda *_: models.ModelDetail(definition=definition, origin="added")
    app = console(location=":overview")
    async with app.run_test(size=SIZE):
        await shows(app, "anvil")
        keys = Keys(app, "6", "!", "↵", "l", "e", "E", "=KV", "=6", "=4G", "R")
        await keys("6", "!")
        await shows(app, ":models is:fault")
        await keys.on_a_row()
        await keys("E")
        await shows(app, "EDIT MODEL", "kv bytes", "6G")
        await keys("backspace", "backspace", *"4G", "enter")
        await wait_until(lambda: any(isinstance(it, models.ModelSet) for it in engine.requests), "the change")
        (request,) = [it for it in engine.requests if isinstance(it, models.ModelSet)]
        assert request.changes.kv_bytes == 4 * 2**30
        await shows(app, "R starts it again")
        await keys("R")
        keys.done()


async def test_8_what_a_crashed_process_said_and_what_happened(engine: ConsoleEngine, console: Any) -> None:
    night(engine)
    engine.put("models", msgspec.structs.replace(engine.row("models", "llama8.0"), state="backoff", note="SIGSEGV"))
    app = console(location=":overview")
    async with app.run_test(size=SIZE):
        await shows(app, "NEEDS YOU")
        keys = Keys(app, "6", "!", "↵", "l", "e")
        await keys("6", "!")
        await shows(app, ":models is:fault", "2 match of 5", "llama8.0")
        await wait_until(lambda: cursor(app) is not None and cursor(app).id == "llama8.0", "the process")
        await keys("enter")
        await shows(app, ":models/llama8.0", "SIGSEGV")
        await keys("l")
        await shows(app, ":logs/llama8.0", "pages free")
        await keys("e")
        await shows(app, ":events about:llama8.0")
        keys.done()


async def test_9_a_file_of_prompts_through_a_queue(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "in.jsonl"
    prompts.write_text("".join(json.dumps({"id": f"p{n}", "text": str(n)}) + "\n" for n in range(50)))
    app = shop.console()
    async with app.run_test(size=SIZE):
        await shows(app, "NEEDS YOU", "live")
        keys = Keys(app, "3", "on etl", "N", "=" + str(prompts), "template", "↵", ":batches", "↵")
        await keys("3")
        await shows(app, ":queues", "bulk", "still")
        await keys.on_a_row()
        await keys("down")
        await wait_until(lambda: cursor(app).id == "bulk", "the queue")
        await keys("N")
        await shows(app, "SUBMIT A TASK", "bulk")
        await keys("tab", *str(prompts), "ctrl+s")
        await shows(app, "50")
        await keys(*":batches", "enter")
        await shows(app, ":batches", "50")
        keys.done()
    aiwm = in_process(capsys)
    home = ("--home", str(shop.home))
    out = tmp_path / "out.jsonl"
    line = ("task", "submit", "bulk", "--file", str(prompts), "--key", "id", "--batch", "b-0412", "--priority", "3")
    assert aiwm(*line, *home).code == 0
    assert aiwm("batch", "wait", "b-0412", "--out", str(out), *home).code == 0
    assert [json.loads(each)["key"] for each in out.read_text().splitlines()] == [f"p{n}" for n in range(50)]


async def test_10_what_happened_overnight_and_what_asks_me(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    app = shop.console()
    async with app.run_test(size=SIZE):
        await shows(app, "NEEDS YOU", "live")
        keys = Keys(app, "0", "↵", "A", "9", "/level:audit,ask since:22:00", "↵")
        await keys("0")
        await shows(app, ":approvals", "task.cancel")
        await keys.on_a_row()
        await keys("A")
        await shows(app, "APPROVE ap-")
        await keys("enter")
        await shows(app, "done: task.cancel")
        await keys("9")
        await shows(app, ":events")
        await keys(*"/level:audit,ask since:22:00", "enter")
        await shows(app, ":events level:audit,ask since:22:00")
        keys.done()
    aiwm = in_process(capsys)
    home = ("--home", str(shop.home))
    assert aiwm("approval", "list", *home).code == 0
    assert aiwm("events", "search", "--since", "1h", "--level", "error,ask,audit", *home).code == 0
    assert aiwm("report", "--since", "1h", *home).code == 0
    assert not [it for it in shop.client.call(approvals.ApprovalList()) if it.state == "pending"]
