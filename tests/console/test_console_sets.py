"""Marks, and changes of several tasks: fixed ids, cost, typed confirmation, one first and then the rest."""

from __future__ import annotations

from typing import Any

from engine.contract.requests import tasks
from tests.support.console_engine import ConsoleEngine
from tests.support.console_machine import task
from tests.support.screens import hides, press, shows


async def test_marked_tasks_are_retried_with_changes_the_first_one_first(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks state:failed sort:id")
    async with app.run_test(size=(120, 40)):
        await shows(app, "t-10008")
        await press(app, "space", "space")
        await shows(app, "2 marked", "▪✗ failed")
        await press(app, "R")
        await shows(app, "RETRY 2 TASKS", "These and no others:", "t-10008", "t-10009", "1,760 tokens in")
        # What fails meanwhile is not in it.
        engine.put("tasks", task(70, state="failed"))
        await press(app, *"invoice-de@v4", "tab", "right", "tab", "right", "enter")
        await shows(app, "R back in the queue t-10008; 1 follow when it has completed", "Z takes it back")
        sent = tasks.TaskRetry(ids=("t-10008", "t-10009"), adapter="invoice-de@v4", front=True, canary=1)
        assert sent in engine.requests
        await hides(app, "marked")


async def test_all_that_match_are_named_once_and_their_number_is_typed(engine: ConsoleEngine, console: Any) -> None:
    engine.put("tasks", *(task(100 + number, state="failed") for number in range(29)))
    app = console(location=":tasks state:failed sort:id")
    async with app.run_test(size=(120, 44)):
        await shows(app, "31 match")
        await press(app, "*")
        await shows(app, "31 marked")
        await press(app, "R")
        await shows(app, "RETRY 31 TASKS", "… 23 more")
        engine.put("tasks", task(200, state="failed"))
        await press(app, *"30", "enter")
        await shows(app, "type 31 to go on")
        await press(app, "backspace", "1", "enter")
        await shows(app, "R back in the queue")
        sent = [request for request in engine.requests if isinstance(request, tasks.TaskRetry)]
        assert [request.dry_run for request in sent] == [True, False]
        assert sent[0].where == "state:failed"
        assert len(sent[1].ids) == 31


async def test_waiting_tasks_are_moved(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks state:pending queue:demo sort:id")
    async with app.run_test(size=(120, 40)):
        await shows(app, "t-10004")
        await press(app, "space", "M")
        await shows(app, "MOVE 1 TASK", "This one and no other:")
        await press(app, *"summaries", "enter")
        await shows(app, "M moved t-10004")
        assert engine.tables["tasks"]["t-10004"].queue == "summaries"


async def test_esc_takes_the_marks_off_first(console: Any) -> None:
    app = console(location=":tasks state:failed sort:id")
    async with app.run_test(size=(120, 40)):
        await shows(app, "t-10008")
        await press(app, "space")
        await shows(app, "1 marked")
        await press(app, "escape")
        await hides(app, "1 marked")
        await shows(app, ":tasks state:failed")


async def test_a_set_in_which_nothing_fits_says_so(console: Any) -> None:
    app = console(location=":tasks state:completed")
    async with app.run_test(size=(120, 40)):
        await shows(app, "✓ completed")
        await press(app, "*", "R")
        await shows(app, "none of the marked tasks can be retried")
