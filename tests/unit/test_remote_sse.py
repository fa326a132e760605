"""Server-sent events: as the standard says, in whatever pieces they come."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.inference.remote.sse import MAX_EVENT_BYTES, Event, SseReader, TooLong


def _all(stream: bytes) -> list[Event]:
    return SseReader().feed(stream)


def _in_pieces(stream: bytes, cuts: list[int]) -> list[Event]:
    reader, found, start = SseReader(), list[Event](), 0
    for cut in sorted(min(cut, len(stream)) for cut in cuts):
        found += reader.feed(stream[start:cut])
        start = cut
    return found + reader.feed(stream[start:])


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [Event("message", "a")]),
        (
            b"data:a\r\n\r\ndata: b\r\rdata:  c\n\n",
            [Event("message", "a"), Event("message", "b"), Event("message", " c")],
        ),
        (b"event: ping\ndata: {}\n\n", [Event("ping", "{}")]),
        (b"data: one\ndata: two\n\n", [Event("message", "one\ntwo")]),
        (b"data\n\n", [Event("message", "")]),
        (b": a comment\nid: 7\nretry: 10\n\ndata: x\n\n", [Event("message", "x")]),
        (b"event: lonely\n\ndata: x\n\n", [Event("message", "x")]),
        (b"\xef\xbb\xbfdata: bom\n\n", [Event("message", "bom")]),
        (b"data: not whole\n", []),
        (b"data: \xff\xc3\xa4\n\n", [Event("message", "\ufffd\u00e4")]),
        (b"datax: no\ndata : no\n\n", []),
    ],
)
def test_the_standards_words(stream: bytes, events: list[Event]) -> None:
    assert _all(stream) == events
    assert _in_pieces(stream, list(range(len(stream)))) == events


_LINES = st.sampled_from(
    [
        b"data: x",
        b"data:",
        b"data: \xc3\xa4\xe2\x82\xac",
        b"data: \xff",
        b"event: e",
        b"",
        b"",
        b": c",
        b"\xef\xbb\xbfdata: b",
    ]
)
_STREAMS = st.lists(st.tuples(_LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=30).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(_STREAMS | st.binary(max_size=200), st.lists(st.integers(0, 400), max_size=40))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [8, 9, 10])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
def test_any_pieces_give_the_same_events(stream: bytes, cuts: list[int]) -> None:
    assert _in_pieces(stream, cuts) == _all(stream)


@pytest.mark.parametrize("piece", [b"x" * 1000, b"data:" * 100 + b"\n"], ids=["one line", "many lines"])
def test_no_event_grows_without_bound(piece: bytes) -> None:
    reader = SseReader()

    def without_end() -> None:
        for _ in range(MAX_EVENT_BYTES // (len(piece) - 1) + 2):
            reader.feed(piece)

    with pytest.raises(TooLong):
        without_end()
