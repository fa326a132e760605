"""Getting about: first frame, screens, jump, filter, drilling in, history, help, palette."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiwm_tui.actions import SCREENS
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.console_machine import task
from tests.support.screens import hides, line_of, press, shows, text_of, wait_until


async def test_the_first_frame_does_not_wait_for_the_engine(engine: ConsoleEngine) -> None:
    from aiwm_tui.app import ConsoleApp

    gate = asyncio.Event()

    async def slow() -> Any:
        await gate.wait()
        return await engine.connect()

    app = ConsoleApp(slow, clock=engine.now)
    async with app.run_test(size=(120, 36)):
        await shows(app, ":overview", "NEEDS YOU", "starting the engine", "connecting", "all keys")
        gate.set()
        await shows(app, "anvil", "summaries stands still", "live  03:07:41")


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, name, _ in SCREENS])
async def test_every_digit_opens_its_screen(console: Any, key: str, name: str) -> None:
    app = console(location=":tasks" if name != "tasks" else ":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "anvil")
        await press(app, key)
        await wait_until(lambda: line_of(app, 1).split()[0] == f":{name}", name)
        await shows(app, "anvil", "›")


async def test_jump_goes_to_a_typed_location(console: Any) -> None:
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "anvil")
        await press(app, *":tasks state:failed", "enter")
        await shows(app, ":tasks state:failed", "2 match of 13", "t-10008", "t-10009")
        await hides(app, "t-10001 ")


async def test_jump_points_at_the_token_that_is_wrong(console: Any) -> None:
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "anvil")
        await press(app, *":tasks queue:demo stat:failed", "enter")
        await shows(app, "^^^^^^^^^^^", 'did you mean "state"?')
        caret, typed = line_of(app, 35), line_of(app, 34)
        assert caret.index("^") == typed.index("stat:failed")
        assert line_of(app, 1).startswith(" :overview"), "a wrong location goes nowhere"
        await press(app, "escape")
        await shows(app, "all keys")


async def test_tab_completes_in_the_prompt(console: Any) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        await press(app, "slash", *"state:fai", "tab")
        await shows(app, "state:failed")
        await press(app, "enter")
        await shows(app, ":tasks state:failed", "2 match of 13")


async def test_a_filter_with_an_error_says_so_and_keeps_the_rows(console: Any) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        await press(app, "slash", *"age>soon", "enter")
        await shows(app, "^^^^^^^^", "is not a duration")
        await press(app, "escape")
        await shows(app, "t-10001", "13 rows")


async def test_a_filter_that_nothing_matches_says_how_to_go_on(console: Any) -> None:
    app = console(location=":tasks queue:nowhere")
    async with app.run_test(size=(120, 36)):
        await shows(app, "none of 13 rows matches queue:nowhere", "esc back")


async def test_an_empty_table_says_what_would_fill_it(engine: ConsoleEngine, console: Any) -> None:
    engine.tables["tasks"].clear()
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "no tasks here", "N submits one")


async def test_history_restores_filter_sort_and_cursor(console: Any) -> None:
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "anvil")
        await press(app, *":tasks state:pending,failed sort:id", "enter")
        await shows(app, "id1▲", "t-10009")
        await press(app, "down", "down", "down")
        await wait_until(lambda: app.page.row.id == "t-10008")
        await press(app, "enter")
        await shows(app, ":tasks/t-10008", "FACTS")
        await press(app, "3")
        await shows(app, ":queues", "first gate")
        await press(app, "[", "[")
        await shows(app, ":tasks state:pending,failed sort:id", "id1▲")
        await wait_until(lambda: app.page.row is not None and app.page.row.id == "t-10008", "the cursor")
        await press(app, "]")
        await shows(app, ":tasks/t-10008")
        await press(app, "]")
        await shows(app, ":queues", "first gate")
        await press(app, "-")
        await shows(app, ":tasks/t-10008")
        await press(app, "-")
        await shows(app, ":queues", "first gate")


async def test_esc_goes_back_and_ends_at_the_overview(console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        await press(app, "enter")
        await shows(app, ":tasks queue:demo", "t-10001")
        await press(app, "escape")
        await shows(app, ":queues", "first gate")
        await press(app, "escape")
        await shows(app, ":overview", "NEEDS YOU")


async def test_the_overview_leads_to_what_needs_you(console: Any) -> None:
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "2 tasks failed")
        await press(app, "down", "enter")
        await shows(app, ":tasks state:failed", "t-10008")
        await press(app, "escape")
        await wait_until(lambda: app.page.row is not None and app.page.row.id == "n2", "the cursor on the overview")


async def test_the_cursor_stands_where_there_are_rows(engine: ConsoleEngine, console: Any) -> None:
    engine.tables["needs"].clear()
    app = console()
    async with app.run_test(size=(80, 24)):
        await shows(app, "nothing needs you", "aiwm-nano.0", "› ● open")
        assert app.page.row.id == "demo"
        await shows(app, "P pause")


async def test_the_cursor_walks_through_all_sections_of_the_overview(console: Any) -> None:
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "2 tasks failed", "aiwm-nano.0")
        seen = []
        for _ in range(9):
            seen.append((app.page.table, app.page.row.id))
            await press(app, "j")
        assert [table for table, _ in seen] == ["needs"] * 2 + ["queues"] * 3 + ["models"] + ["events"] * 3
        await press(app, "tab")
        assert app.page.table == "needs"


async def test_events_details_filter_by_cell_and_faults(console: Any) -> None:
    app = console(location=":tasks sort:id")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        await press(app, "e")
        await shows(app, ":events task:t-10001", "on i-01, waited 41m")
        await press(app, "escape")
        await shows(app, ":tasks sort:id", "t-10002")
        await press(app, "f")
        await shows(app, ":tasks state:processing sort:id", "2 match of 13")
        await press(app, "escape", "!")
        await shows(app, ":tasks is:fault sort:id", "2 match of 13", "t-10008")
        await press(app, "!")
        await shows(app, "13 rows")
        await press(app, "3")
        await shows(app, "first gate")
        await press(app, "d")
        await shows(app, ":queues/demo", "waiting, and how fast", "acknowledged when on disk")
        await press(app, "G")
        await shows(app, ":queues/demo", '"durability": "disk"')


async def test_sorting_stacks_and_shows_its_marks(console: Any) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        await press(app, "right", "right", "s")
        await shows(app, "queue1▲", ":tasks sort:queue")
        await press(app, "right", "right", "s")
        await shows(app, "queue1▲", "prio2▲")
        await press(app, "s")
        await shows(app, "prio2▼", ":tasks sort:queue,-priority")
        assert [place.location for place in app.navigation.history.places] == [":tasks sort:queue,-priority"], (
            "an order is no new place"
        )


async def test_the_help_lists_what_works_here_and_closes(console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 40)):
        await shows(app, "first gate")
        await press(app, "?")
        await shows(app, "All keys", "on :queues", "pause this queue", "THE FILTER LANGUAGE")
        assert "cancel this task" not in text_of(app), "keys that do nothing here are not listed"
        await press(app, "?")
        await shows(app, "first gate")


async def test_the_palette_does_what_it_names(console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 40)):
        await shows(app, "first gate")
        await press(app, "ctrl+p")
        await shows(app, "what to do", "only what is broken")
        await press(app, *"instances")
        await shows(app, "instances  (5)")
        await press(app, "enter")
        await shows(app, ":instances", "i-01")


@pytest.mark.parametrize("name", ["overview", "tasks", "queues", "workers"])
async def test_no_key_is_dead_and_none_raises(console: Any, name: str) -> None:
    """Each key of the table is one of a deed; pressed one after the other, none breaks the console."""
    from aiwm_tui.actions import available
    from aiwm_tui.deeds import _DEEDS

    app = console(location=f":{name}")
    async with app.run_test(size=(120, 36)):
        await shows(app, "anvil", "›")
        for action in available(app.page.table, app.page.lacks):
            assert action.id in _DEEDS
            if action.id == "quit":
                continue
            await press(app, action.keys.split(",")[0])
            # Out of whatever it opened, and back to where it was pressed.
            while len(app.screen_stack) > 1 or app.shell.prompted:
                await press(app, "escape")
            app.open_location(f":{name}")
            await wait_until(
                lambda: str(app.page.location) == f":{name}" and app.page.row is not None, f"{name} after {action.id}"
            )
        assert app.is_running


async def test_typing_ahead_goes_where_it_was_meant_to_go(console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        await press(app, *":tasks state:failed", "enter")
        await shows(app, ":tasks state:failed", "2 match of 13")
        await press(app, "G", "d", "[", "slash", *" queue:demo", "enter")
        await shows(app, ":tasks state:failed queue:demo")


async def test_the_clock_stands_still_while_nothing_happens(engine: ConsoleEngine, console: Any) -> None:
    engine.change("machine", "anvil", running=0, waiting=0)
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001", "live  03:07:41")
        assert not app.ticking.ticks
        engine.now = lambda: NOW + 65_000
        app.clock = engine.now
        engine.put("tasks", task(40, submitted_ms=NOW + 60_000))
        await shows(app, "live  03:08:46")
