"""Screens that are no tables (engine, usage, limits), where a task's settings come from, and how a pool was scaled."""

from __future__ import annotations

from typing import Any

import pytest

from engine.contract.definitions import WorkerDefinition
from engine.contract.records.definitions import ScaleStep
from engine.contract.records.notes import Feedback, Insight, LessonUsed, TaskNotes
from engine.contract.requests import maintenance
from engine.contract.requests.usage import UsageRead
from engine.contract.why import Gate, Why
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.screens import press, shows, wait_until


async def test_the_engine_is_quieted_with_a_reason_and_goes_on(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":engine")
    async with app.run_test(size=(120, 36)):
        await shows(app, "● tasks start", "up 1h00m", "pool at max", "/home/ana/[bold]aiwm")
        await press(app, "D")
        await shows(app, "DRAIN THE ENGINE")
        await press(app, *"driver", "enter")
        await shows(app, "a restart now would take 1 task back; http may do something twice")
        await shows(app, "‖ maintenance: driver, by ana since 03:07:41", "2 tasks to go")
        assert maintenance.EngineDrain(reason="driver") in engine.requests
        await press(app, "P")
        await shows(app, "P the engine goes on: 14 tasks wait", "● tasks start")


async def test_usage_is_summed_by_what_the_location_says(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":usage by:definition since:1h")
    async with app.run_test(size=(120, 36)):
        await shows(app, "definition [bold]one", "29.8k", "190k", "0.0123", "since 02:07:41")
        assert UsageRead(by="definition", since_ms=NOW - 3_600_000, limit=1_000) in engine.requests
        app.open_location(":usage by:colour")
        await shows(app, 'usage cannot be summed by "colour"', "one of submitter, definition")
        app.open_location(":usage since:soon")
        await shows(app, "✗ bad_location", "since:")


async def test_a_full_window_counts_down(console: Any) -> None:
    app = console(location=":limits")
    async with app.run_test(size=(120, 36)):
        await shows(app, "◌ limited", "opens 03:08:22, in 41s", "2 of 2 requests in this minute", "100 %")
        app.clock = lambda: NOW + 11_000
        await shows(app, "in 30s")


async def test_a_worker_says_what_it_may_call(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":workers id:nano")
    async with app.run_test(size=(120, 36)):
        await shows(app, "tools none: it has no allow list")
    engine.definitions["workers", "nano"] = WorkerDefinition(name="nano", model="m", tools_allow=("*",))
    app = console(location=":workers id:nano")
    async with app.run_test(size=(120, 36)):
        await shows(app, "may call 1: read_file", "asks before 1: task_cancel", "1 more are not on its allow list")
        await shows(app, "✗ write_file is on the deny list of worker nano")


async def test_the_time_at_which_a_task_may_go_is_counted_down(engine: ConsoleEngine, console: Any) -> None:
    gate = Gate(name="rate", closed=True, count=1, why="2 requests per minute", opens_ms=NOW + 41_000)
    engine.whys["demo"] = Why(scope="queue", about="demo", moving=True, summary="waits", gates=(gate,))
    app = console(location=":queues id:demo")
    async with app.run_test(size=(120, 36)):
        await shows(app, "03:08:22, in 41s")
        app.clock = lambda: NOW + 11_000
        await shows(app, "03:08:22, in 30s")


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_a_tasks_page_says_where_its_settings_come_from(
    engine: ConsoleEngine, console: Any, size: tuple[int, int]
) -> None:
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=size):
        if size[0] == 120:
            await shows(
                app, "WHERE EACH SETTING COMES FROM", "inv-2026", "pool demo also queue", "file.write", "rules/default"
            )
        else:
            await shows(app, "OUTPUT", "FACTS")


async def test_a_tasks_page_shows_what_was_learned(engine: ConsoleEngine, console: Any) -> None:
    engine.details["t-10008"] = {
        "notes": TaskNotes(
            lessons=(LessonUsed(id="L-19", version=2, title="IBAN: 22 characters"),),
            insights=(Insight(at_ms=NOW, level="warn", message="[bold]the page was cut[/"),),
            feedback=(
                Feedback(
                    id="f",
                    task="t-10008",
                    rating=0.5,
                    comments="half right",
                    by="rules/default",
                    at_ms=NOW,
                    corrections="DE12",
                ),
            ),
        )
    }
    app = console(location=":tasks/t-10008")
    async with app.run_test(size=(120, 44)):
        await shows(
            app, "L-19 v2", "IBAN: 22 characters", "[bold]the page was cut[/", "50 %  half right", "better: DE12"
        )


async def test_a_pools_strip_says_how_it_was_scaled(engine: ConsoleEngine, console: Any) -> None:
    engine.steps["demo"] = [
        ScaleStep(
            id="demo/2",
            at_ms=NOW - 60_000,
            pool="demo",
            change=1,
            instance="i-03",
            reason="head of demo waited 9s",
            total=4,
            idle=0,
            busy=4,
            waiting=12,
        ),
        ScaleStep(
            id="demo/1",
            at_ms=NOW - 90_000,
            pool="demo",
            change=0,
            instance="",
            reason="no memory",
            total=3,
            idle=0,
            busy=3,
            waiting=0,
        ),
    ]
    app = console(location=":pools id:demo")
    async with app.run_test(size=(120, 36)):
        await shows(app, "03:06:41", "3 → 4", "head of demo waited 9s", "12 tasks waited", "failed", "no memory")
        await wait_until(lambda: app.page.row is not None)
