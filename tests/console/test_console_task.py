"""A task's page: its text as it is written, facts, timeline, why."""

from __future__ import annotations

import asyncio
from typing import Any

from engine.contract.errors import ErrorInfo
from engine.contract.records import TimelineStep
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.screens import hides, press, shows, text_of, wait_until

TIMELINE = (
    TimelineStep(at_ms=NOW - 60_000, type="task.submitted", text="to demo"),
    TimelineStep(at_ms=NOW - 9_000, type="task.started", text="attempt 1 on i-01"),
)


async def test_drilling_into_a_running_task_shows_its_text_arrive(engine: ConsoleEngine, console: Any) -> None:
    engine.write("t-10001", '{\n  "supplier": ')
    engine.details["t-10001"] = {"timeline": TIMELINE}
    app = console(location=":tasks state:processing sort:id")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        await press(app, "enter")
        await shows(app, ":tasks/t-10001", '"supplier": ▌', "● processing · follows", "attempt 1 on i-01", "51.0s")
        await shows(app, "Who sent this invoice?", "1 of 3", "388 out")
        engine.write("t-10001", '"Müller & Söhne"')
        await shows(app, '"supplier": "Müller & Söhne"▌')
        engine.write("t-10001", "\n}", ended=True)
        engine.details["t-10001"] = {"result": {"text": '{\n  "supplier": "Müller & Söhne"\n}'}}
        engine.change("tasks", "t-10001", state="completed", ended_ms=NOW)
        await shows(app, "✓ completed")
        await hides(app, "▌", "follows")
        await shows(app, '"supplier": "Müller & Söhne"', "}")


async def test_long_text_follows_its_end_until_somebody_scrolls(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=(120, 36)):
        await shows(app, "FACTS")
        for number in range(200):
            engine.write("t-10001", f"line {number}\n")
        await shows(app, "line 199", "follows")
        await press(app, "pageup")
        await hides(app, "line 199")
        await shows(app, "stands still: G follows")
        for number in range(200, 400):
            engine.write("t-10001", f"line {number}\n")
        await wait_until(lambda: "line 399" in app.page.stream.text)
        assert "line 399" not in text_of(app)
        await press(app, "G")
        await shows(app, "line 399", "follows")


async def test_chunks_that_overtake_the_answer_or_get_lost_do_no_harm(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=(120, 36)):
        engine.write("t-10001", "one ")
        await shows(app, "one ▌")
        stream = engine.streams["t-10001"]
        # A chunk is lost on the way: the next one begins behind what is known.
        stream.text += "two "
        engine.write("t-10001", "three")
        await shows(app, "one two three▌")


async def test_a_second_attempt_begins_anew(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=(120, 36)):
        engine.write("t-10001", "first try")
        await shows(app, "first try▌")
        stream = engine.streams["t-10001"]
        stream.attempt, stream.text = 2, ""
        engine.write("t-10001", "again")
        await shows(app, "again▌")
        assert "first try" not in text_of(app)


async def test_a_failed_task_says_what_went_wrong(engine: ConsoleEngine, console: Any) -> None:
    engine.details["t-10008"] = {
        "error": ErrorInfo(
            code="model_crashed",
            message="the model process ended by signal 9",
            fix="aiwm model ps",
            stderr=("last words", "[red]x"),
        )
    }
    app = console(location=":tasks/t-10008")
    async with app.run_test(size=(120, 36)):
        await shows(app, "✗ failed", "model_crashed", "ended by signal 9", "last words", "[red]x", "aiwm model ps")
        await press(app, "R")
        await shows(app, "R back in the queue t-10008", "◌ pending")


async def test_an_answer_by_a_schema_is_a_fact(engine: ConsoleEngine, console: Any) -> None:
    schema = {"type": "object", "properties": {"supplier": {}, "[b]net[/b]": {}}}
    engine.details["t-10001"] = {"payload": {"prompt": "?", "schema": schema}}
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=(120, 40)):
        await shows(app, "answer in", "JSON: supplier, [b]net[/b]")


async def test_a_task_that_does_not_exist_is_said_to(console: Any) -> None:
    app = console(location=":tasks/t-zzzzz")
    async with app.run_test(size=(120, 36)):
        await shows(app, '"t-zzzzz" does not exist')


async def test_leaving_the_page_stops_following(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=(120, 36)):
        await wait_until(lambda: engine.client is not None and "t-10001" in engine.client.followed)
        await press(app, "2")
        await shows(app, "13 rows")
        await wait_until(lambda: engine.client is not None and not engine.client.followed)
        assert engine.client is not None
        await wait_until(
            lambda: engine.client is not None and len(engine.client.views) == 2, "machine and table are open"
        )


async def test_a_megabyte_on_one_line_does_not_stop_the_console(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=(120, 36)):
        await shows(app, "FACTS")
        engine.write("t-10001", "x" * 1_000_000)
        await shows(app, "xxx▌")
        await press(app, "g")
        await asyncio.wait_for(press(app, "2"), 5)
        await shows(app, "13 rows")
