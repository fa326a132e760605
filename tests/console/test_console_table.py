"""The live table: the cursor follows its row, windows follow the cursor, a million rows cost what a thousand cost."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from aiwm_tui.live.table import opened
from engine.contract.requests.session import ViewRows
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.console_machine import task
from tests.support.screens import hides, line_of, press, shows, text_of, wait_until


async def test_the_cursor_follows_its_row_when_the_order_changes(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues sort:-waiting")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        await press(app, "down")
        await wait_until(lambda: app.page.row.id == "summaries")
        engine.change("queues", "summaries", waiting=500)
        await wait_until(lambda: app.page.live_table.index == 0, "the row to move up")
        assert app.page.row.id == "summaries"
        assert "summaries" in line_of(app, 3)


async def test_an_untouched_cursor_stays_with_the_newest(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-1000d")
        engine.put("tasks", task(50, submitted_ms=NOW))
        await wait_until(lambda: app.page.row.id == task(50).id)
        await press(app, "down")
        chosen = app.page.row.id
        engine.put("tasks", task(51, submitted_ms=NOW + 1), task(52, submitted_ms=NOW + 2))
        await wait_until(lambda: app.page.live_table.index == 3)
        assert app.page.row.id == chosen
        await press(app, "g")
        engine.put("tasks", task(53, submitted_ms=NOW + 3))
        await wait_until(lambda: app.page.row.id == task(53).id)


async def test_a_row_that_goes_leaves_the_cursor_on_its_neighbour(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        await press(app, "G")
        engine.remove("queues", "summaries")
        await hides(app, "summaries ")
        await wait_until(lambda: app.page.row is not None and app.page.row.id == "echo")


async def test_a_row_that_moves_far_away_is_followed(engine: ConsoleEngine, console: Any) -> None:
    engine.put("tasks", *(task(number, priority=5, submitted_ms=NOW) for number in range(100, 500)))
    app = console(location=":tasks sort:-priority,id")
    async with app.run_test(size=(120, 20)):
        await shows(app, "prio1▼")
        await wait_until(lambda: app.page.row is not None)
        await press(app, "down", "down", "down")
        chosen = app.page.row.id
        engine.change("tasks", chosen, priority=-9)
        await wait_until(lambda: app.page.live_table.index > 400, "the cursor to follow its row to the end")
        assert app.page.row.id == chosen


async def test_scrolling_asks_for_rows_before_they_are_needed(engine: ConsoleEngine, console: Any) -> None:
    engine.put("tasks", *(task(number, submitted_ms=NOW - number) for number in range(100, 2100)))
    app = console(location=":tasks")
    async with app.run_test(size=(120, 24)):
        await shows(app, "2,013 rows")
        for _ in range(12):
            await press(app, "pagedown")
            await wait_until(lambda: app.page.row is not None, "the row under the cursor")
            assert "  …" not in text_of(app).split("──")[0]
        await press(app, "G")
        await wait_until(lambda: app.page.row is not None, "the last row")
        assert app.page.live_table.index == 2012
        await press(app, "g")
        await wait_until(lambda: app.page.row is not None)
        assert app.page.live_table.index == 0
        assert len(engine.moves) < 30


async def test_a_gap_reopens_the_view(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        assert engine.client is not None
        view = next(view for view in engine.client.views.values() if view.location.table == "queues")
        view.seq += 3
        engine.change("queues", "demo", gate="a new gate")
        await shows(app, "a new gate")
        engine.change("queues", "demo", gate="another gate")
        await shows(app, "another gate")


async def test_a_held_view_counts_what_it_does_not_show(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "pool at max 4")
        await press(app, "p")
        engine.change("queues", "demo", gate="hidden gate")
        await shows(app, "held +1", "pool at max 4")
        await press(app, "p")
        await shows(app, "hidden gate", "live")


async def test_a_state_that_there_is_not_is_named_and_the_strip_explains_no_row_that_is_gone(console: Any) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "── t-1000d")
        await press(app, "slash", *"state:faild", "enter")
        await shows(app, "none of 13 rows", "there is no state faild here: pending", "failed cancelled")
        await hides(app, "── t-1000d")


async def test_the_strip_closes_grows_and_comes_back(console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "what the 12 wait for", "what opens it")
        await press(app, "w")
        await hides(app, "what the 12 wait for")
        await press(app, "w")
        await shows(app, "what the 12 wait for")
        await press(app, "w")
        await shows(app, "what the 12 wait for")


async def test_a_refused_order_is_shown_and_can_be_left(engine: ConsoleEngine, console: Any) -> None:
    from engine.contract.errors import AiwmError, Code
    from engine.contract.requests.session import ViewOpen

    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        engine.refuse[ViewOpen] = AiwmError(
            Code.too_many_rows, "12,000 rows match; sorting by reason needs at most 10,000"
        )
        await press(app, "right", "right", "s")
        await shows(app, "too_many_rows", "sorting by reason needs at most 10,000")
        engine.refuse.clear()
        await press(app, "s", "s")
        await shows(app, "t-10001", "13 rows")


@pytest.mark.parametrize("size", [(40, 10), (60, 15), (80, 24), (160, 45), (20, 5), (10, 3)])
@pytest.mark.parametrize("location", [":overview", ":tasks", ":tasks/t-10001", ":queues", ":models/aiwm-nano.0"])
async def test_any_size_is_sane(console: Any, size: tuple[int, int], location: str) -> None:
    app = console(location=location)
    async with app.run_test(size=size) as pilot:
        await wait_until(lambda: app.machine is not None)
        await wait_until(lambda: app.page.row is not None)
        lines = text_of(app).split("\n")
        assert len(lines) <= size[1]
        if size[0] >= 40:
            assert "run 2  wait 14  fail 2" in lines[0]
            assert location in lines[1]
            assert "all keys" in lines[-1]
        await pilot.resize_terminal(*reversed(size))
        await press(app, "down", "up", "w", "w")
        assert app.is_running


@pytest.mark.parametrize("size", [(40, 10), (80, 24)])
async def test_state_id_and_reason_survive_narrow_terminals(console: Any, size: tuple[int, int]) -> None:
    app = console(location=":tasks state:failed")
    async with app.run_test(size=size):
        await shows(app, "✗ failed", "t-10009", "output")


async def test_a_wide_terminal_has_the_strip_beside_the_table(console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(180, 36)):
        await shows(app, "what the 12 wait for")
        assert "what the 12 wait for" in line_of(app, 2)


def _window(matched: int) -> Any:
    rows = [msgspec.to_builtins(task(number)) for number in range(1, 91)]
    return opened(
        ViewRows(
            view="v",
            seq=1,
            location=":tasks",
            table="tasks",
            rows=rows,
            top=matched // 2,
            matched=matched,
            total=matched,
        )
    )


async def test_a_million_rows_cost_what_a_thousand_cost(console: Any) -> None:
    """Counted in cells and lines drawn, not in time: the work per frame is the same."""
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        table = app.page.live_table
        drawn: dict[int, float] = {}
        for matched in (1_000, 1_000_000):
            state = _window(matched)
            table.restore(None, matched // 2 + 20, matched // 2 + 5)
            table._follows_top = False
            started = time.process_time()
            for round_ in range(100):
                table.show(state, NOW + round_ * 1000)
                table.move(1 if round_ % 2 else -1)
            drawn[matched] = time.process_time() - started
            assert table.row is not None
        assert drawn[1_000_000] < drawn[1_000] * 2 + 0.05


async def test_only_lines_that_changed_are_painted(console: Any) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        table = app.page.live_table
        state = opened(
            ViewRows(
                view="v", seq=1, location=":tasks", table="tasks", top=0, matched=20, total=20,
                rows=[msgspec.to_builtins(task(number, reason="same")) for number in range(1, 21)],
            )
        )  # fmt: skip
        table.show(state, NOW)
        painted: list[Any] = []
        table.refresh = lambda *regions, **_: painted.extend(regions or ["all"])
        table.show(state, NOW)
        assert painted == []
        rows = dict(state.rows)
        rows[state.ids[3]] = task(4, reason="new")
        table.show(msgspec.structs.replace(state, rows=rows, seq=2), NOW)
        assert [region.y for region in painted] == [4]
