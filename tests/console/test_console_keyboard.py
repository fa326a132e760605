"""With the keyboard alone: every screen and every dialog shows where one is, and esc always leads out."""

from __future__ import annotations

from typing import Any

import pytest
from textual import events
from textual.widget import Widget

from aiwm_tui.actions import ACTIONS, TABLES
from aiwm_tui.screens.registry import INFOS, NAMES
from aiwm_tui.widgets.live_table import LiveTable
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.models import ModelShow
from engine.contract.states import Effect
from tests.support.console_engine import ConsoleEngine
from tests.support.made_rows import made_row
from tests.support.screens import press, shows, wait_until

PLACES = sorted(set(NAMES) & (TABLES | INFOS | {"overview"}))


def _fill(engine: ConsoleEngine) -> None:
    for table in TABLES:
        if not engine.tables[table]:
            engine.put(table, *(made_row(table, number) for number in range(1, 4)))


def _drawn(app: Any) -> list[Any]:
    """Everything on the screen with its styles."""
    return [list(strip) for strip in app.screen._compositor.render_strips()]


async def _focus_shows(app: Any, pilot: Any, widget: Widget) -> None:
    """Without the focus the screen looks different: on a terminal without colours too, because styles other than colour differ."""
    await wait_until(lambda: app.screen.focused is widget)
    await pilot.pause()
    with_focus = _drawn(app)
    # Told directly: a screen whose focus is taken away gives it to another part.
    widget.post_message(events.Blur())
    await wait_until(lambda: not widget.has_focus)
    await pilot.pause()
    without = _drawn(app)
    widget.post_message(events.Focus())
    await wait_until(lambda: widget.has_focus)
    await pilot.pause()
    assert with_focus != without, f"nothing shows that {widget} has the focus on {app.page.location}"


@pytest.mark.parametrize("colours", ["none", pytest.param("dark", marks=pytest.mark.slow)])
async def test_every_screen_shows_where_one_is_and_esc_leads_out(
    engine: ConsoleEngine, console: Any, colours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if colours == "none":
        monkeypatch.setenv("NO_COLOR", "1")
    _fill(engine)
    app = console(location=":overview")
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "all keys")
        for name in PLACES:
            await app.go(f":{name}")
            await wait_until(lambda: not app.link.asking)
            await wait_until(lambda: app.focused is not None)
            tables = [each for each in app.page.query(LiveTable) if each.state is not None and each.state.matched]
            if name != "overview" and tables:
                await _focus_shows(app, pilot, app.focused)
            for _ in range(4):
                if app.page.location.table == "overview":
                    break
                await press(app, "escape")
            assert app.page.location.table == "overview", f"esc does not lead out of :{name}"


@pytest.mark.parametrize("location", [":overview", ":tasks/t-10001", ":instances/i-01", ":pools/demo"])
async def test_tab_goes_through_the_parts_of_a_page_and_each_step_is_seen(
    engine: ConsoleEngine, console: Any, location: str
) -> None:
    app = console(location=location)
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "all keys")
        await wait_until(lambda: app.focused is not None and not app.link.asking and app.page.row is not None)
        await pilot.pause()
        first, before = app.focused, _drawn(app)
        for _ in range(12):
            here = app.focused
            await press(app, "tab")
            await pilot.pause()
            now = _drawn(app)
            assert app.focused is here or now != before, f"nothing shows that tab led to {app.focused}"
            before = now
            if app.focused is first:
                return
        raise AssertionError("tab does not come round")


# The others' dialogs are of the same kinds.
DIALOG_TABLES = (
    *("pools", "tasks", "adapters"),
    *(pytest.param(table, marks=pytest.mark.slow) for table in ("queues", "models", "instances", "workers", "batches")),
)


@pytest.mark.parametrize("table", DIALOG_TABLES)
async def test_every_dialog_shows_where_one_types_and_esc_changes_nothing(
    engine: ConsoleEngine, console: Any, table: str
) -> None:
    """Whatever a key opens: Tab goes through all of it and round, each step is seen, esc closes it and nothing has been asked."""
    _fill(engine)
    engine.refuse[ModelShow] = AiwmError(Code.not_found, "not of this engine")
    app = console(location=f":{table}")
    opened = 0
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "all keys")
        await wait_until(lambda: app.page.row is not None)
        for action in (each for each in ACTIONS if each.changes and each.tables and table in each.tables):
            if action.id in app.page.lacks:
                continue
            await press(app, action.keys.split(",")[0])
            await wait_until(lambda: not app.link.asking)
            await pilot.pause()
            if len(app.screen_stack) == 1:
                if app.shell.prompted:
                    await press(app, "escape")
                    await wait_until(lambda: not app.shell.prompted)
                if app.page.location.table != table:
                    await app.go(f":{table}")
                    await wait_until(lambda: app.page.row is not None)
                continue
            opened += 1
            before = len([each for each in engine.requests if type(each).effect is not Effect.read])
            await _walk(app, pilot)
            await press(app, "escape")
            await wait_until(lambda: len(app.screen_stack) == 1, f"esc closes what {action.id} opened")
            assert before == len([each for each in engine.requests if type(each).effect is not Effect.read]), action.id
    assert opened


async def _walk(app: Any, pilot: Any) -> None:
    first = app.screen.focused
    if first is None:
        # A dialog of one choice: ↑ ↓ move a sign.
        shown = _drawn(app)
        await press(app, "down")
        await pilot.pause()
        if len(app.screen_stack) > 1:
            assert _drawn(app) != shown, f"↓ is not seen in {app.screen}"
        return
    kinds: set[type[Widget]] = set()
    for _ in range(60):
        # One of each kind of field: they show it in the same way.
        if type(app.screen.focused) not in kinds:
            kinds.add(type(app.screen.focused))
            await _focus_shows(app, pilot, app.screen.focused)
        await press(app, "tab")
        if app.screen.focused is first:
            return
    raise AssertionError(f"tab does not come round in {app.screen}")


@pytest.mark.parametrize("key", ["ctrl+p", "ctrl+t", "question_mark", "colon", "slash", "o", "q"])
async def test_what_is_open_everywhere_is_closed_by_esc(engine: ConsoleEngine, console: Any, key: str) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "t-10001")
        await press(app, key)
        await wait_until(lambda: len(app.screen_stack) > 1 or app.shell.prompted)
        await pilot.pause()
        await press(app, "escape")
        await wait_until(lambda: len(app.screen_stack) == 1 and not app.shell.prompted)
        assert app.page.location.table == "tasks"
