"""What reaches the terminal, and what is kept of what is not shown any more."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import msgspec
import pytest
from rich.style import Style
from textual.app import App

from aiwm_tui.app import ConsoleApp
from aiwm_tui.theme import load
from aiwm_tui.widgets.paint import strip_of
from tests.support.console_engine import ConsoleEngine
from tests.support.screens import line_of, press, shows, wait_until


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every update of the screen, in order."""
    updates: list[Any] = []
    display: Any = App._display

    def watched(app: Any, screen: Any, update: Any) -> None:
        if update is not None:
            updates.append(update)
        display(app, screen, update)

    monkeypatch.setattr(App, "_display", watched)
    return updates


def _characters(app: Any, updates: list[Any]) -> int:
    return sum(len(update.render_segments(app.console)) for update in updates)


async def test_pages_that_were_left_are_forgotten(console: Any) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "t-10001")
        drawn = []
        for key, word in [("3", ":queues"), ("2", ":tasks")] * 4:
            drawn.append(weakref.ref(app.page.live_table._styles_cache))
            await press(app, key)
            await shows(app, word)
        await pilot.pause()
        gc.collect()
        assert sum(each() is not None for each in drawn) <= 1, "the lines of all pages before are kept"


async def test_a_prompt_paints_its_lines_and_not_the_screen(console: Any, painted: list[Any]) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "t-10001")
        await press(app, "slash")  # the first one is made
        await wait_until(lambda: app.shell.prompted)
        await press(app, "escape")
        await wait_until(lambda: not app.shell.prompted)
        await pilot.pause()
        painted.clear()
        app.screen.refresh()
        await wait_until(lambda: painted)
        whole = _characters(app, painted)
        painted.clear()
        await press(app, "slash")
        await wait_until(lambda: app.shell.prompted)
        await pilot.pause()
        assert painted
        assert _characters(app, painted) < whole / 3


async def test_a_line_of_a_table_is_painted_once(engine: ConsoleEngine, painted: list[Any]) -> None:
    app = ConsoleApp(engine.connect, location=":tasks sort:id", clock=engine.now)
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "t-10001")
        await pilot.pause()
        painted.clear()
        task = engine.tables["tasks"]["t-10001"]
        engine.put("tasks", msgspec.structs.replace(task, state="failed", queue="zeb"))
        await shows(app, "zeb")
        line = next(y for y in range(36) if "t-10001" in line_of(app, y))

        def spans() -> list[Any]:
            return [span for update in painted for span in update.spans if span[0] == line]

        await wait_until(spans)
        await pilot.pause()
        assert len(spans()) == 1, (
            "what changed at both ends of a line came in two pieces, the second with the first in it"
        )


def test_spaces_go_on_in_the_style_before_them() -> None:
    palette = load("dark").palette
    segments = list(strip_of((("ok", "done"), ("  ", ""), ("t-1", "text"), ("   ", "dim")), palette, 20))
    assert [segment.text for segment in segments] == ["ok  ", "t-1" + " " * 13]


@pytest.mark.parametrize("style", ["underline", "reverse", "strike", "on red"])
def test_spaces_that_can_be_seen_keep_their_style(style: str) -> None:
    palette = load("dark").palette
    palette = msgspec.structs.replace(palette, styles={**palette.styles, "odd": Style.parse(style)})
    for line in ((("a", "odd"), ("  ", "")), (("a", "text"), ("  ", "odd"))):
        assert [segment.text for segment in strip_of(line, palette, 3)] == ["a", "  "]
