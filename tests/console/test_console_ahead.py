"""What is typed before that stands for which it is meant: it is kept for it, dropped where it never comes, and never acts on the page."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual import events

from aiwm_tui import ahead
from engine.contract.definitions import PoolDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.records.logs import LogRow
from engine.contract.requests import definitions as crud
from engine.contract.requests import fleet
from engine.contract.requests.comparisons import TaskPrompt
from engine.contract.requests.logs import LogFollow, LogList
from tests.support.console_engine import ConsoleEngine
from tests.support.screens import hides, press, shows, wait_until

SIZE = (120, 40)


class Gate:
    """An engine that answers one kind of request when it is told to."""

    def __init__(self, engine: ConsoleEngine, kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self._open = asyncio.Event()
        connect = engine.connect

        async def connected() -> Any:
            client = await connect()
            call = client.call

            async def held(request: Any, *, timeout_s: float | None = None) -> Any:
                if isinstance(request, kind):
                    self.asked += 1
                    await self._open.wait()
                return await call(request, timeout_s=timeout_s)

            monkeypatch.setattr(client, "call", held)
            return client

        monkeypatch.setattr(engine, "connect", connected)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine may take as long as the machine of a test does."""
    monkeypatch.setattr(ahead, "WAIT_S", 60.0)


def _scaled(engine: ConsoleEngine) -> list[fleet.PoolScale]:
    return [request for request in engine.requests if isinstance(request, fleet.PoolScale)]


@pytest.mark.usefixtures("patient")
async def test_keys_wait_for_the_dialog_they_are_meant_for(
    engine: ConsoleEngine, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.definitions["pools", "demo"] = PoolDefinition(name="demo", definition="nano", max_total=4)
    gate = Gate(engine, fleet.PoolShow, monkeypatch)
    app = console(location=":pools")
    async with app.run_test(size=SIZE):
        await shows(app, "at max")
        pool = app.page.row.id
        await press(app, "S", "end", "backspace", "7", "j", "1", "backspace", "backspace", "tab", "end", *"0", "enter")
        await wait_until(lambda: gate.asked)
        # On the page `j` would have moved the cursor, 7 and 1 would have opened other screens.
        assert (app.page.row.id, str(app.page.location), len(app.screen_stack)) == (pool, ":pools", 1)
        gate.open()
        await shows(app, f"S {pool} keeps 0 idle and has at most 7")
    assert _scaled(engine)[0].name == pool
    assert _scaled(engine)[0].max_total == 7


@pytest.mark.usefixtures("patient")
async def test_what_is_typed_while_a_dialog_opens_is_given_to_it_behind_what_was_kept(
    engine: ConsoleEngine, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(engine, crud.TemplateShow, monkeypatch)
    from tests.support.console_answers.definitions import TEMPLATE, template_row

    engine.definitions["templates", "invoice"] = TEMPLATE
    engine.put("templates", template_row(TEMPLATE))
    app = console(location=":templates")
    async with app.run_test(size=SIZE):
        await shows(app, "Reads an invoice.")
        await press(app, "E", "home", *"a lot of text, ")
        gate.open()
        await press(app, *"and more of it ")
        app.post_message(events.Paste("pasted "))
        await press(app, *"behind it ")
        await shows(app, "EDIT TEMPLATE invoice")
        first = next(iter(app.screen.query("FormRow")))
        await wait_until(lambda: first.text.startswith("a lot of text, and more of it pasted behind it "))


@pytest.mark.usefixtures("patient")
async def test_keys_for_a_dialog_that_does_not_come_are_dropped(
    engine: ConsoleEngine, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.refuse[fleet.PoolShow] = AiwmError(Code.denied, "not today")
    gate = Gate(engine, fleet.PoolShow, monkeypatch)
    app = console(location=":pools")
    async with app.run_test(size=SIZE):
        await shows(app, "at max")
        pool = app.page.row.id
        await press(app, "S", "down", "2", "X")
        await wait_until(lambda: gate.asked)
        gate.open()
        await shows(app, "✗ not today")
        assert (app.page.row.id, str(app.page.location), len(app.screen_stack)) == (pool, ":pools", 1)
        await press(app, "2")
        await shows(app, ":tasks")


@pytest.mark.usefixtures("patient")
async def test_esc_gives_up_the_wait(engine: ConsoleEngine, console: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(engine, fleet.PoolShow, monkeypatch)
    app = console(location=":pools")
    async with app.run_test(size=SIZE):
        await shows(app, "at max")
        await press(app, "S", "9")
        await wait_until(lambda: gate.asked)
        await press(app, "escape")
        await shows(app, "S scale: given up before the engine answered")
        assert str(app.page.location) == ":pools"
        gate.open()
        await press(app, "3")
        await shows(app, ":queues")
        await hides(app, "SCALE POOL")
        assert len(app.screen_stack) == 1


async def test_an_engine_that_takes_long_does_not_keep_the_keyboard(
    engine: ConsoleEngine, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "WAIT_S", 0.05)
    gate = Gate(engine, fleet.PoolShow, monkeypatch)
    app = console(location=":pools")
    async with app.run_test(size=SIZE):
        await shows(app, "at max")
        await press(app, "S", "9")
        await shows(app, "S scale: the engine is still at it; the next key gives it up")
        assert str(app.page.location) == ":pools"
        await press(app, "3")
        await shows(app, ":queues")
        gate.open()
        await press(app, "4")
        await shows(app, ":pools", "at max")
        assert len(app.screen_stack) == 1
        # Who waits gets the dialog all the same, and nothing of what was typed before.
        gate._open.clear()
        await press(app, "S", "9")
        await shows(app, "still at it")
        gate.open()
        await shows(app, "SCALE POOL")
        assert "9" not in next(iter(app.screen.query("FormRow"))).text


@pytest.mark.usefixtures("patient")
async def test_no_more_keys_are_kept_than_a_person_types(
    engine: ConsoleEngine, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "MOST", 3)
    gate = Gate(engine, fleet.PoolShow, monkeypatch)
    app = console(location=":pools")
    async with app.run_test(size=SIZE):
        await shows(app, "at max")
        await press(app, "S", *"98765")
        await wait_until(lambda: gate.asked)
        gate.open()
        await shows(app, "SCALE POOL")
        first = next(iter(app.screen.query("FormRow")))
        await wait_until(lambda: "987" in first.text)
        assert "9876" not in first.text


@pytest.mark.usefixtures("patient")
async def test_keys_for_a_log_wait_until_it_is_there(
    engine: ConsoleEngine, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(engine, LogList, monkeypatch)
    app = console(location=":models")
    async with app.run_test(size=SIZE):
        await wait_until(lambda: app.page.row is not None)
        model = app.page.row.id
        engine.answers[LogList] = lambda *_: [LogRow(id=model, kind="model", size_bytes=1, changed_ms=engine.now())]
        engine.hangs.add(LogFollow)
        await press(app, "l", "slash", *"error")
        await wait_until(lambda: gate.asked)
        assert (str(app.page.location), app.shell.prompted) == (":models", False)
        gate.open()
        await wait_until(lambda: app.shell.prompted)
        assert str(app.page.location) == f":logs/{model}"
        await shows(app, " error")


async def test_a_prompt_that_does_not_come_holds_no_key(engine: ConsoleEngine, console: Any) -> None:
    engine.hangs.add(TaskPrompt)
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=SIZE):
        await shows(app, "TIMELINE")
        await press(app, "i", "escape")
        await shows(app, "given up before the engine answered")
        await press(app, "3")
        await shows(app, ":queues")


async def test_what_is_typed_behind_a_location_is_meant_for_it(console: Any) -> None:
    app = console(location=":overview")
    async with app.run_test(size=SIZE):
        await shows(app, "2 tasks failed")
        # On the overview `/` means nothing.
        await press(app, *":tasks", "enter", "slash", *"state:failed", "enter", "slash", "escape", "w", "w")
        await shows(app, ":tasks state:failed", "2 match", "answer ──")
        assert not app.shell.prompted


async def test_what_is_typed_behind_a_mistake_corrects_it(console: Any) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=SIZE):
        await shows(app, "t-10001")
        await press(app, *":nowhere", "enter", "ctrl+u", *":pools", "enter")
        await wait_until(lambda: str(app.page.location) == ":pools")
