"""The connection: an engine that is not there, that goes, that comes back."""

from __future__ import annotations

from typing import Any

from engine.contract.errors import AiwmError, Code
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.screens import press, shows, text_of, wait_until


async def test_an_engine_that_does_not_start_is_said_to_with_its_reason(console: Any, engine: ConsoleEngine) -> None:
    engine.down = True
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "the engine did not start", "no engine serves this home", "aiwm engine run")
        engine.down = False
        await shows(app, "13 rows", "live")


async def test_a_lost_connection_keeps_the_rows_greyed_and_comes_back(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks sort:id")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        await press(app, "down", "down")
        engine.down = True
        engine.drop()
        await shows(app, "stale 0s", "t-10003")
        engine.now = lambda: NOW + 3_000
        app.clock = engine.now
        await shows(app, "stale 3s")
        table = app.page.live_table
        strip = table.render_line(4)
        stale = app.palette["stale"].color
        assert {segment.style.color for segment in strip if segment.text.strip() and segment.style} == {stale}
        await press(app, "P")
        engine.down = False
        engine.change("tasks", "t-10003", reason="news from after the break")
        await shows(app, "news from after the break", "connected again")
        assert app.page.row.id == "t-10003", "the cursor is where it was"
        assert "stale" not in text_of(app).split("\n")[0]


async def test_what_is_asked_while_there_is_no_engine_is_refused_plainly(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        engine.down = True
        engine.drop()
        await shows(app, "stale")
        await press(app, "E")
        await shows(app, "the engine is not connected")


async def test_a_followed_text_goes_on_after_a_break(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=(120, 36)):
        engine.write("t-10001", "before, ")
        await shows(app, "before, ▌")
        engine.drop()
        engine.streams["t-10001"].text += "meanwhile, "
        await wait_until(lambda: engine.client is not None and "t-10001" in engine.client.followed, "following again")
        engine.write("t-10001", "after")
        await shows(app, "before, meanwhile, after▌")


async def test_an_engine_of_another_version_is_said_to(console: Any, engine: ConsoleEngine) -> None:
    from aiwm_tui.app import ConsoleApp

    async def mismatch() -> Any:
        raise AiwmError(Code.protocol_mismatch, "the engine speaks protocol 2, this console 1", fix="aiwm engine stop")

    app = ConsoleApp(mismatch, clock=engine.now)
    async with app.run_test(size=(120, 36)):
        await shows(app, "protocol 2", "aiwm engine stop")
