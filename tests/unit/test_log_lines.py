"""The lines of a log as data: what comes at both ends, what is looked for, what is shown; and the search that a location holds."""

from __future__ import annotations

import pytest

from aiwm_tui.live.log_lines import LONGEST, LogLines, kept
from aiwm_tui.live.log_search import Search, search_of, searched, turned, with_faults
from aiwm_tui.live.text import Line
from engine.contract.errors import AiwmError
from engine.contract.query import parse


def _all(lines: LogLines) -> list[str]:
    """What is shown; a gap with the number of lines that it leaves out."""
    out = []
    for index in range(len(lines)):
        number = lines.at(index)
        out.append(f"~{lines.gap(index)}" if number < 0 else "rule" if lines.own(number) else lines.text(number))
    return out


def test_a_line_goes_on_until_its_end() -> None:
    lines = LogLines()
    for piece in ("one\ntw", "o", "\nthr", "ee\n", "", "four"):
        lines.append(piece, 7)
    assert _all(lines) == ["one", "two", "three", "four"]
    assert lines.time(lines.at(1)) == 7
    lines.append(" and\nfive\n", 9)
    assert _all(lines)[3:] == ["four and", "five"]
    assert [lines.time(lines.at(place)) for place in (3, 4)] == [7, 9], "a line came when it began"


def test_what_was_written_over_and_colours_are_gone_and_long_lines_end() -> None:
    assert kept(" 10 %\r 20 %\r100 %\r") == "100 %"
    assert kept("\x1b[1;31mred\x1b[0m and \x1b[K\x1b[2Jthe rest") == "red and \x1b[2Jthe rest"
    assert kept("y" * (LONGEST + 5)).endswith(" … 5 more characters")
    lines = LogLines()
    for share in range(1_000):
        lines.append(f"\r{share} of 1000")
    assert _all(lines) == ["999 of 1000"]
    lines.append("\rdone\n")
    assert _all(lines) == ["done"]


def test_older_lines_come_before_and_numbers_stay() -> None:
    lines = LogLines()
    lines.append("c\nd\n")
    number = lines.at(0)
    lines.rule((("over", "rule"),), above=True)
    lines.prepend("a\nb\n", 5)
    assert _all(lines) == ["a", "b", "rule", "c", "d"]
    assert lines.text(number) == "c"
    assert lines.time(lines.at(1)) == 5
    lines.reword(number - 1, (("else", "rule"),))
    assert lines.own(number - 1) == (("else", "rule"),)


def test_the_oldest_lines_go_when_there_are_too_many() -> None:
    lines = LogLines(limit=2_000)
    lines.look_for(Search(("5 of",), context=0))
    for block in range(40):
        lines.append("".join(f"{block} {row} of it\n" for row in range(200)))
    assert 2_000 <= lines.end - lines.first < 3_000
    assert lines.text(lines.end - 1) == "39 199 of it"
    assert all("5 of" in lines.text(number) for number in lines.hits)
    assert lines.hits[0] >= lines.first
    assert len(lines) == len(lines.hits) * 2 - 1 or lines.at(0) < 0, "matches, and gaps between them"
    full = LogLines(limit=3)
    full.append("x\ny\n")
    full.prepend("1\n2\n3\n")
    assert _all(full) == ["3", "x", "y"]
    assert full.full


@pytest.mark.parametrize(
    ("context", "shown"),
    [
        (None, ["n0", "n1", "hit A", "n3", "n4", "n5", "n6", "n7", "hit B", "hit C"]),
        (0, ["hit A", "~5", "hit B", "hit C"]),
        (1, ["n1", "hit A", "n3", "~3", "n7", "hit B", "hit C"]),
        (3, ["n0", "n1", "hit A", "n3", "n4", "n5", "n6", "n7", "hit B", "hit C"]),
    ],
)
def test_lines_around_matches_stay(context: int | None, shown: list[str]) -> None:
    text = "n0\nn1\nhit A\nn3\nn4\nn5\nn6\nn7\nhit B\nhit C\n"
    search = Search(("hit",), context=context)
    at_once, bit_by_bit = LogLines(), LogLines()
    at_once.append(text)
    at_once.look_for(search)
    bit_by_bit.look_for(search)
    for character in text:
        bit_by_bit.append(character)
    assert _all(at_once) == _all(bit_by_bit) == shown
    assert at_once.hits == bit_by_bit.hits
    assert [at_once.at(at_once.index(number)) for number in at_once.hits] == at_once.hits


def test_an_end_of_a_life_is_shown_where_something_was_found_in_it() -> None:
    lines = LogLines()
    over: Line = (("over", "rule"),)
    lines.look_for(Search(("hit",), context=0))
    for life in ("a\n", "hit\nb\n", "c\n"):
        lines.append(life)
        lines.rule(over)
    assert _all(lines) == ["hit", "~1", "rule"]


def test_matches_are_stepped_through_and_round() -> None:
    lines = LogLines()
    lines.append("x\nhit\nx\nhit\nx\n")
    lines.look_for(Search(("hit",)))
    first, second = lines.hits
    assert lines.next_hit(lines.first, 1) == (first, False)
    assert lines.next_hit(first, 1) == (second, False)
    assert lines.next_hit(second, 1) == (first, True)
    assert lines.next_hit(first, -1) == (second, True)
    assert lines.next_hit(lines.end, -1) == (second, False)
    lines.until = second
    lines.append("y\n")
    assert (len(lines), lines.waiting) == (3, 3)
    assert lines.next_hit(first, 1) == (first, True), "what is held back is not gone to"


def test_marks_are_where_the_words_are() -> None:
    assert Search(("CUDA".lower(), "err")).marks("cuda Error: CUDA err") == [(0, 4), (5, 8), (12, 16), (17, 20)]
    assert Search(faults=True).marks("RuntimeError: it was killed") == [(0, 12), (21, 27)]
    assert not Search(("a",), ("b",)).matches("a and b")
    assert Search((), ("b",)).looks


def test_a_search_is_the_filter_of_the_location_and_colons_are_no_fields() -> None:
    location = searched(parse(":logs/nano.0"), 'CUDA error:2 !warm -C 3 "a b" is:fault')
    assert str(location) == ':logs/nano.0 CUDA "error:2" !warm around:3 "a b" is:fault'
    assert search_of(parse(str(location))) == Search(("cuda", "error:2", "a b"), ("warm",), True, 3)
    assert search_of(turned(location, 1)).context is None
    assert search_of(turned(turned(location, 1), 1)).context == 1
    assert search_of(with_faults(parse(":logs/x a"), 2)) == Search(("a",), (), True, 2)
    assert not search_of(with_faults(with_faults(parse(":logs/x a"), 2), 2)).faults
    assert searched(parse(":logs/x"), "-C").terms[0].values == ("-C",), "without a number it is a word"
    with pytest.raises(AiwmError, match="from 0 to 20"):
        searched(parse(":logs/x"), "a -C 21")
