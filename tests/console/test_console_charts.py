"""Pools and queues over time: charts in the strip and on a row's page, `z` zooms, steps have effects; a task's parts and its prompt."""

from __future__ import annotations

from typing import Any

import pytest

from engine.contract.errors import AiwmError, Code
from engine.contract.records import TimelineStep
from engine.contract.records.definitions import ScaleStep
from engine.contract.requests.comparisons import PromptText, TaskPrompt
from engine.contract.requests.fleet import ModelList
from engine.contract.requests.usage import SamplesRead, UsageRead
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.rows import record_row
from tests.support.screens import hides, press, shows, text_of, wait_until

MINUTE = 60_000


def _sampled(engine: ConsoleEngine) -> None:
    """An hour in which more and more waited, while the pool grew."""
    for minute in range(60):
        at_ms = NOW - (60 - minute) * MINUTE
        for name, value in (
            ("pool.demo.instances", 1 + minute // 20),
            ("pool.demo.busy", 1),
            ("pool.demo.waiting", minute),
            ("pool.demo.out", 12.0),
            ("queue.demo.waiting", minute),
            ("queue.demo.in", 22.0),
            ("queue.demo.out", 18.0),
            ("queue.demo.p95", 4100.0),
        ):
            engine.samples.setdefault(name, []).append((at_ms, float(value)))
    engine.answers[ModelList] = lambda engine, _: list(engine.tables["models"].values())
    engine.steps["demo"] = [
        ScaleStep(
            id="demo/1",
            at_ms=NOW - 20 * MINUTE,
            pool="demo",
            change=1,
            instance="i-02",
            reason="12 tasks wait [bold]\x1b[31m",
            total=2,
            idle=0,
            busy=2,
            waiting=12,
            out_before=12.0,
            out_after=12.0,
        )
    ]


def _asked(engine: ConsoleEngine) -> list[SamplesRead]:
    return [request for request in engine.requests if isinstance(request, SamplesRead)]


async def test_a_pool_shows_how_it_was_scaled_why_and_to_what_effect(engine: ConsoleEngine, console: Any) -> None:
    _sampled(engine)
    app = console(location=":pools")
    async with app.run_test(size=(120, 36)):
        await shows(
            app, "instances, and what waits", "out/m ┤12.0 12.0", "▲", "02:47:41", "1 → 2", "none", "12 tasks wait"
        )
        assert "\x1b" not in text_of(app)
        await press(app, "z")
        await shows(app, "the last 24h")
        await wait_until(lambda: _asked(engine)[-1].step_ms == 300_000)
        await press(app, "z", "z", "z")
        await shows(app, "the last 1h")


async def test_the_page_of_a_queue_has_its_charts_and_its_definition(engine: ConsoleEngine, console: Any) -> None:
    _sampled(engine)
    app = console(location=":queues/demo")
    async with app.run_test(size=(120, 36)):
        await shows(app, "waiting, and how fast", "in/m ┤22.0", "p95 ┤4.1s", "At this rate: never empty")
        await press(app, "z")
        await shows(app, "the last 24h")
        await press(app, "G")
        await shows(app, '"default_priority"')
        await press(app, "g")
        await shows(app, "waiting, and how fast")


@pytest.mark.parametrize("location", [":queues", ":queues/demo"])
async def test_charts_that_cannot_be_had_are_said_and_the_rest_stays(
    engine: ConsoleEngine, console: Any, location: str
) -> None:
    engine.refuse[SamplesRead] = AiwmError(Code.storage_failed, "the samples cannot be read", fix="aiwm db check")
    app = console(location=location)
    async with app.run_test(size=(120, 36)):
        await shows(app, "the samples cannot be read", "aiwm db check", "pool at max")


async def test_where_there_are_no_charts_z_says_so(console: Any) -> None:
    app = console(location=":workers")
    async with app.run_test(size=(120, 36)):
        await shows(app, "nano")
        await press(app, "z")
        await shows(app, "z zoom: not here")


async def test_a_task_shows_its_prompt_and_its_parts_scroll(engine: ConsoleEngine, console: Any) -> None:
    long = {f"field {number}": number for number in range(60)}
    steps = tuple(TimelineStep(at_ms=NOW - 9_000 + n, type="task.started", text=f"step {n}") for n in range(40))
    engine.details["t-10001"] = {"payload": long, "timeline": steps}
    engine.answers[TaskPrompt] = lambda _, request: PromptText(id=request.id, text="<|user|>Who?\x1b[2J", kept=True)
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=(120, 36)):
        await shows(app, "WHERE EACH SETTING COMES FROM", "›OUTPUT", " TIMELINE", "step 0", "definition nano")
        await press(app, "i")
        await shows(app, "›PROMPT AS SENT", "as its model read it", "<|user|>Who?")
        assert "\x1b" not in text_of(app)
        await press(app, "i")
        await shows(app, "›OUTPUT")
        await hides(app, "<|user|>")
        await press(app, "tab")
        await shows(app, "›TIMELINE")
        await press(app, "G")
        await shows(app, "step 39")
        await press(app, "tab")
        await shows(app, "›FACTS", " TIMELINE")
        await press(app, "G")
        await shows(app, '"field 59"')
        await press(app, "tab")
        await shows(app, "›OUTPUT")


async def test_a_narrow_task_page_has_its_timeline_among_the_facts(engine: ConsoleEngine, console: Any) -> None:
    engine.details["t-10001"] = {"timeline": (TimelineStep(at_ms=NOW - 9_000, type="task.started", text="on i-01"),)}
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=(80, 24)):
        await shows(app, "FACTS", "TIMELINE", "on i-01")


async def test_who_used_what_leads_to_the_tasks(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":usage by:submitter since:1h sort:-tokens")
    async with app.run_test(size=(120, 36)):
        await shows(app, "submitter [bold]one", "tokens1▼", "220,224", "since 02:07:41")
        await press(app, "enter")
        await shows(app, ':tasks by:"submitter [bold]one" ended>=2026-11-20T02:07:41')
        await press(app, "escape", "z")
        await shows(app, ":usage by:submitter since:24h sort:-tokens", "since 19 Nov 03:07")
        await press(app, "tab")
        await shows(app, ":usage since:24h by:definition sort:-tokens", "definition [bold]one")
        await press(app, "right", "s")
        await shows(app, "sort:-tokens,tasks", "tasks2▲")
        asked = [request.by for request in engine.requests if isinstance(request, UsageRead)]
        assert asked[-1] == "definition"


async def test_what_usage_cannot_sum_is_said_with_what_it_can(console: Any) -> None:
    app = console(location=":usage by:colour")
    async with app.run_test(size=(120, 36)):
        await shows(app, 'usage cannot be summed by "colour"', "one of submitter, definition")
        await press(app, "tab")
        await shows(app, ":usage by:submitter", "submitter [bold]one")
        app.open_location(":usage since:soon")
        await shows(app, "since:", "1h, 22:00, yesterday, all")


async def test_every_series_is_a_line_and_opens_large(engine: ConsoleEngine, console: Any) -> None:
    _sampled(engine)
    engine.samples["model.m.0.misses"] = [(NOW - 120_000, 1.0), (NOW - 60_000, 4.0)]
    app = console(location=":charts queue.demo")
    async with app.run_test(size=(120, 36)):
        await shows(app, "4 rows", "queue.demo.in", "22.0", "queue.demo.p95", "4.1s")
        await press(app, "down", "down", "down", "enter")
        await shows(app, ":charts/queue.demo.waiting", "1 series", "least 0.0", "most 59.0", "60 points")
        await press(app, "z")
        await shows(app, ":charts/queue.demo.waiting since:24h")
        await press(app, "escape", "escape")
        await shows(app, "queue.demo.p95")
        app.open_location(":charts/pool.demo.*")
        await shows(app, "4 series", "pool.demo.instances", "pool.demo.waiting")
        app.open_location(":charts misses")
        await shows(app, "model.m.0.misses", "/min", "3.0")
        app.open_location(":charts nothing-such")
        await shows(app, "no samples: they are taken while something moves")


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (160, 45)])
@pytest.mark.parametrize(
    "location", [":usage", ":charts", ":charts/queue.demo.*", ":queues", ":pools/demo", ":tasks/t-10001"]
)
async def test_every_size_is_drawn(engine: ConsoleEngine, console: Any, location: str, size: tuple[int, int]) -> None:
    _sampled(engine)
    app = console(location=location)
    async with app.run_test(size=size) as pilot:
        await wait_until(lambda: app.machine is not None)
        await press(app, "z", "pagedown", "G", "g", "tab", "w", "w")
        await pilot.resize_terminal(100, 30)
        await press(app, "z")
        await shows(app, "z zoom: ")


async def test_an_instance_of_a_pool_shows_what_it_writes_and_what_it_did(engine: ConsoleEngine, console: Any) -> None:
    engine.write("t-10001", "the answer so far")
    done = record_row(1, instance="i-01", task="t-09999", summary="[bold]Kern AG\x1b[2J", ended_ms=NOW - 60_000)
    failed = record_row(2, instance="i-01", task="t-09998", state="failed", error="output_not_json", ended_ms=NOW)
    engine.put("records", done, failed)
    app = console(location=":instances/i-01")
    async with app.run_test(size=(120, 36)):
        await shows(app, "the answer so far", "what came out", "t-09999", "[bold]Kern AG", "t-09998", "output_not_json")
        assert "\x1b" not in text_of(app)
        engine.change("instances", "i-01", task=None, state="idle")
        await hides(app, "the answer so far")
        await press(app, "tab", "G")
        await shows(app, "t-09999", "○ idle")


async def test_the_strip_of_a_busy_instance_compares_it_with_what_is_usual(engine: ConsoleEngine, console: Any) -> None:
    engine.change("queues", "demo", p95_ms=1_000.0)
    engine.change("tasks", "t-10001", started_ms=NOW - 400_000, tokens_out=388)
    app = console(location=":instances id:i-01")
    async with app.run_test(size=(120, 36)):
        await shows(
            app, "388 tokens in 6m40s", "p95 in demo is 1.0s", "it takes 400 times as long", "supervisor rules/default"
        )


async def test_a_thin_line_carries_no_charts_in_the_strip(engine: ConsoleEngine, console: Any) -> None:
    _sampled(engine)
    app = console(location=":queues", lean=True)
    async with app.run_test(size=(120, 36)):
        await shows(app, "charts are left out on a thin line; d shows them", "pool at max")
        assert _asked(engine) == []
        await press(app, "d")
        await shows(app, ":queues/demo", "waiting, and how fast", "in/m ┤22.0")
