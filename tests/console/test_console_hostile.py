"""Whatever a task, model or event says is shown harmless: no markup, no escape, no reordering, no cell out of line."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

from engine.contract.errors import ErrorInfo
from engine.contract.records import EventRow, TimelineStep
from engine.contract.why import Gate, Why
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.console_machine import task
from tests.support.screens import press, shows, text_of, wait_until

HOSTILE = {
    "markup": "[bold red]x[/bold red] [/ [link=http://x]y [@click=app.exit()]z",
    "ansi": "\x1b[31mred\x1b[2J\x1b[H\x1b]0;owned\x07\x9b1m",
    "nul": "a\x00b\x7fc\x08d\re\x0bf",
    "wide": "漢字カタカナ한국어👩‍👩‍👧🏳️‍🌈" * 5,
    "combining": "e\u0301\u0302\u0303\u0304" * 30 + "\u0301",
    "rtl": "\u202eevil\u202c שלום עולם \u2067مرحبا\u2069",
    "surrogate": "half \udc80 of one",
    "newlines": "one\ntwo\r\nthree\u2028four",
    "long": "y" * 1_000_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_text_is_harmless_everywhere(engine: ConsoleEngine, console: Any, kind: str) -> None:
    text = HOSTILE[kind]
    engine.put(
        "tasks", task(90, submitted_ms=NOW + 1, reason=text, by=text, state="failed", error=text, batch=text[:400])
    )
    identifier = task(90).id
    engine.put(
        "events",
        EventRow(id="900", at_ms=NOW, level="error", type="task.failed", who=text[:300], about=text[:300], text=text),
    )
    engine.change("queues", "demo", gate=text)
    engine.change("machine", "anvil", host=text[:300])
    gate = Gate(name=text[:100], closed=True, count=1, why=text, opens=text[:100], fix=text)
    engine.whys["demo"] = Why(scope="queue", about="demo", moving=False, summary=text, gates=(gate,))
    engine.details[identifier] = {
        "payload": {"prompt": text},
        "error": ErrorInfo(code="x", message=text, fix=text, stderr=(text,)),
        "timeline": (TimelineStep(at_ms=NOW, type=text[:60], text=text),),
    }
    engine.write(identifier, text)
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        for location in (
            ":tasks",
            f":tasks/{identifier}",
            ":queues",
            ":queues/demo",
            ":events",
            ":events/900",
            ":overview",
        ):
            app.open_location(location)
            await wait_until(partial(_arrived, app, location), location)
            await shows(app, location, "all keys")
            _check(app)
        await press(app, "2", "d")
        await shows(app, f":tasks/{identifier}")
        assert app.is_running


def _arrived(app: Any, location: str) -> bool:
    return str(app.page.location) == location and app.page.row is not None


def _check(app: Any) -> None:
    for strip in app.screen._compositor.render_strips():
        assert sum(cell_len(segment.text) for segment in strip) == 120, "every line is exactly as wide as the terminal"
    shown = text_of(app)
    shown.encode()
    bad = [each for each in shown if each != "\n" and (ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0)]
    assert bad == []
    assert not any(each in shown for each in "\u202e\u202d\u2066\u2067\u2068\u2069\u200d\ufe0f")


async def test_markup_is_shown_as_it_was_written(engine: ConsoleEngine, console: Any) -> None:
    engine.put("tasks", task(90, submitted_ms=NOW + 1, reason="[bold]not bold[/bold] \x1b[31m"))
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "[bold]not bold[/bold] ␛[31m")


async def test_an_id_cannot_smuggle_a_location(engine: ConsoleEngine, console: Any) -> None:
    """A row's id goes into a location when it is opened; one that no location can name is refused, not obeyed."""
    from aiwm_tui.screens.tasks.screen import result_text

    assert result_text({"text": 5}) == '{\n  "text": 5\n}'
    engine.put("queues", msgspec.structs.replace(engine.tables["queues"]["demo"], id='odd "name" state:x'))
    app = console(location=":queues sort:-id")
    async with app.run_test(size=(120, 36)):
        await shows(app, "odd")
        await press(app, "enter")
        await shows(app, "all keys")
        assert app.is_running
