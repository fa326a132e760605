"""Untrusted text becomes harmless, keeps its width, and wraps the same whether it comes at once or in pieces."""

from __future__ import annotations

import random
import time

import pytest
from rich.cells import cell_len

from aiwm_tui.live.text import Wrapped, clean, clean_lines, cut, cut_line, fit, width, wrap
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.wording import gates
from engine.contract.why import Gate, Why

HOSTILE = [
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "[bold]not markup[/bold] [/",
    "nul\x00 bell\x07 del\x7f c1\x9b31m",
    "right \u202eto left\u202c \u2066isolated\u2069",
    "combining e\u0301 a\u0308\u0323",
    "wide 漢字 and 👩‍👩‍👧 family",
    "lone \udcff surrogate",
    "line\u2028separator\x85next",
    "שלום hello",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_clean_text_has_no_controls_and_is_as_wide_as_it_is_counted(text: str) -> None:
    harmless = clean(text)
    assert not any(ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0 for each in harmless)
    assert not any(0xD800 <= ord(each) < 0xE000 for each in harmless)
    assert not any(each in harmless for each in "\u202e\u202d\u2066\u2067\u2068\u2069\u200d\u200f\ufeff\u2028")
    assert width(harmless) == sum(cell_len(each) for each in harmless)
    harmless.encode()


def test_what_is_shown_instead_can_be_read() -> None:
    assert clean("a\x1b[1mb\x00") == "a␛[1mb␀"
    assert clean("a\tb\nc") == "a b c"
    assert clean("[bold]x[/]") == "[bold]x[/]"
    assert clean("\u0301x") == " \u0301x"


def test_lines_keep_their_ends() -> None:
    assert clean_lines("a\r\nb\rc\n\td") == ["a", "b", "c", "    d"]


def test_cut_and_fit_count_cells() -> None:
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcd", 4) == "abcd"
    assert cut("漢字漢字", 5) == "漢字…"
    assert width(fit("漢字漢字", 6)) == 6
    assert fit("7", 4, right=True) == "   7"
    assert cut("abc", 0) == ""
    assert cut_line((("abc", "x"), ("def", "y")), 4) == (("abc", "x"), ("…", "y"))


def test_wrap_breaks_after_spaces_and_within_long_words() -> None:
    assert wrap("the quick brown fox", 10) == ["the quick ", "brown fox"]
    assert wrap("abcdefghij", 4) == ["abcd", "efgh", "ij"]
    assert wrap("", 4) == [""]
    assert all(width(line) <= 5 for line in wrap("漢字" * 9, 5))


@pytest.mark.parametrize("seed", range(20))
def test_text_in_pieces_wraps_as_text_at_once(seed: int) -> None:
    chance = random.Random(seed)
    text = "".join(
        chance.choice(["word ", "a", " ", "\n", "漢", "\r\n", "\x1b[1m", "longlonglong", "é"]) for _ in range(400)
    )
    whole, pieces = Wrapped(17), Wrapped(17)
    whole.add(text)
    at = 0
    while at < len(text):
        step = chance.randint(1, 9)
        pieces.add(text[at : at + step])
        at += step
    assert pieces.lines == whole.lines
    assert all(width(line) <= 17 + 1 for line in whole.lines)


def test_a_line_of_a_megabyte_is_wrapped_and_added_to_quickly() -> None:
    started = time.process_time()
    wrapped = Wrapped(100)
    wrapped.add("x" * 1_000_000)
    for _ in range(2_000):
        wrapped.add("some more")
    wrapped.add("漢" * 200_000)
    assert len(wrapped.lines) > 10_000
    assert time.process_time() - started < 3.0


def test_only_the_end_changes_when_text_is_added() -> None:
    wrapped = Wrapped(10)
    assert wrapped.add("one two three four") == 0
    before = list(wrapped.lines)
    first = wrapped.add(" five\nsix")
    assert wrapped.lines[:first] == before[:first]
    assert first == len(before) - 1


def test_a_gates_long_reason_goes_on_below_itself() -> None:
    reason = "paused by ana: " + "the disk of the archive is being replaced, " * 4
    why = Why(
        scope="queue",
        about="etl",
        moving=False,
        summary="nothing moves",
        gates=(Gate(name="paused", closed=True, count=12, why=reason, fix="aiwm queue resume etl"),),
    )
    lines = ["".join(text for text, _ in line) for line in gates(why, 0)]
    at = lines[1].index("why")
    assert lines[2].index("aiwm queue resume etl") == lines[1].index("what opens it")
    assert " ".join(line[at : at + 44].strip() for line in lines[2:]) == reason.strip()
    assert all(len(line) < 130 for line in lines)


def test_a_table_of_gates_that_does_not_fit_is_said_in_sentences() -> None:
    closed = [
        Gate(name="model", closed=True, count=2, since_ms=1_000, why="model a is not ready", opens="in a while"),
        Gate(name="paused", closed=True, count=12, why="paused by ana", fix="aiwm queue resume etl"),
    ]
    why = Why(scope="queue", about="etl", moving=False, summary="nothing moves", gates=tuple(closed))

    def told(cells: int) -> list[str]:
        return ["".join(text for text, _ in part) for line in gates(why, 0) for part in wrapped(line, cells)]

    assert "what opens it" in told(120)[1]
    assert len(told(120)) == 4
    narrow = told(50)
    assert all(width(line) <= 50 for line in narrow)
    assert not any("what opens it" in line for line in narrow)
    assert narrow[1].startswith(" ✗ model · 2 since ")
    assert " ".join(line.strip() for line in narrow).endswith("✗ paused · 12: paused by ana → aiwm queue resume etl")
