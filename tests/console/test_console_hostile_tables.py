"""Every table with rows of hostile text only: as a table, as the page of each row, in the dialogs of its keys and printed by `aiwm view`;
harmless, columns aligned, and a text of a megabyte costs what a short one costs."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
from rich.cells import cell_len

from aiwm_tui.actions import TABLES, Group, available
from aiwm_tui.live.printed import table_lines
from aiwm_tui.live.text import line_width, plain
from aiwm_tui.screens.spec import table_screen
from aiwm_tui.widgets.rows import GUTTER
from engine.contract.query import parse
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.hostile import HOSTILE, controls, hostile_row
from tests.support.screens import press, shows, text_of, wait_until

OVER_THE_PIPE = {kind: text for kind, text in HOSTILE.items() if kind != "surrogate"}
"""Half a surrogate is in no JSON that the engine can send."""
WIDE, HIGH = 120, 36


def _fill(engine: ConsoleEngine, table: str) -> list[str]:
    """Nothing but hostile rows in a table; their ids."""
    engine.tables[table].clear()
    rows = [hostile_row(table, number, text) for number, text in enumerate(OVER_THE_PIPE.values(), 1)]
    engine.put(table, *rows)
    return [row.id for row in rows]


def _check(app: Any) -> None:
    for y, strip in enumerate(app.screen._compositor.render_strips()[:HIGH]):
        assert cell_len(strip.text) == WIDE, (y, strip.text)
    shown = text_of(app)
    assert controls(shown) == []
    shown.encode()


def _aligned(app: Any) -> None:
    """Every column begins at its cell on every line, after a blank."""
    table = app.page.live_table
    lines = [table.render_line(y).text for y in range(table.size.height)]
    for line in lines[: 1 + table.state.matched]:
        ends, at = {0}, 0
        for character in line:
            at += cell_len(character)
            ends.add(at)
        for slot in table._slots[1:]:
            start = GUTTER + slot.start
            assert start in ends, (slot.column.title, start, line)


async def _at(app: Any, location: str) -> None:
    app.open_location(location)
    await wait_until(partial(_arrived, app, location), location)
    await shows(app, "all keys")


def _arrived(app: Any, location: str) -> bool:
    return str(app.page.location) == location and app.page.is_mounted and (app.page.row is not None or "/" in location)


@pytest.mark.parametrize("table", sorted(TABLES))
async def test_a_table_of_hostile_rows(engine: ConsoleEngine, console: Any, table: str) -> None:
    ids = _fill(engine, table)
    app = console(location=":overview")
    async with app.run_test(size=(WIDE, HIGH)):
        await _at(app, f":{table}")
        _check(app)
        _aligned(app)
        for _ in ids:
            # The strip says why, of each row.
            await press(app, "down")
            _check(app)
        for identifier in ids[::2] if table != "needs" else ():
            app.open_location(f":{table}/{identifier}")
            await wait_until(partial(_arrived, app, f":{table}/{identifier}"), identifier)
            await press(app, "down", "pagedown", "end", "home")
            _check(app)
        assert app.is_running


@pytest.mark.slow
@pytest.mark.parametrize("table", sorted(TABLES - {"needs"}))
async def test_dialogs_about_a_hostile_row(engine: ConsoleEngine, console: Any, table: str) -> None:
    ids = _fill(engine, table)
    app = console(location=":overview")
    async with app.run_test(size=(WIDE, HIGH)):
        for number in range(0, len(ids), 3):
            await _at(app, f":{table}")
            await press(app, "home", *["down"] * number)
            for action in available(table, app.page.lacks):
                if action.group is Group.change or action.id in ("copy", "this_value", "exclude", "save"):
                    await press(app, action.keys.split(",")[0])
                    await press(app)
                    _check(app)
                    await press(app, "escape", "escape")
                    await _at(app, f":{table}")
        assert app.is_running


@pytest.mark.parametrize("table", sorted(TABLES))
def test_printed_by_view(table: str) -> None:
    rows = [hostile_row(table, number, text) for number, text in enumerate(HOSTILE.values(), 1)]
    for width in (40, 120, None):
        lines = table_lines(table_screen(table).columns, rows, parse(f":{table}").sort_keys(), NOW, width)
        shown = "\n".join(plain(line) for line in lines)
        assert controls(shown) == []
        assert len(shown.split("\n")) == len(rows) + 1
        if width:
            assert all(line_width(line) <= width for line in lines)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_a_cell_of_a_megabyte_costs_what_a_short_one_costs(table: str) -> None:
    short, long = (hostile_row(table, 1, "y" * length) for length in (2_000, 1_000_000))
    for column in table_screen(table).columns:
        quick, slow = (_least(partial(column.cell, row, NOW)) for row in (short, long))
        assert slow <= 10 * quick + 0.000_2, f"{column.title}: {quick * 1e6:.0f} µs, {slow * 1e6:.0f} µs"


def _least(work: Any) -> float:
    """CPU seconds of the quickest of several times."""
    best = 1.0
    for _ in range(7):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best
