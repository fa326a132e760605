"""Instances that are talked to, and approvals: the answer as it comes, limits that hold it, requests that a person decides on."""

from __future__ import annotations

from typing import Any

import pytest

from engine.contract.errors import AiwmError, Code
from engine.contract.notifications import InstanceChunk
from engine.contract.requests import approvals, instances
from tests.support.console_answers.agents import approval_row, turn
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.rows import instance_row
from tests.support.screens import hides, press, shows, text_of, wait_until


@pytest.fixture
def chatty(engine: ConsoleEngine) -> ConsoleEngine:
    row = instance_row(
        20, pool="", state="idle", task=None, done=1, context=460, context_max=512, spawned_ms=NOW - 720_000, by="ana"
    )
    engine.put("instances", row)
    engine.turns["i-20"] = (turn(1, "Who are you?", "A [bold]persona[/bold].\x1b[31m"),)
    return engine


async def test_a_conversation_shows_its_history_and_goes_on(chatty: ConsoleEngine, console: Any) -> None:
    app = console(location=":instances/i-20")
    async with app.run_test(size=(120, 36)):
        await shows(app, "› Who are you?", "A [bold]persona[/bold].␛[31m", "460 of 512 tokens  89 %", "spawned by ana")
        await press(app, "T", *"hello", "enter")
        await shows(app, "› hello", "You said: hello")
        assert any(
            request.message == "hello" for request in chatty.requests if isinstance(request, instances.InstanceChat)
        )


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_the_answer_is_shown_as_it_comes(chatty: ConsoleEngine, console: Any, size: tuple[int, int]) -> None:
    chatty.hangs.add(instances.InstanceChat)
    app = console(location=":instances/i-20")
    async with app.run_test(size=size):
        await shows(app, "› Who are you?")
        await press(app, "T", *"go on", "enter")
        await shows(app, "› go on", "· answers")
        assert chatty.client is not None
        chatty.client.hear(
            InstanceChunk(instance="i-20", turn=2, offset=0, text="", until_ms=NOW + 41_000, why="requests/min full")
        )
        await shows(app, "◌ waits: requests/min full; opens 03:08:22, in 41s")
        app.clock = lambda: NOW + 1_000
        await shows(app, "in 40s")
        chatty.client.hear(InstanceChunk(instance="i-20", turn=2, offset=0, text="Once "))
        chatty.client.hear(InstanceChunk(instance="i-21", turn=2, offset=0, text="not mine"))
        chatty.client.hear(InstanceChunk(instance="i-20", turn=2, offset=5, text="upon a time"))
        await shows(app, "Once upon a time▌")
        await hides(app, "◌ waits", "not mine")
        await press(app, "T", *"more", "enter")
        await shows(app, "i-20 is answering", "X stops the answer")
        await press(app, "X")
        await wait_until(lambda: any(isinstance(request, instances.InstanceStop) for request in chatty.requests))


async def test_a_refused_turn_is_said_and_kept_out(chatty: ConsoleEngine, console: Any) -> None:
    chatty.refuse[instances.InstanceChat] = AiwmError(Code.context_full, "i-20 is full", fix="retire it")
    chatty.change("instances", "i-20", state="full", context=512)
    app = console(location=":instances/i-20")
    async with app.run_test(size=(120, 36)):
        await shows(app, "full: the next turn is refused, X retires it")
        await press(app, "T", *"hello", "enter")
        await shows(app, "✗ i-20 is full  retire it")
        await hides(app, "› hello")


async def test_a_definition_is_talked_to(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":workers id:nano")
    async with app.run_test(size=(120, 36)):
        await shows(app, "aiwm-nano")
        await press(app, "T")
        await shows(app, ":instances/i-20", "spawned i-20 of nano", "T talk to it")
        await press(app, "T", *"hi", "enter")
        await shows(app, "You said: hi", "28 of 512 tokens")
        await press(app, "X")
        await shows(app, "RETIRE INSTANCE i-20")
        await press(app, *"enough", "enter")
        await shows(app, "X retired i-20", ":retired/i-20 is what became of it", "There is no i-20 now")
        assert instances.InstanceRetire(id="i-20", reason="enough") in engine.requests


async def test_an_instance_of_a_pool_is_not_talked_to(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":instances/i-01")
    async with app.run_test(size=(120, 36)):
        await shows(app, "pool demo", "t-10001")
        await press(app, "T")
        await shows(app, "i-01 works for pool demo and is not talked to")
        await press(app, "enter")
        await shows(app, ":tasks/t-10001")


async def test_approvals_are_read_and_decided_with_a_reason(engine: ConsoleEngine, console: Any) -> None:
    engine.put("approvals", approval_row(1), approval_row(2, by="agent:[bold]b[/", state="expired", task=None))
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "NEEDS YOU")
        await press(app, "0")
        await shows(app, "? pending", "model.unload", '"process": "llama8.0"', "refused in 24m", "agent:[bold]b[/")
        await press(app, "B")
        await shows(app, "REFUSE ap-1: model.unload for agent:healing")
        await press(app, *"not now", "enter")
        await shows(app, "B ap-1 rejected: model.unload")
        assert approvals.ApprovalReject(id="ap-1", reason="not now") in engine.requests
        await press(app, "A")
        await shows(app, "ap-1 is rejected: it is decided once")
        assert "APPROVE" not in text_of(app)


async def test_read_only_cannot_approve(engine: ConsoleEngine, console: Any) -> None:
    engine.read_only = True
    engine.put("approvals", approval_row(1))
    app = console(location=":approvals")
    async with app.run_test(size=(120, 36)):
        await shows(app, "? pending", "read-only")
        await press(app, "A")
        await shows(app, "this console is read-only; nothing was changed")


async def test_an_instance_that_is_stuck_is_seen_and_found(engine: ConsoleEngine, console: Any) -> None:
    identifier = next(row.id for row in engine.tables["instances"].values() if row.state == "busy")
    engine.change("instances", identifier, state="stuck", note="no token for 2m10s")
    app = console(location=":instances")
    async with app.run_test(size=(120, 36)):
        await shows(app, "! stuck", "no token for 2m10s", "1 fault")
        await press(app, "!")
        await shows(app, ":instances is:fault", "1 match")
        assert app.page.row.id == identifier
