"""Line framing: whatever the chunks, the lines come out whole, and no line costs more than the limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.wire.framing import OVERLONG, LineFramer, Overlong


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(
    st.lists(st.binary(min_size=1, max_size=40).map(lambda b: b.replace(b"\n", b"x"))), st.lists(st.integers(0, 400))
)
def test_lines_come_out_whole_however_they_were_cut(lines: list[bytes], cuts: list[int]) -> None:
    framer = LineFramer()
    data = b"".join(line + b"\n" for line in lines)
    out = [line for chunk in _cut(data, cuts) for line in framer.feed(chunk)]
    assert out == [line for line in lines if line.strip()]
    assert not framer.partial


@given(st.lists(st.integers(0, 300), max_size=8))
def test_an_overlong_line_is_reported_once_and_its_neighbours_survive(cuts: list[int]) -> None:
    framer = LineFramer(limit=100)
    data = b"before\n" + b"x" * 250 + b"\nafter\n"
    out: list[bytes | Overlong] = [line for chunk in _cut(data, cuts) for line in framer.feed(chunk)]
    assert out == [b"before", OVERLONG, b"after"]


def test_a_hundred_megabytes_without_a_newline_are_not_kept() -> None:
    framer = LineFramer()
    chunk = b"x" * 2**20
    for _ in range(100):
        assert list(framer.feed(chunk)) == []
    assert sum(len(part) for part in framer._parts) <= 16 * 2**20
    assert list(framer.feed(b"\n")) == [OVERLONG]


def test_half_a_line_is_partial() -> None:
    framer = LineFramer()
    assert list(framer.feed(b'{"a"')) == []
    assert framer.partial
