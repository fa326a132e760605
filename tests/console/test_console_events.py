"""Events in the console, on a real engine: the chain of a task and of an event, neighbours of matches, what operators did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiwm_tui.app import ConsoleApp
from engine.client import connect
from engine.contract.requests.fleet import QueuePause
from engine.contract.requests.tasks import TaskCancel, TaskSubmit
from tests.support import engines
from tests.support.screens import press, shows, wait_until


def _app(home: Path, location: str) -> ConsoleApp:
    async def dial() -> Any:
        return await connect(home, spawn=False, name="console")

    return ConsoleApp(dial, location=location)


async def test_one_key_leads_from_a_task_and_from_an_event_to_all_that_belongs_to_it(home: Path) -> None:
    with engines.engine(home) as running:
        client = running.client()
        client.call(QueuePause(name="demo", reason="the test looks first"))
        first = client.call(TaskSubmit(queue="demo", payload={"prompt": "a"})).id
        other = client.call(TaskSubmit(queue="demo", payload={"prompt": "b"})).id
        app = _app(home, f":tasks id:{first}")
        async with app.run_test(size=(130, 36)):
            await shows(app, "pending", first)
            await wait_until(lambda: app.page.row is not None)
            await press(app, "c")
            await shows(app, f":events chain:{first}", "task.submitted", "1 match of")
            client.call(TaskCancel(ids=(first, other)))
            await shows(app, "task.cancelled", "4 match of", "task.cancel ", "operation.done")
            abouts = {row.about for row in app.page.known_rows().values()}
            assert abouts == {first, "op-1"}, "what the operation did to others is not of this task"
            app.open_location(":audit type:task.cancel")
            await shows(app, ":events level:audit type:task.cancel", "op-1", "chain of op-1", f"task.cancelled {other}")
            await wait_until(lambda: app.page.row is not None)
            await press(app, "c")
            await shows(app, ":events chain:op-1", "task.cancelled", first, other)
            app.open_location(":events type:engine.started")
            await shows(app, "epoch 1")
            await wait_until(lambda: app.page.row is not None)
            await press(app, "c")
            await shows(app, "belongs to nothing else")
            await press(app, "/", "ctrl+u", *"type:queue.pause -C 1", "enter")
            await shows(app, ":events type:queue.pause around:1", "1 around each")
            await wait_until(lambda: "queue.pause" in _beside(app))
            drawn = _beside(app)
            assert drawn.pop("queue.pause") is False, "what matches stands out"
            assert drawn
            assert set(drawn.values()) == {True}


def _beside(app: Any) -> dict[str, bool]:
    """Types of the events on the screen, and whether each only stands beside what was looked for."""
    return {line.cells[2][0]: line.stale for line in app.page.live_table._drawn if line.cells}
