"""What is told to somebody who looks elsewhere: once of a kind, together, not too often; and as what the terminal is told."""

from __future__ import annotations

from typing import Any

import pytest

from aiwm_tui.live.attention import REPEAT_MS, TOGETHER_MS, Notices
from aiwm_tui.notifying import sequence
from engine.contract.records import EventRow


def _event(number: int, **changes: Any) -> EventRow:
    values: dict[str, Any] = {
        "id": str(number),
        "at_ms": 0,
        "level": "error",
        "type": "model.crashed",
        "who": "engine",
        "about": f"nano.{number}",
        "text": "it ended",
    }
    return EventRow(**(values | changes))


def test_the_first_of_a_kind_is_told_and_what_comes_with_it() -> None:
    notices = Notices(6)
    assert notices.due(0) is None
    notices.note(_event(1), 1_000)
    assert notices.due(1_000) == TOGETHER_MS
    assert notices.take(1_500) is None
    notices.note(_event(1), 1_600)
    told = notices.take(1_000 + TOGETHER_MS)
    assert told is not None
    assert (told.count, told.title, told.lines) == (2, "2 things need you", ("nano.1: it ended", "and 1 more: 9"))
    assert notices.take(9_000) is None, "it is told once"
    notices.note(_event(1), 20_000)
    assert notices.due(20_000) is None, "nor is the same again, for a while"
    notices.note(_event(2, level="ask", about="ap-1", text="unload?"), 21_000)
    told = notices.take(22_000)
    assert told is not None
    assert (told.level, told.count, told.lines[0]) == ("ask", 2, "ap-1: unload?")
    notices.note(_event(1), 20_000 + REPEAT_MS)
    told = notices.take(20_000 + REPEAT_MS + TOGETHER_MS)
    assert told is not None
    assert told.short == "nano.1: it ended"


def test_tasks_that_fail_alike_are_one_kind() -> None:
    notices = Notices(6)
    for number in range(31):
        notices.note(
            _event(number, type="task.failed", about=f"t-{number}", task=f"t-{number}", text="no JSON"), number
        )
    told = notices.take(5_000)
    assert told is not None
    assert (told.count, told.lines) == (31, ("t-0: no JSON", "and 30 more: 9"))


def test_no_more_than_a_few_a_minute_and_the_rest_is_counted() -> None:
    notices = Notices(2)
    told = 0
    for second in range(60):
        notices.note(_event(second), second * 1_000)
        told += notices.take(second * 1_000) is not None
    assert told == 2
    wait = notices.due(60_000)
    assert wait is not None
    later = notices.take(60_000 + wait)
    assert later is not None
    assert later.count > 50
    assert len(later.lines) == 4


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "a\x9cb\x9d", "\u202eevil", "x\n\x00y", "漢字" * 400])
def test_what_the_terminal_is_told_cannot_end_early(text: str) -> None:
    plain = sequence(f"aiwm vm: {text}", inside_tmux=False)
    body = plain.removeprefix("\x1b]9;").removesuffix("\x07")
    assert plain == f"\x1b]9;{body}\x07"
    assert body.isprintable()
    assert len(body) <= 200
    assert sequence("a", inside_tmux=True) == "\x1bPtmux;\x1b\x1b]9;a\x07\x1b\\"


def test_what_is_told_is_harmless() -> None:
    notices = Notices(6)
    notices.note(_event(1, about="[red]\x1b[2J", text="one\ntwo\u202e"), 0)
    told = notices.take(TOGETHER_MS)
    assert told is not None
    assert (told.title, told.lines) == ("[red]␛[2J", ("one two",))
