"""A picture of every screen and page at 120×36, and what smaller and larger terminals must not lose, on one believable night.

Dialogs are not among the pictures: what lies behind one depends on which app the process made first: they are asserted by text."""

from __future__ import annotations

import asyncio
import re
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from aiwm_tui.screens.registry import NAMES
from tests.support.console_engine import ConsoleEngine
from tests.support.console_night import night
from tests.support.screens import press, shows, text_of, wait_until

# name: location, keys, words that are there when the last answer has been drawn
PICTURES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "overview": (":overview", (), ("mistral24 cannot be loaded", "first gate", "qwen14.0", "tool.register")),
    "tasks": (":tasks sort:-priority,id", ("down",), ("t-4hq7x", "prio1▼", "submitted")),
    "task": (":tasks/t-4hq7x", (), ("60.2", "TIMELINE", "deny list", "Müller & Söhne GmbH …")),
    "queues": (":queues sort:-waiting", (), ("what the 1,102 wait for", "never empty", "p95 ┤11.2s")),
    "queue": (":queues/etl", (), ("never empty", "p95 ┤11.2s", "needs vision")),
    "pools": (":pools sort:-waiting", (), ("what if max is", "head of etl 19m old", "8 of 8 busy")),
    "pool": (":pools/extract", (), ("what if max is", "head of etl 19m old", "8 of 8 busy")),
    "instances": (":instances id:i-*", ("down", "down", "down"), ("i-04 why", "! stuck", "no token for 2m10s", "p95 in etl")),
    "instance": (":instances/i-20", (), ("7,702 of 8,192", "on Thursday already")),
    "models": (":models sort:-running", (), ("GPU1 RTX 4090", "it works; nothing waits", "memory ┤")),
    "model": (":models/qwen14.0", (), ("it works; nothing waits", "memory ┤", "steps per s")),
    "devices": (":devices", (), ("GPU1", "who holds what", "not ours")),
    "adapters": (":adapters sort:-uses", (), ("CACHE llama8.0", "evicted ┤")),
    "adapter": (":adapters/invoice-de@v3", (), ("loops on zeros", "evicted ┤")),
    "workers": (":workers", (), ("Invoices to JSON", "no allow list")),
    "worker": (":workers/invoice-extractor", (), ("DEFINITION", "no allow list")),
    "events": (":events", tuple(["down"] * 6), ("model.refused", "asked for any GPU", "chain")),
    "approvals": (":approvals", (), ("If you do nothing", "asks for tool.register")),
    "logs": (":logs", ("down",), ("llama8.0 the end of it", "read it from disk")),
    "log": (":logs/llama8.0", (), ("19 lines", "read it from disk")),
    "charts": (":charts", (), ("queue.inbox.waiting", "1,080")),
    "chart": (":charts/queue.etl.waiting", (), ("least 0.0", "1,080")),
    "usage": (":usage", (), ("client/scanner-2", "5,953,488")),
    "start": (":start", (), ("llama-swap on :8080", "model.safetensors is cut off", "aiwm demo --headless")),
    "failures": (":failures", (), ("f-7c1", "invoice-de@v3")),
    "batches": (":batches", (), ("b-0412", "done about 04:09:41")),
    "batch": (":batches/b-0412", (), ("row-3891", "done about 04:09:41")),
    "operations": (":operations", ("down",), ("op-118", "these and no others")),
    "engine": (":engine", (), ("184,213", "needs vision")),
    "limits": (":limits", (), ("2 of 2 requests in this minute",)),
    "help": (":queues", ("?",), ("All keys", "CHANGING")),
}  # fmt: skip

WITHOUT = {"demo", "lessons", "records", "retired", "reviews", "sources", "templates"}
"""Screens of which there is no picture: tables like the others, and a page that begins an engine of its own."""


@pytest.fixture
def engine() -> ConsoleEngine:
    return night(ConsoleEngine())


async def _drawn(app: Any, keys: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Wait until the last answer is on the screen."""
    await wait_until(lambda: app.machine is not None)
    await shows(app, *(() if keys else words))
    await wait_until(lambda: app.page.row is not None or not keys)
    await press(app, *keys)
    await shows(app, *words)
    before = ""
    while before != text_of(app) or app.link.asking:
        before = text_of(app)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(monkeypatch: pytest.MonkeyPatch, console: Any, snap_compare: Any, name: str) -> None:
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    location, keys, words = PICTURES[name]
    app = console(location=location)

    async def ready(_: Any) -> None:
        await _drawn(app, keys, words)

    assert snap_compare(app, terminal_size=(120, 36), run_before=ready)


def test_every_screen_has_a_picture() -> None:
    pictured = {location.lstrip(":").split()[0].partition("/")[0] for location, _, _ in PICTURES.values()}
    assert set(NAMES) - pictured == WITHOUT
    folder = Path(__file__).parent / "__snapshots__" / "test_console_pictures"
    assert {path.stem for path in folder.glob("*.svg")} == {f"test_pictures[{name}]" for name in PICTURES}


# location: what is whole in a small terminal (ids, states, reasons), and the titles of columns whose numbers end below them
SIZES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    ":overview": (("mistral24 cannot be loaded", "needs 15.8G, most free 3.7G", "‖ paused nightly-eval", "● open etl 1,102 41m"), ()),
    ":tasks": (("◷ scheduled t-4hz00", "◌ pending t-4hr20", "needs vision: no pool has it"), ("wait", "run")),
    ":queues": (("● open etl", "‖ paused nightly-eval", "pool at max 8", "tokens/day: opens 00:00"), ("wait", "head", "run")),
    ":pools": (("! at max extract", "◌ limited summarize", "queue paused"), ("busy", "wait")),
    ":instances id:i-04,i-15,i-18": (("! stuck i-04", "◌ limited i-15", "retires in 1m58s"), ("for", "failed")),
    ":models": (("◌ limited claude", "✗ refused mistral24", "needs 15.8G, most free 3.7G"), ("run", "tok/s")),
    ":adapters": (("● pinned invoice-de@v4", "✗ refused legal-xl@v1"), ()),
    ":events": (("03:05:10.000 error model.refused", "15.8G needed; 2.9G and 3.7G free"), ()),
    ":approvals": (("? pending ap-12", "tool.register", "it is refused 03:31:41, in 24m"), ("asked",)),
    ":failures": (("f-7c1 31 output_not_json", "timeout", "no answer within 30s"), ("×", "last1")),
    ":batches": (("● processing b-0412", "● processing b-0411", "! failed b-0398"), ("tasks", "failed")),
    ":operations": (("◷ waiting op-117 task.cancel", "✗ failed op-115 task.move"), ("of",)),
    ":logs": (("llama8.0", "4.0M", "11s"), ("size",)),
    ":usage": (("client/scanner-2", "5,953,488", "agent/healing"), ("tasks", "failed")),
    ":tasks/t-4hq7x": (("● processing", "i-01 · extract", "client/scanner-2"), ()),
    ":queues/etl": (("● open", "1.1k ┤", "needs vision: no pool has it"), ()),
    ":start": (("use the 3 models behind llama-swap on :8080", "make your first worker"), ()),
}  # fmt: skip


@pytest.mark.parametrize("size", [(80, 24), (160, 45)], ids=["80x24", "160x45"])
@pytest.mark.parametrize("location", SIZES)
async def test_ids_states_and_reasons_are_whole_and_numbers_stand_below_each_other(
    console: Any, location: str, size: tuple[int, int]
) -> None:
    whole, numbers = SIZES[location]
    app = console(location=location)
    async with app.run_test(size=size):
        await wait_until(lambda: app.machine is not None)
        await wait_until(
            lambda: not [it for it in whole if it not in " ".join(text_of(app).split())], what=f"{whole} in {location}"
        )
        lines = text_of(app).split("\n")
        assert max(map(cell_len, lines)) <= size[0]
        for title in numbers:
            _stand_below(lines, title)


def _stand_below(lines: list[str], title: str) -> None:
    """In every row the cell of this column ends where its title does."""
    place, end = next(
        (place, found.end(1))
        for place, line in enumerate(lines)
        if (found := re.search(rf" ({title}[▲▼]?)(?= |$)", line)) and place > 1
    )
    rows = [line for line in takewhile(lambda line: line[2:3].strip(), lines[place + 1 :]) if not line.startswith("──")]
    assert rows
    for line in rows:
        assert line[end - 1] != " ", f"{title} is not where its title ends:\n{line}"
        assert line[end : end + 1] in ("", " ", "│"), f"{title} goes on behind its title:\n{line}"
