"""The shell around the screens: own keys, mouse, a thin line, read-only, drawing again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from textual import events

from aiwm_tui.actions import ACTIONS
from aiwm_tui.app import ConsoleApp
from aiwm_tui.comfort import LEAN_MS
from aiwm_tui.keymap import console_class, keyed
from aiwm_tui.live.history import Place
from aiwm_tui.screens.registry import locate, page_for
from aiwm_tui.widgets.lines import TextBlock, TextLine
from aiwm_tui.widgets.paint import changed_part
from engine.contract.requests import session
from engine.contract.requests.base import Request
from engine.contract.states import Effect
from tests.support.console_answers.agents import approval_row
from tests.support.console_engine import ConsoleEngine
from tests.support.screens import line_of, press, shows, text_of, wait_until


async def test_own_keys_work_and_are_shown_in_footer_help_and_palette(engine: ConsoleEngine) -> None:
    kind = console_class(ConsoleApp, keyed({"go_queues": "f6", "submit": "f5", "jump": "f7"}))
    app: Any = kind(engine.connect, location=":tasks", clock=engine.now)
    async with app.run_test(size=(120, 50)):
        await shows(app, "f5 submit")
        await press(app, "3")
        await press(app, "f6")
        await shows(app, ":queues", "f5 submit")
        await press(app, "question_mark")
        await shows(app, "All keys", "f6", "f7")
        await press(app, "escape")
        await wait_until(lambda: len(app.screen_stack) == 1)
        await press(app, "f7")
        await wait_until(lambda: app.shell.prompted)
        await press(app, "escape")
        await wait_until(lambda: not app.shell.prompted)
        await press(app, "ctrl+p")
        await shows(app, "what to do")
        await press(app, *"queues")
        await shows(app, "queues  (f6)")


def _tap(app: Any, table: Any, line: int) -> None:
    """What the terminal says when somebody clicks there."""
    x, y = table.region.x + 5, table.region.y + line
    for kind in (events.MouseDown, events.MouseUp):
        event = kind(None, x, y, 0, 0, 1, False, False, False, screen_x=x, screen_y=y)
        event.set_sender(app)
        app.post_message(event)


async def test_the_mouse_is_given_to_the_terminal_and_taken_again(console: Any) -> None:
    app = console(location=":tasks sort:id")
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "t-10001")
        table = app.page.live_table
        # Once the parts of the page have found their places: a click before would be on another one.
        await wait_until(lambda: table.region.height > 5 and "t-1" in line_of(app, table.region.y + 3))
        await pilot.pause()
        _tap(app, table, 3)
        await wait_until(lambda: table.index == 2)
        await press(app, "f8")
        await shows(app, "the mouse is the terminal's", "console.mouse false")
        _tap(app, table, 1)
        await press(app, "f8")
        await shows(app, "the mouse is the console's")
        assert table.index == 2, "a click in between was not heard"
        _tap(app, table, 1)
        await wait_until(lambda: table.index == 0)


async def test_over_a_thin_line_little_is_asked_and_drawn(engine: ConsoleEngine, console: Any) -> None:
    asked: list[int] = []
    handle = engine.handle

    def watched(client: Any, request: Request[Any]) -> Any:
        if isinstance(request, session.ViewOpen):
            asked.append(request.every_ms)
        return handle(client, request)

    engine.handle = watched  # type: ignore[method-assign]
    trend = tuple(range(1, 21))
    engine.put("queues", *(msgspec.structs.replace(row, trend=trend) for row in engine.tables["queues"].values()))
    app = console(location=":queues", lean=True)
    async with app.run_test(size=(150, 36)):
        await shows(app, "demo")
        assert set(asked) == {LEAN_MS}
        assert app.animation_level == "none"
        assert "last hour" not in text_of(app)
        assert "█" not in text_of(app)
        asked.clear()
        await press(app, "f9")
        await shows(app, "bandwidth full", "last hour", "█")
        await wait_until(lambda: set(asked) == {0})
        asked.clear()
        await press(app, "f9")
        await shows(app, "bandwidth small")
        await wait_until(lambda: set(asked) == {LEAN_MS} and "last hour" not in text_of(app))


async def test_a_prompt_is_answered_while_a_page_is_put_up(console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "demo")
        await press(app, "colon")
        await wait_until(lambda: app.shell.prompted)
        stands, app.shell.page = app.shell.page, page_for(Place(":batches/b-1"), locate(":batches/b-1"))
        await press(app, *"tasks", "escape")
        await wait_until(lambda: not app.shell.prompted)
        await pilot.pause()
        app.shell.page = stands
        stands.begin()
        await press(app, "2")
        await shows(app, ":tasks", "t-10001")


async def test_a_screen_that_was_written_on_is_drawn_again(console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "demo", "served by", "waiting, and how fast")
        before = text_of(app)
        await press(app, "ctrl+l")
        await wait_until(lambda: text_of(app).splitlines()[1:] == before.splitlines()[1:])


@pytest.mark.parametrize("asked", ["console", "engine"])
async def test_read_only_sends_nothing_whatever_is_pressed(engine: ConsoleEngine, console: Any, asked: str) -> None:
    """Every key that changes something, on every screen: refused in words, and nothing of it reaches the engine."""
    engine.read_only = asked == "engine"
    app = console(location=":tasks", read_only=asked == "console")
    async with app.run_test(size=(120, 36)):
        for screen in ("tasks", "queues", "pools", "models", "adapters", "instances", "workers", "approvals", "engine"):
            await app.go(f":{screen}")
            assert app.page.location.table == screen
            await shows(app, f":{screen}", "read-only")
            if screen != "engine":
                await wait_until(lambda: app.page.row is not None)
            engine.requests.clear()
            changing = [action for action in ACTIONS if action.changes and action.on(app.page.table)]
            for action in changing:
                if action.id in app.page.lacks:
                    continue
                await press(app, action.keys.split(",")[0])
                await shows(app, "read-only; nothing was changed")
                assert len(app.screen_stack) == 1
            assert not [each for each in engine.requests if type(each).effect is not Effect.read], screen


def test_only_the_part_of_a_line_that_changed_is_painted() -> None:
    was = ((" run ", "dim"), ("14", "text"), ("  wait ", "dim"), ("3", "text"), ("   live", "mode"))
    now = ((" run ", "dim"), ("15", "text"), ("  wait ", "dim"), ("3", "text"), ("   live", "mode"))
    assert changed_part(was, now) == (5, 2)
    assert changed_part(was, (*was[:3], ("4", "alert"), was[4])) == (14, 1)
    assert changed_part(was, (*was[:3], ("400", "text"), was[4])) == (14, 10), "what stands behind it moved"
    assert changed_part((*was[:3], ("400", "text"), was[4]), was) == (14, 10), "what was longer is painted over"
    assert changed_part((), was) == (0, 22)
    assert changed_part(was, ()) == (0, 22)
    assert changed_part((("漢字", "text"), ("a", "dim")), (("漢字", "text"), ("b", "dim"))) == (4, 1)


async def test_a_line_painted_in_parts_is_the_line_painted_whole(console: Any) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "demo")
        line, block = TextLine(), TextBlock()
        await app.screen.mount(line, block)
        texts = ["short", "a longer text than that", "a longer text", "漢字かな", "", "x" * 200, "end"]
        for text in texts:
            shown = ((" ", ""), (text[:1], "key"), (text[1:], "text"))
            line.show(shown, (("right", "dim"),))
            block.show([shown, (("second", "dim"),)])
            await pilot.pause()
            painted = [each.text for each in app.screen._compositor.render_strips()]
            whole = [line.render_line(0).text, block.render_line(0).text, block.render_line(1).text]
            for widget, expected in zip((line, block), (whole[:1], whole[1:]), strict=True):
                for y, text_of_line in enumerate(expected[: widget.region.height]):
                    assert painted[widget.region.y + y][: len(text_of_line)] == text_of_line


async def test_own_keys_stand_in_sentences_too(engine: ConsoleEngine) -> None:
    engine.tables["tasks"].clear()
    kind = console_class(ConsoleApp, keyed({"submit": "f5", "approve": "f6", "undo": "f7"}))
    app: Any = kind(engine.connect, location=":tasks", clock=engine.now)
    async with app.run_test(size=(120, 50)):
        # What an empty table says, what the strip says, and how long the last action can be taken back.
        await shows(app, "f5 submits one")
        engine.put("approvals", approval_row())
        await press(app, "0")
        await shows(app, "f6 approve: it is made once, now   B refuse, with a reason")
        app.last_action.remember("op-1", None, (("done", "text"),))
        app.say((("done", "text"),))
        await shows(app, "done   f7 takes it back")
