"""One verb for several rows: fixed rows, one dialog, a request for each; what is refused stays marked."""

from __future__ import annotations

from typing import Any

import pytest

from aiwm_tui.actions import ACTIONS, MARKED
from aiwm_tui.several import MOST, WAYS, foot, listed
from engine.contract.errors import AiwmError, Code
from engine.contract.requests import adapters, definitions, fleet, instances, memory
from tests.support.console_engine import ConsoleEngine
from tests.support.rows import model_row, queue_row
from tests.support.screens import hides, press, shows, text_of


def test_every_way_is_an_action_of_a_table_that_has_marks() -> None:
    by_id = {action.id: action for action in ACTIONS}
    assert {table for table, _ in WAYS} | {"tasks"} == MARKED
    for table, identifier in WAYS:
        assert by_id[identifier].changes
        assert by_id[identifier].on(table)
    for name in ("mark", "mark_to_here", "mark_all"):
        assert by_id[name].tables == MARKED


async def test_marked_instances_are_retired_one_by_one(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":instances sort:id")
    async with app.run_test(size=(120, 40)):
        await shows(app, "i-01")
        first, second = (app.page.live_table.state.ids[at] for at in (0, 1))
        await press(app, "space", "space")
        await shows(app, "2 marked")
        await press(app, "X")
        await shows(app, "RETIRE 2 INSTANCES", "These and no others:", first, second, f"for each in {first} {second}")
        await press(app, *"enough")
        await shows(app, "aiwm instance retire $each --reason enough")
        await press(app, "enter")
        await shows(app, "X 2 instances: done")
        assert [each for each in engine.requests if isinstance(each, instances.InstanceRetire)] == [
            instances.InstanceRetire(id=first, reason="enough"),
            instances.InstanceRetire(id=second, reason="enough"),
        ]
        await hides(app, "marked")


async def test_what_is_refused_stays_marked(engine: ConsoleEngine, console: Any) -> None:
    def paused(_: ConsoleEngine, request: fleet.QueuePause) -> Any:
        if request.name == "demo":
            raise AiwmError(Code.bad_request, "demo may not stand still")

    engine.answers[fleet.QueuePause] = paused
    app = console(location=":queues sort:name")
    async with app.run_test(size=(120, 40)):
        await shows(app, "demo")
        await press(app, "asterisk")
        await shows(app, f"{len(engine.tables['queues'])} marked")
        await press(app, "P")
        await shows(app, "PAUSE")
        await press(app, "enter")
        await shows(app, "1 refused and still marked: demo: demo may not stand still", "1 marked")


async def test_queues_that_all_stand_still_go_on(engine: ConsoleEngine, console: Any) -> None:
    for name in engine.tables["queues"]:
        engine.change("queues", name, state="paused")
    app = console(location=":queues sort:name")
    async with app.run_test(size=(120, 40)):
        await shows(app, "demo")
        await press(app, "asterisk", "P")
        await shows(app, "LET GO ON", "aiwm queue resume $each")
        await press(app, *str(len(engine.tables["queues"])), "enter")
        await shows(app, "s: done")
        sent = {each.name for each in engine.requests if isinstance(each, fleet.QueueResume)}
        assert sent == set(engine.tables["queues"])


async def test_what_cannot_be_done_to_a_row_leaves_it_out(engine: ConsoleEngine, console: Any) -> None:
    up = sorted(engine.tables["models"])
    engine.put("models", model_row(id="far.0", state="absent", pid=None))
    app = console(location=":models sort:id")
    async with app.run_test(size=(120, 40)):
        await shows(app, "far.0")
        await press(app, "asterisk")
        await press(app, "D")
        await shows(app, "1 left out: far.0 is absent: nothing of it is loaded", f"Type {len(up)} to go on")
        await press(app, str(len(up)), "enter")
        await shows(app, "s: done")
        sent = [each.name for each in engine.requests if isinstance(each, memory.ModelUnload)]
        assert sorted(sent) == sorted(up)


async def test_deleting_asks_for_the_number_however_few(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":queues sort:name")
    async with app.run_test(size=(120, 40)):
        await shows(app, "demo")
        await press(app, "space", "X")
        await shows(app, "DELETE 1 QUEUE", "it cannot be taken back")
        await press(app, "2", "enter")
        await shows(app, "type 1 to go on")
        await press(app, "backspace", "1", "enter")
        await shows(app, "X 1 queue: done")
        assert len([each for each in engine.requests if isinstance(each, definitions.QueueDelete)]) == 1


async def test_a_verb_for_one_row_takes_the_one_under_the_cursor(engine: ConsoleEngine, console: Any) -> None:
    """Forms name the row that they are about."""
    app = console(location=":queues sort:name")
    async with app.run_test(size=(120, 40)):
        await shows(app, "demo")
        await press(app, "space", "E")
        await shows(app, f"EDIT QUEUE {sorted(engine.tables['queues'])[1]}")


async def test_adapters_are_loaded_by_their_versions(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":adapters sort:id state:absent,resident,pinned")
    async with app.run_test(size=(120, 40)):
        await shows(app, "invoice-de@v3")
        await press(app, "space", "space", "L")
        await shows(app, "LOAD 2 ADAPTERS", "aiwm adapter prefetch $each")
        await press(app, "2", "enter")
        await shows(app, "L 2 adapters: done")
        assert len([each for each in engine.requests if isinstance(each, adapters.AdapterPrefetch)]) == 2


async def test_too_many_are_refused(engine: ConsoleEngine, console: Any) -> None:
    engine.put("queues", *(queue_row(f"q{number}", state="open") for number in range(MOST + 1)))
    app = console(location=":queues sort:name")
    async with app.run_test(size=(120, 40)):
        await shows(app, "demo")
        await press(app, "asterisk", "P")
        await shows(app, f"at most {MOST:,} are changed at once")
        assert "PAUSE" not in text_of(app)


@pytest.mark.parametrize("name", ["a b; rm -rf ~", "[red]x[/]", "\x1b[31m"])
def test_names_are_text_for_the_screen_and_for_the_shell(name: str) -> None:
    rows = [queue_row(name, state="open")]
    lines = [*listed("queues", rows, {}, ":queues", 0, 8), *foot(WAYS["queues", "pause"], [name], {"reason": "$(x)"})]
    text = "".join(span for line in lines for span, _ in line)
    assert "\x1b" not in text
    assert "--reason '$(x)'" in text
    assert ("'a b; rm -rf ~'" in text) == name.startswith("a b")
