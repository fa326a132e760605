"""`aiwm view` says what the screen says: every table cell by cell, the overview and the pages line by line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aiwm_tui.actions import TABLES
from aiwm_tui.app import ConsoleApp
from aiwm_tui.live.printed import table_lines
from aiwm_tui.live.text import plain
from aiwm_tui.picture import picture
from aiwm_tui.screens.registry import locate
from aiwm_tui.screens.spec import table_screen
from aiwm_tui.widgets.rows import GUTTER
from engine.client import connect
from engine.contract.errors import AiwmError, Code
from tests.support import engines
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.made_rows import made_row
from tests.support.screens import shows, text_of, wait_until
from tests.support.shell import shell

CASES = [(table, 120) for table in sorted(TABLES)] + [
    (table, width) for table in ("tasks", "queues", "models", "instances") for width in (80, 160)
]


def _drawn(app: Any) -> list[str]:
    """The lines of the page's table as they are drawn, without the cursor's column."""
    table = app.page.live_table
    lines = [table.render_line(y).text for y in range(table.size.height)]
    return [line[GUTTER:].rstrip() for line in lines]


def _printed(app: Any, rows: list[Any]) -> list[str]:
    """The rows that are in sight, printed at the width that the table has."""
    table = app.page.live_table
    columns, keys = table_screen(app.page.table).columns, app.page.location.sort_keys()
    lines = table_lines(columns, rows[: table.visible_rows], keys, NOW, table.size.width - GUTTER)
    return [plain(line).rstrip() for line in lines]


async def _agree(app: Any, rows: list[Any]) -> None:
    """Wait until the table is drawn as it is printed: while the parts of the page still find their places it is not."""
    await wait_until(lambda: app.page.live_table.state is not None)
    try:
        await wait_until(lambda: _drawn(app)[: len(_printed(app, rows))] == _printed(app, rows), timeout_s=5)
    except AssertionError:
        assert _drawn(app) == _printed(app, rows)


@pytest.mark.parametrize(("table", "width"), CASES)
async def test_a_table_is_printed_as_it_is_shown(engine: ConsoleEngine, console: Any, table: str, width: int) -> None:
    if not engine.tables[table]:
        engine.put(table, *(made_row(table, number) for number in range(1, 6)))
    app = console(location=f":{table}")
    async with app.run_test(size=(width, 60)):
        rows = engine.rows_of(locate(f":{table}"))
        await _agree(app, rows)


async def test_what_is_sorted_and_filtered_is_printed_so(engine: ConsoleEngine, console: Any) -> None:
    location = locate(":tasks state:failed,completed sort:-priority,id")
    app = console(location=str(location))
    async with app.run_test(size=(120, 60)):
        await shows(app, "prio1▼", "id2▲")
        rows = engine.rows_of(location)
        assert len(rows) > 1
        await _agree(app, rows)


def test_whole_lines_have_every_column_and_cut_nothing(engine: ConsoleEngine) -> None:
    long = "because " * 25
    engine.change("tasks", "t-10001", reason=long.strip())
    rows = engine.rows_of(locate(":tasks"))
    columns = table_screen("tasks").columns
    printed = [plain(line) for line in table_lines(columns, rows, (), NOW, None)]
    assert all(column.title in printed[0] for column in columns)
    assert any(long.strip() in line for line in printed)
    assert len({len(line) for line in printed}) == 1


@pytest.mark.parametrize("location", [":overview", ":tasks/t-10001", ":engine", ":queues/etl", ":tasks"])
def test_a_page_is_printed_as_it_is_shown(engine: ConsoleEngine, location: str) -> None:
    """The whole screen of one console and the printed one of another become equal."""
    printed = picture(engine.connect, location, (100, 30), theme="dark", whole=True)
    lines = ["".join(segment.text for segment in line).rstrip() for line in printed]
    page = picture(engine.connect, location, (100, 30), theme="dark", whole=False)
    text = ["".join(segment.text for segment in line).rstrip() for line in page]
    assert text
    assert text == lines[2 : 2 + len(text)]

    async def look() -> None:
        app = ConsoleApp(engine.connect, location=location, read_only=True)
        async with app.run_test(size=(100, 30)):
            # All but the first line, which has the time.
            await wait_until(lambda: text_of(app).splitlines()[1:] == lines[1:])

    asyncio.run(look())


def test_an_engine_that_cannot_be_reached_is_an_error_not_a_page(engine: ConsoleEngine) -> None:
    engine.down = True
    with pytest.raises(AiwmError) as caught:
        picture(engine.connect, ":overview", (80, 24), theme="dark", whole=False)
    assert caught.value.code == Code.engine_unreachable


async def test_the_command_prints_the_screen_of_a_real_engine(home: Path) -> None:
    async def dial() -> Any:
        return await connect(home, spawn=False, name="console")

    with engines.engine(home):
        app = ConsoleApp(dial, location=":queues")
        async with app.run_test(size=(100, 30)):
            await shows(app, "demo", "echo")
            screen = _drawn(app)
        printed = shell(home, "view", ":queues", "--width", "98").out.splitlines()
        assert printed == screen[: len(printed)]
        assert len(printed) == 3
        assert "NEEDS YOU" in shell(home, "view", ":overview").out
        assert "all keys" in shell(home, "view", ":queues", "--screen").out
        assert "does not exist" in shell(home, "view", ":tasks/t-zzzzz", code=2).err
        values = shell(home, "view", ":queues", "--csv").out.splitlines()
        assert values[0].startswith("state,id,waiting")
        assert [line.split(",")[:2] for line in values[1:]] == [["open", "demo"], ["open", "echo"]]
        assert "is no table of columns" in shell(home, "view", ":machine", "--csv", code=2).err
