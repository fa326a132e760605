"""The console tells of what needs somebody: a toast, the bell, the terminal's own notification; not what was there before."""

from __future__ import annotations

import time
from typing import Any

import pytest

from aiwm_tui import notifying
from aiwm_tui.live.attention import Wanted
from engine.contract.records import EventRow
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.screens import shows, text_of, wait_until

ALL = Wanted(("ask", "error"), ("toast", "bell", "terminal"), 6)


def _event(number: int, level: str, text: str) -> EventRow:
    return EventRow(
        id=str(number), at_ms=NOW, level=level, type="model.refused", who="inference", about=f"m-{number}", text=text
    )


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the terminal is asked to do."""
    said: list[str] = []
    monkeypatch.setattr(notifying, "write_to_terminal", lambda _, text: said.append(text))
    monkeypatch.delenv("TMUX", raising=False)
    return said


async def test_what_happens_is_told_by_every_way(engine: ConsoleEngine, console: Any, heard: list[str]) -> None:
    began = time.monotonic()
    engine.now = lambda: NOW + int((time.monotonic() - began) * 1_000)
    app = console(location=":queues", notices=ALL)
    app.bell = lambda: heard.append("bell")
    async with app.run_test(size=(120, 36), notifications=True):
        await shows(app, "demo", "live")
        await wait_until(lambda: app._attention._seen is not None)
        engine.put("events", _event(901, "info", "nothing"), _event(902, "error", "no [bold]room[/bold]"))
        await shows(app, "✗ m-902", "no [bold]room[/bold]")
        assert heard == ["bell", "\x1b]9;aiwm anvil: m-902: no [bold]room[/bold]\x07"]
        assert "m-901" not in text_of(app)
        await wait_until(lambda: app._attention._timer is None)


async def test_nothing_is_looked_at_where_nothing_is_wanted(engine: ConsoleEngine, console: Any) -> None:
    for wanted in (Wanted(), Wanted(("error",), ()), Wanted((), ("bell",))):
        app = console(location=":queues", notices=wanted)
        async with app.run_test(size=(80, 24)):
            await shows(app, "demo", "live")
            assert app._attention._view is None
