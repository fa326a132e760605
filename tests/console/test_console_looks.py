"""Themes, no colour, ASCII, and a picture of one screen in each theme."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiwm_tui import theme
from aiwm_tui.states import GLYPHS
from engine.contract.errors import AiwmError
from tests.support.console_engine import ConsoleEngine
from tests.support.screens import press, shows, text_of, wait_until


def test_every_theme_has_every_style() -> None:
    dark = set(theme.load("dark").palette.styles)
    for name in theme.names():
        loaded = theme.load(name)
        if name != theme.MONO:
            assert set(loaded.palette.styles) == dark, name
            assert set(GLYPHS) <= dark
    with pytest.raises(AiwmError, match="there is no theme"):
        theme.load("drak")


async def test_themes_are_tried_on_the_screen_behind(console: Any) -> None:
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "anvil")
        await press(app, "ctrl+t")
        await shows(app, "THEMES")
        seen = [app.palette.name]
        for _ in theme.names()[1:]:
            await press(app, "down")
            await wait_until(lambda: app.palette.name not in seen)
            seen.append(app.palette.name)
        assert sorted(seen) == sorted(theme.names())
        await press(app, "escape")
        await wait_until(lambda: app.palette.name == seen[0] and len(app.screen_stack) == 1)
        await press(app, "ctrl+t", "down", "enter")
        await shows(app, "aiwm config set console.theme " + seen[1])
        assert app.palette.name == seen[1]


async def test_a_damaged_theme_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, console: Any) -> None:
    monkeypatch.setenv("AIWM_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "themes").mkdir()
    (tmp_path / "themes" / "aaa.toml").write_text("dark = tru")
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "anvil")
        await press(app, "ctrl+t")
        await shows(app, "THEMES")
        for _ in theme.names():
            await press(app, "down")
        await shows(app, "unreadable")
        assert app.palette.name == "dark" or app.palette.name in theme.names()


def _colours(app: Any) -> set[Any]:
    found = set()
    for strip in app.screen._compositor.render_strips():
        for filtered in app._filters:
            strip = strip.apply_filter(filtered, _black())
        for segment in strip:
            if segment.style is not None:
                found |= {segment.style.color, segment.style.bgcolor}
    return {colour for colour in found if colour is not None and not colour.is_default}


def _black() -> Any:
    from textual.color import Color

    return Color(0, 0, 0)


@pytest.mark.parametrize("location", [":overview", ":tasks", ":tasks/t-10001"])
async def test_no_color_uses_none_and_stays_legible(
    monkeypatch: pytest.MonkeyPatch, console: Any, location: str
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = console(location=location)
    async with app.run_test(size=(120, 36)):
        await shows(app, "anvil", "all keys")
        await wait_until(lambda: app.page.row is not None)
        assert _colours(app) == set()
        await press(app, "N")
        await shows(app, "SUBMIT A TASK") if location != ":overview" else None
        assert _colours(app) == set()


async def test_an_empty_no_color_means_colour(monkeypatch: pytest.MonkeyPatch, console: Any) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        assert len(_colours(app)) > 3


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TERM", "linux"), ("AIWM_ASCII", "1")])
async def test_terminals_without_glyphs_get_their_twins(
    monkeypatch: pytest.MonkeyPatch, engine: ConsoleEngine, console: Any, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    engine.change("tasks", "t-10001", reason="Müller 漢字")
    app = console(location=":tasks sort:id")
    async with app.run_test(size=(120, 36)):
        await shows(app, "* processing", "x failed", "+ completed", "id1^")
        await wait_until(lambda: "M?ller ????" in text_of(app))
        assert text_of(app).isascii()


THEMES = [name for name in theme.names() if name != "dark"]
"""Those of which there is a picture of one screen; `dark` is in those of all the others."""


@pytest.mark.parametrize("name", THEMES)
def test_pictures(monkeypatch: pytest.MonkeyPatch, console: Any, snap_compare: Any, name: str) -> None:
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    app = console(location=":queues")

    async def ready(pilot: Any) -> None:
        await wait_until(lambda: app.machine is not None and app.page.row is not None)
        await press(app, "ctrl+t", *["down"] * theme.names().index(name), "enter")
        await shows(app, "what the 12 wait for", f"console.theme {name}")
        await pilot.pause()

    assert snap_compare(app, terminal_size=(120, 36), run_before=ready)


def test_every_theme_has_one_picture() -> None:
    folder = Path(__file__).parent / "__snapshots__" / "test_console_looks"
    assert {path.stem for path in folder.glob("*.svg")} == {f"test_pictures[{name}]" for name in THEMES}
