"""Changing things: each effect is said, destruction asks for a fixed set, read-only refuses, leaving asks about running work."""

from __future__ import annotations

from typing import Any

import pytest

from engine.contract.errors import AiwmError, Code
from engine.contract.requests import fleet, session, tasks
from engine.contract.requests.operations import OperationUndo
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.console_machine import task
from tests.support.screens import hides, press, shows, text_of, wait_until


async def test_cancel_asks_for_the_row_that_was_under_the_cursor(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks state:pending sort:id")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10004")
        await press(app, "X")
        await shows(app, "CANCEL 1 TASK", "This one and no other:", "aiwm task cancel t-10004")
        # The table moves on below the dialog; the set does not.
        engine.put("tasks", task(0, id="t-00001"))
        await press(app, *"twice", "enter")
        await shows(app, "X cancels t-10004", "Z takes it back, 5 s")
        assert engine.requests[-1] == tasks.TaskCancel(ids=("t-10004",), reason="twice", delay_ms=5_000)
        await press(app, "Z")
        await shows(app, "Z op-1 is undone")
        assert OperationUndo(id="op-1") in engine.requests


async def test_the_time_to_take_a_change_back_runs_out(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks id:t-10004")
    async with app.run_test(size=(120, 36)):
        await shows(app, "◌ pending  t-10004")
        await press(app, "X")
        await shows(app, "CANCEL 1 TASK")
        await press(app, "enter")
        await shows(app, "Z takes it back, 5 s")
        app.clock = lambda: NOW + 3_200
        await shows(app, "Z takes it back, 2 s")
        app.clock = lambda: NOW + 5_000
        await shows(app, "X cancels t-10004   done")


async def test_cancel_can_be_left(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks state:pending sort:id")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10004")
        await press(app, "X")
        await shows(app, "CANCEL 1 TASK")
        await press(app, "escape")
        await shows(app, "nothing was changed")
        assert not any(isinstance(request, tasks.TaskCancel) for request in engine.requests)


@pytest.mark.parametrize(
    ("location", "key", "said"),
    [
        (":tasks id:t-1000b", "X", "t-1000b is completed already"),
        (":tasks id:t-10001", "R", "only tasks that failed, were cancelled or wait for their time"),
        (":workers", "P", "P pause: not here"),
        (":overview", "s", "s sort: not here"),
        (":overview", "/", "/ filter: not here"),
    ],
)
async def test_what_does_not_fit_is_said(console: Any, location: str, key: str, said: str) -> None:
    app = console(location=location)
    async with app.run_test(size=(120, 36)):
        await shows(app, "anvil", "›")
        await press(app, key)
        await shows(app, said)


async def test_pause_and_resume_are_one_key(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        await press(app, "P")
        await shows(app, "PAUSE QUEUE demo")
        await press(app, *"new driver", "enter")
        await shows(app, "P paused demo: 12 tasks wait, 2 still run", "› ‖ paused demo")
        assert fleet.QueuePause(name="demo", reason="new driver") in engine.requests
        await press(app, "P")
        await shows(app, "P demo goes on")


@pytest.mark.parametrize(("key", "request_type"), [("E", fleet.QueueShow), ("S", fleet.PoolShow)])
async def test_an_engine_that_does_not_answer_stops_no_key(
    engine: ConsoleEngine, console: Any, key: str, request_type: type
) -> None:
    engine.hangs.add(request_type)
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        await press(app, key, "escape", "2")
        await shows(app, ":tasks", "13 rows")
        engine.drop()


async def test_a_dialog_can_be_left_while_the_engine_does_not_answer(engine: ConsoleEngine, console: Any) -> None:
    engine.hangs.add(tasks.TaskSubmit)
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        await press(app, "N")
        await shows(app, "SUBMIT A TASK")
        await press(app, *"hello", "ctrl+s", "escape")
        await hides(app, "SUBMIT A TASK")
        await press(app, "2")
        await shows(app, ":tasks", "13 rows")
        engine.drop()


async def test_scaling_checks_numbers_and_shows_the_engines_error_at_its_field(
    engine: ConsoleEngine, console: Any
) -> None:
    app = console(location=":pools")
    async with app.run_test(size=(120, 36)):
        await shows(app, "at max")
        await press(app, "S")
        await shows(app, "SCALE POOL demo", "max total")
        await press(app, "end", "x")
        await shows(app, '"4x" is not a whole number')
        engine.refuse[fleet.PoolScale] = AiwmError(Code.bad_request, "min_idle is above max_total", field="min_idle")
        await press(app, "backspace", "enter")
        await shows(app, "min_idle is above max_total")
        engine.refuse.clear()
        await press(app, "up", "end", "backspace", "8", "enter")
        await shows(app, "S demo keeps 1 idle and has at most 8")
        assert fleet.PoolScale(name="demo", min_idle=1, max_total=8) in engine.requests


async def test_submitting_shows_errors_at_their_fields(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        await press(app, "N")
        await shows(app, "SUBMIT A TASK", "demo")
        await press(app, *'{"prompt": ')
        await shows(app, "the payload is not JSON")
        await press(app, *'"12 + 30"}', "ctrl+s")
        await shows(app, "N submitted t-10099 to demo")
        assert tasks.TaskSubmit(queue="demo", payload={"prompt": "12 + 30"}) in engine.requests


async def test_submitting_to_a_queue_that_does_not_exist(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks queue:nowhere")
    async with app.run_test(size=(120, 36)):
        await shows(app, "none of 13")
        await press(app, "N")
        await shows(app, "SUBMIT A TASK", "nowhere")
        await press(app, *"hello", "ctrl+s")
        await shows(app, 'queue "nowhere" does not exist', "aiwm queue list")


async def test_reloading_definitions_says_what_changed(console: Any) -> None:
    app = console(location=":workers")
    async with app.run_test(size=(120, 36)):
        await shows(app, "nano")
        await press(app, "L")
        await shows(app, "L added new (2 as before)")


async def test_read_only_refuses_and_dims(engine: ConsoleEngine, console: Any) -> None:
    engine.read_only = True
    app = console(location=":queues")
    async with app.run_test(size=(120, 40)):
        await shows(app, "summaries", "read-only")
        await press(app, "P")
        await shows(app, "this console is read-only; nothing was changed")
        assert not any(isinstance(request, fleet.QueuePause) for request in engine.requests)
        await press(app, "?")
        await shows(app, "This console is read-only")
        line = next(line for line in app.screen.query_one("#help").lines if "pause this queue" in str(line))
        assert all(style in ("off", "") or "pause" not in text for text, style in line if text.startswith("  P"))
        assert any(text.strip() == "P" and style == "off" for text, style in line)


async def test_leaving_without_work_just_leaves(engine: ConsoleEngine, console: Any) -> None:
    engine.change("machine", "anvil", running=0, waiting=0)
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "run 0  wait 0")
        await press(app, "q")
        await wait_until(lambda: not app.is_running)
    assert not any(isinstance(request, session.EngineStop) for request in engine.requests)


@pytest.mark.parametrize(
    ("keys", "mode"),
    [(("enter",), None), (("down", "enter"), "drain"), (("2",), "drain"), (("3",), "now"), (("q",), None)],
)
async def test_leaving_with_work_asks_what_becomes_of_it(
    engine: ConsoleEngine, console: Any, keys: tuple[str, ...], mode: str | None
) -> None:
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "run 2  wait 14")
        await press(app, "ctrl+c")
        await shows(app, "LEAVE: 2 tasks run, 14 wait", "leave it running", "drain", "stop now")
        await press(app, *keys)
        await wait_until(lambda: not app.is_running)
    stops = [request.mode for request in engine.requests if isinstance(request, session.EngineStop)]
    assert stops == ([mode] if mode else [])


async def test_leaving_can_be_thought_better_of(console: Any) -> None:
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "run 2  wait 14")
        await press(app, "q")
        await shows(app, "LEAVE:")
        await press(app, "escape")
        await hides(app, "LEAVE:")
        assert app.is_running
        assert "NEEDS YOU" in text_of(app)


async def test_an_id_is_copied_by_the_terminal(console: Any) -> None:
    app = console(location=":tasks sort:id")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        await press(app, "y")
        await shows(app, "y copied the id: t-10001")
        assert app.clipboard == "t-10001"
