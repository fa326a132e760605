"""Logs in the console, on a real engine: followed, held, searched, of this life and the ones before; as lines and as keys."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from aiwm_tui.app import ConsoleApp
from aiwm_tui.live.link import Phase
from aiwm_tui.live.log_following import LogFollowing
from aiwm_tui.live.log_lines import LIMIT, LogLines
from engine.client import connect
from engine.contract.requests.base import Request
from engine.contract.requests.logs import LogFollow, LogFollowed, LogRead, LogText
from engine.contract.requests.tasks import TaskSubmit, TaskWait
from tests.support import engines
from tests.support.screens import hides, line_of, press, shows, text_of, wait_until


@pytest.fixture(scope="module")
def running() -> Iterator[engines.Engine]:
    """One engine for all: logs are files, and each test writes its own."""
    with tempfile.TemporaryDirectory(prefix="aiwm-") as folder, engines.engine(Path(folder) / "home") as engine:
        yield engine


@pytest.fixture
def served(running: engines.Engine) -> engines.Engine:
    logs = running.home / "logs"
    for path in logs.glob("nano.0.log*"):
        path.unlink()
    (logs / "nano.0.log.2").write_text("first life\nERROR: the first trouble\n")
    (logs / "nano.0.log.1").write_text("second life\n" + "".join(f"warming {n}\n" for n in range(30)))
    (logs / "nano.0.log").write_text("".join(f"step {n} of 200\n" for n in range(200)))
    return running


def _app(home: Path, location: str) -> ConsoleApp:
    async def dial() -> Any:
        return await connect(home, spawn=False, name="console")

    return ConsoleApp(dial, location=location)


def _append(engine: engines.Engine, text: str) -> None:
    with (engine.home / "logs" / "nano.0.log").open("a") as log:
        log.write(text)


async def test_a_log_is_followed_held_and_read_back_to_its_first_life(served: engines.Engine) -> None:
    app = _app(served.home, ":logs id:nano.0")
    async with app.run_test(size=(120, 30)):
        await shows(app, "nano.0", "model", "step 199 of 200", "lives before")
        await wait_until(lambda: app.page.row is not None)
        await press(app, "enter")
        await shows(app, ":logs/nano.0", "200 lines and older ones · follows", "step 199 of 200")
        _append(served, "half")
        await shows(app, " half")
        _append(served, " a line\n")
        await shows(app, "half a line", "201 lines")
        await press(app, "p")
        await shows(app, "held +0")
        _append(served, "one\ntwo\n")
        await shows(app, "held +2", "held, 2 lines wait")
        assert "two" not in text_of(app)
        await press(app, "p")
        await shows(app, " two", "follows")
        await press(app, "pageup")
        await shows(app, "25 below")
        _append(served, "three\n")
        await shows(app, "26 below")
        await press(app, "G")
        await shows(app, "three", "follows")
        await press(app, "g")
        await wait_until(lambda: "first life" in line_of(app, 2))
        await shows(app, "239 lines ·", "this life ended · last written")


class _SlowLink:
    """Answers when `go_on` is set, as an engine far away does."""

    phase, every_ms = Phase.live, 0

    def __init__(self) -> None:
        self.listeners: list[object] = []
        self.asked: list[str] = []
        self.go_on = asyncio.Event()

    def on(self, *_: object) -> Callable[[], None]:
        return lambda: None

    async def call(self, request: Request[Any]) -> Any:
        self.asked.append(request.method)
        if isinstance(request, LogFollow):
            await self.go_on.wait()
            return LogFollowed(stream="l1")
        return LogText(name="nano.0", life=1, text="a\n", next=2) if isinstance(request, LogRead) else []


async def test_a_page_that_goes_before_the_engine_answers_leaves_nothing_followed() -> None:
    link: Any = _SlowLink()
    following = LogFollowing(link, "nano.0", lambda: None, lambda: 0)
    await wait_until(lambda: "logs.follow" in link.asked)
    following.close()
    link.go_on.set()
    await wait_until(lambda: link.asked[-1] == "logs.unfollow")


async def test_a_new_life_is_followed_without_a_key(served: engines.Engine) -> None:
    app = _app(served.home, ":logs/nano.0")
    async with app.run_test(size=(100, 30)):
        await shows(app, "step 199 of 200", "follows")
        path = served.home / "logs" / "nano.0.log"
        path.rename(path.with_name("nano.0.log.3"))
        path.write_text("born again\n")
        await shows(app, "── a new life began", "born again")


async def test_it_is_searched_with_lines_around_and_without(served: engines.Engine) -> None:
    _append(served, "RuntimeError: CUDA out of memory\n" + "".join(f"after {n}\n" for n in range(60)))
    app = _app(served.home, ":logs/nano.0")
    async with app.run_test(size=(120, 30)):
        await shows(app, "after 59")
        await press(app, "n")
        await shows(app, "nothing is looked for")
        await press(app, "/", *'"STEP 19"', "enter")
        await shows(app, ':logs/nano.0 "STEP 19"', "11 matches in", "step 199 of 200")
        await press(app, "b")
        await shows(app, "match 10 of 11")
        await press(app, "n", "n")
        await shows(app, "match 1 of 11, from the other end", "step 19 of 200")
        await press(app, "h")
        await shows(app, '"STEP 19" around:3', "step 16 of 200", "··· 164 lines ···", "step 187 of 200")
        assert "step 100" not in text_of(app)
        await press(app, "h")
        await shows(app, ':logs/nano.0 "STEP 19"  ')
        await press(app, "/", "ctrl+u", *"oom -C 99", "enter")
        await shows(app, "from 0 to 20")
        await press(app, "escape", "/", "ctrl+u", *"nothing!", "enter")
        await shows(app, "0 matches in")
        await press(app, "h")
        await shows(app, "no line matches")
        await press(app, "escape", "escape")
        await shows(app, ":logs/nano.0  ")
        await press(app, "!")
        await shows(app, "RuntimeError: CUDA", "after 2", "step 199 of 200", "ERROR: the first trouble")
        assert "after 3" not in text_of(app)
        await press(app, "!")
        await shows(app, "after 3")


async def test_lines_are_wrapped_cut_stamped_and_copied(
    served: engines.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    copied: list[str] = []
    app = _app(served.home, ":logs/nano.0")
    app.copy_to_clipboard = copied.append  # type: ignore[method-assign,assignment]
    async with app.run_test(size=(60, 20)):
        await shows(app, "follows")
        _append(served, "word " * 30 + "end\n")
        await shows(app, "word end")
        await press(app, "w")
        await shows(app, "long lines are cut")
        await hides(app, "word end")
        await press(app, *["right"] * 15)
        await shows(app, "word end")
        await press(app, "w", "t")
        await shows(app, "when each line came")
        _append(served, "stamped\n")
        await shows(app, " stamped")
        line = next(line for line in text_of(app).split("\n") if "stamped" in line)
        assert line.strip()[2] == line.strip()[5] == ":", "a time of day stands before it"
        await press(app, "/", *"stamped", "enter")
        await shows(app, "1 match in")
        await press(app, "b", "y")
        await wait_until(lambda: copied)
        assert copied == ["stamped"]


async def test_a_hundred_thousand_lines_cost_what_a_thousand_cost(
    served: engines.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in lines that are read to draw the screen, not in time."""
    read = 0
    plain = LogLines.text

    def counted(lines: LogLines, number: int) -> str:
        nonlocal read
        read += 1
        return plain(lines, number)

    monkeypatch.setattr(LogLines, "text", counted)
    costs: list[int] = []
    for many in (1_000, 130_000):
        path = served.home / "logs" / f"long-{many}.0.log"
        path.write_text("".join(f"line {number} of a log\n" for number in range(many)))
        app = _app(served.home, f":logs/long-{many}.0")
        async with app.run_test(size=(100, 30)):
            await shows(app, f"line {many - 1} of", "follows")
            await press(app, "g")
            page: Any = app.page
            following = page.following
            await wait_until(partial(getattr, following, "whole"))
            lines = following.lines
            assert lines.end - lines.first == min(many, LIMIT)
            read = 0
            await press(app, *["pagedown"] * 20, *["up"] * 20, "t", "w", "G", "pageup")
            with path.open("a") as log:
                log.write("and more\n")
            await press(app, "G")
            await shows(app, "and more")
            costs.append(read)
        path.unlink()
    assert costs[1] <= costs[0] * 1.2, costs


HOSTILE = (
    "[bold red]x[/bold red] [@click=app.exit()]y",
    "\x1b[31mred\x1b[2J\x1b]0;owned\x07\x9b1m",
    "a\x00b\x7fc\x08d\x0b",
    "漢字カタカナ한국어👩‍👩‍👧" * 20,
    "e\u0301\u0302" * 300,
    "\u202eevil\u202c שלום",
    "y" * 1_000_000,
)


async def test_hostile_lines_are_harmless(served: engines.Engine) -> None:
    app = _app(served.home, ":logs/nano.0")
    async with app.run_test(size=(80, 24)):
        await shows(app, "follows")
        for key in ("", "w", "t"):
            if key:
                await press(app, key)
            for number, text in enumerate(HOSTILE):
                _append(served, f"{text}\nthe end of {number}{key}.\n")
                await shows(app, f"the end of {number}{key}.")
                for strip in app.screen._compositor.render_strips():
                    assert sum(cell_len(segment.text) for segment in strip) == 80
                assert not set(text_of(app)) & {"\x1b", "\x00", "\x9b", "\u202e", "\x07", "\x7f"}


async def test_l_leads_from_a_task_an_instance_a_model_and_an_event_to_their_log(
    running: engines.Engine,
) -> None:
    client = running.client()
    task = client.call(TaskSubmit(queue="demo", payload={"prompt": "What is 2 + 2?"}))
    client.call(TaskWait(ids=(task.id,)))
    app = _app(running.home, f":tasks/{task.id}")
    async with app.run_test(size=(120, 36)):
        for location, words in (
            (f":tasks/{task.id}", "OUTPUT"),
            (":instances", "idle"),
            (":models aiwm-nano.0", "aiwm-nano.0"),
            (":events about:aiwm-nano.0", "model.ready"),
        ):
            app.open_location(location)
            await shows(app, location, words)
            await wait_until(lambda: app.page.row is not None)
            await press(app, "l")
            await shows(app, ":logs/aiwm-nano.0", "nothing was written yet")
        app.open_location(":events type:engine.started")
        await shows(app, "epoch 1")
        await wait_until(lambda: app.page.row is not None)
        await press(app, "l")
        await shows(app, "no process of", "lists what there is")
