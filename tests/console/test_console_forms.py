"""Definitions made and changed by form: live checks, the engine's error at its field, only what differs is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiwm_tui.forms.fields import FormField, Kind
from aiwm_tui.live.text import Line
from aiwm_tui.screens.dialogs.form import FormDialog
from engine.contract.definitions import DataSource, PoolDefinition, QueueDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests import definitions as crud
from engine.contract.requests import fleet, tasks
from tests.support.console_answers.definitions import SOURCE, TEMPLATE, source_row, template_row
from tests.support.console_engine import ConsoleEngine
from tests.support.screens import hides, press, shows, text_of, wait_until


@pytest.fixture(autouse=True)
def _defined(engine: ConsoleEngine) -> None:
    engine.definitions |= {("templates", "invoice"): TEMPLATE, ("sources", "inv-2026"): SOURCE}
    engine.put("templates", template_row(TEMPLATE))
    engine.put("sources", source_row(SOURCE))


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_a_pool_is_made(engine: ConsoleEngine, console: Any, size: tuple[int, int]) -> None:
    app = console(location=":pools")
    async with app.run_test(size=size):
        await shows(app, "at max")
        await press(app, "N")
        await shows(app, "NEW POOL", "cooldown", "max total")
        await press(app, *"two words")
        await shows(app, "a name has letters")
        await press(app, *["backspace"] * 6, "enter")
        await hides(app, "a name has letters")
        await shows(app, "must be said")
        assert not any(isinstance(request, fleet.PoolCreate) for request in engine.requests)
        await press(app, *"nano", "tab", "end", "backspace", "1", "enter")
        await shows(app, "N made pool two")
    made = PoolDefinition(name="two", definition="nano", min_idle=1)
    assert fleet.PoolCreate(definition=made) in engine.requests


async def test_a_label_that_is_too_long_leaves_out_its_group(console: Any) -> None:
    app = console(location=":workers")
    async with app.run_test(size=(120, 50)):
        await shows(app, "workers")
        await press(app, "N")
        await shows(app, "NEW WORKER", "limits tokens per day", "  requests per minute")
        assert "per mi " not in text_of(app)


async def test_what_the_engine_refuses_stands_at_its_field(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":pools")
    async with app.run_test(size=(120, 40)):
        await shows(app, "at max")
        await press(app, "N")
        await shows(app, "NEW POOL")
        await press(app, *"demo", "tab", *"nano", "ctrl+s")
        await shows(app, '✗ "demo" exists  another name')
        rows = {row.field.key: row for row in app.screen.query("FormRow")}
        assert rows["name"].error is not None
        await wait_until(lambda: rows["name"].editor.has_focus)
        engine.refuse[fleet.PoolCreate] = AiwmError(Code.denied, "no further pools today")
        await press(app, "2", "ctrl+s")
        await shows(app, "✗ no further pools today")
        assert rows["name"].error is None
        long = "this pool would need " + "more memory, " * 12 + "and there is none"
        engine.refuse[fleet.PoolCreate] = AiwmError(Code.denied, long, field="definition.name", fix="a smaller one")
        await press(app, "2", "ctrl+s")
        await shows(app, "✗ this pool would need", "and there is none", "a smaller one")
        await press(app, "escape")
        await shows(app, "nothing was changed")


async def test_a_queue_is_changed_and_only_what_differs_is_sent(engine: ConsoleEngine, console: Any) -> None:
    engine.definitions["queues", "demo"] = QueueDefinition(name="demo", pools=("demo",), max_length=10)
    app = console(location=":queues")
    async with app.run_test(size=(120, 40)):
        await shows(app, "summaries")
        await press(app, "E")
        await shows(app, "EDIT QUEUE demo", "max length", "10")
        await press(app, *["down"] * 8, "right")
        await shows(app, "( ) disk  (•) os")
        await press(app, "down", "end", "backspace", "backspace", "ctrl+s")
        await shows(app, "E changed durability, max_length of demo")
        sent = next(request for request in engine.requests if isinstance(request, crud.QueueUpdate))
        assert (sent.changes.durability, sent.changes.max_length) == ("os", None)
        assert engine.definitions["queues", "demo"].max_length is None
        await press(app, "E")
        await shows(app, "EDIT QUEUE demo")
        await press(app, "ctrl+s")
        await shows(app, "E demo is as it was")
    assert sum(isinstance(request, crud.QueueUpdate) for request in engine.requests) == 1


async def test_a_queue_and_a_template_are_made(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 40)):
        await shows(app, "summaries")
        await press(app, "ctrl+n")
        await shows(app, "NEW QUEUE")
        await press(app, *"etl", "tab", *"demo, echo", "ctrl+s")
        await shows(app, "ctrl+n made queue etl")
        assert fleet.QueueCreate(definition=QueueDefinition(name="etl", pools=("demo", "echo"))) in engine.requests
        await press(app, *":templates", "enter")
        await shows(app, "Reads an invoice.", "schema of the payload")
        await press(app, "ctrl+n")
        await shows(app, "NEW TEMPLATE", "payload schema")
        await press(app, *"mail", *["tab"] * 5, *'{"type": ')
        await shows(app, "the payload schema is not JSON")
        await press(app, *'"object"}', "ctrl+s")
        await shows(app, "made template mail")
        assert engine.definitions["templates", "mail"].payload_schema == {"type": "object"}


async def test_a_source_is_made_shown_and_deleted_by_its_name(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":sources")
    async with app.run_test(size=(120, 40)):
        await shows(app, "● usable", "inv-2026", "0431.txt", "used by")
        await press(app, "N")
        await shows(app, "NEW SOURCE")
        await press(app, *"mail", "down", "down", "down", *"mail/in", "ctrl+s")
        await shows(app, "N made source mail")
        assert crud.SourceCreate(definition=DataSource(name="mail", path="mail/in")) in engine.requests
        await press(app, "X")
        await shows(app, "DELETE SOURCE inv-2026", "It cannot be taken back.")
        await press(app, *"inv", "enter")
        await shows(app, 'type "inv-2026" to go on')
        assert not any(isinstance(request, crud.SourceDelete) for request in engine.requests)
        await press(app, *"-2026", "enter")
        await shows(app, "X deleted source inv-2026")
        await wait_until(lambda: "inv-2026" not in engine.tables["sources"])


async def test_deleting_a_queue_says_what_becomes_of_its_tasks(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues id:echo")
    async with app.run_test(size=(120, 36)):
        await shows(app, "● open")
        await press(app, "X")
        await shows(app, "DELETE QUEUE echo", "cancel tasks")
        await press(app, *"echo", "up", "right", "enter")
        await shows(app, "X deleted queue echo")
        assert crud.QueueDelete(name="echo", cancel_tasks=True) in engine.requests


async def test_draining_a_queue_takes_a_reason(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        await press(app, "D")
        await shows(app, "DRAIN QUEUE demo", "reason")
        await press(app, *"moving", "enter")
        await shows(app, "D demo drains: 12 tasks to go", "◐ draining")
        assert crud.QueueDrain(name="demo", reason="moving") in engine.requests


async def test_a_template_fills_the_payload_in(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":templates")
    async with app.run_test(size=(120, 40)):
        await shows(app, "Reads an invoice.")
        await press(app, "N")
        await shows(app, "SUBMIT A TASK", '"prompt": "Who sent this invoice?"', '"text": ""')
        await press(app, "ctrl+s")
        await shows(app, "N submitted t-10099")
        sent = next(request for request in engine.requests if isinstance(request, tasks.TaskSubmit))
        assert (sent.template, sent.queue) == ("invoice", "demo")
        assert sent.payload == {"prompt": "Who sent this invoice?", "text": ""}


async def test_what_was_typed_into_the_payload_is_not_overwritten(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 40)):
        await shows(app, "summaries")
        await press(app, "N")
        await shows(app, "SUBMIT A TASK")
        await press(app, *"mine", "tab", "tab", *"invoice")
        await wait_until(lambda: any(isinstance(request, crud.TemplateShow) for request in engine.requests))
        await shows(app, "mine")
        assert "Who sent" not in text_of(app)


async def test_hostile_definitions_are_text_in_a_form(engine: ConsoleEngine, console: Any) -> None:
    engine.definitions["queues", "demo"] = QueueDefinition(name="demo", supervisor="[bold]x[/", sources=("\x1b[31m",))
    app = console(location=":queues")
    async with app.run_test(size=(120, 40)):
        await shows(app, "summaries")
        await press(app, "E")
        await shows(app, "EDIT QUEUE demo", "[bold]x[/")
        assert "\x1b" not in text_of(app)


@pytest.mark.parametrize("turns", range(0, 40, 4))
async def test_a_form_may_be_left_before_it_stands(console: Any, turns: int) -> None:
    app = console(location=":queues")

    async def send(_: dict[str, Any]) -> Line:
        raise AssertionError("nothing was sent")

    async with app.run_test(size=(120, 36)):
        await shows(app, "demo")
        left: list[Any] = []
        form = FormDialog("NEW", [FormField("name", Kind.text)], {}, send)
        app.push_screen(form, left.append)
        for _ in range(turns):
            await asyncio.sleep(0)
        form.dismiss(None)
        await wait_until(lambda: left == [None] and app.screen is not form, "the page")
        await wait_until(lambda: not form.is_running, "its end")
        await press(app, "?")
        await shows(app, "all keys")
