"""Readers of both protocols on whatever a server may send: they understand it or name what is wrong, and nothing else happens."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inference.remote.answer import MAX_CALLS, MAX_TEXT, Guard, Malformed, ServerError
from engine.inference.remote.anthropic import Anthropic
from engine.inference.remote.health import Health, RemoteState
from engine.inference.remote.openai import OpenAI, is_strict
from engine.inference.remote.refusals import Server, clean, failed, refused, retry_after_ms
from engine.inference.remote.sse import Event, SseReader
from engine.ports import GenerateRequest, Message
from engine.secret import Secret
from tests.support import loopback

REQUEST = GenerateRequest(messages=(Message(role="user", content="hello"),), schema={"type": "string"})
SERVER = Server("far", "example.com", "mine")

_NAMES = st.sampled_from(
    [
        "content",
        "tool_calls",
        "function",
        "arguments",
        "index",
        "id",
        "name",
        "type",
        "text",
        "partial_json",
        "input_tokens",
    ]
)
_KINDS = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "error",
        "ping",
        "tool_use",
        "text",
    ]
)
_LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5) | _KINDS
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4), max_leaves=12
)


_FIELDS = st.dictionaries(_NAMES, _VALUES, max_size=4)
_DOCUMENTS = st.one_of(
    _VALUES,
    st.fixed_dictionaries({}, optional={"choices": _VALUES, "usage": _FIELDS, "error": _VALUES}),
    st.builds(lambda delta, end: {"choices": [{"delta": delta, "finish_reason": end}]}, _FIELDS, _LEAVES),
    st.builds(lambda call: {"choices": [{"delta": {"tool_calls": [call]}}]}, _FIELDS),
    st.builds(lambda calls: {"choices": [{"delta": {"tool_calls": calls}}]}, _VALUES),
    st.builds(
        lambda kind, index, part: {"type": kind, "index": index, "content_block": part, "delta": part, "message": part},
        _KINDS,
        st.integers(0, 2),
        _FIELDS,
    ),
)


def _reader(protocol: str) -> Any:
    dialect = OpenAI("http://x") if protocol == "openai" else Anthropic("http://x")
    return dialect.reader(REQUEST, None)


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
@given(st.lists(st.tuples(_KINDS, _DOCUMENTS), max_size=6))
def test_anything_is_read_or_named(protocol: str, documents: list[tuple[str, Any]]) -> None:
    reader = _reader(protocol)
    try:
        for kind, document in documents:
            told = reader.read(Event(kind, json.dumps(document)))
            assert isinstance(told, str)
        assert isinstance(reader.finish(), str)
    except (Malformed, ServerError):
        pass  # named; nothing else may come out
    for call in reader.answer.tool_calls():
        assert isinstance(call.arguments, dict)


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
@given(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.lists(
        st.tuples(st.text("abc", min_size=1), st.text("xyz", min_size=1), st.dictionaries(st.text(), _VALUES)),
        max_size=3,
    ),
    st.integers(1, 10**6),
    st.integers(0, 10**6),
)
def test_what_is_said_is_heard(
    protocol: str, say: str, calls: list[tuple[str, str, dict[str, Any]]], read: int, written: int
) -> None:
    play = loopback.Play(
        say=say,
        calls=tuple(
            (id_, name, json.dumps(arguments, allow_nan=False, default=str)) for id_, name, arguments in _plain(calls)
        ),
        usage=(read, written, 0),
    )
    reader = _reader(protocol)
    stream = b"".join(loopback.openai(play) if protocol == "openai" else loopback.anthropic(play))
    text = "".join([reader.read(event) for event in SseReader().feed(stream)]) + reader.finish()
    answer = reader.answer
    assert text == answer.text == say
    assert (answer.usage.tokens_in, answer.ended) == (read, True)
    assert answer.usage.tokens_out == (written if protocol == "openai" else max(1, written))
    made = [(call.id, call.name, call.arguments) for call in answer.tool_calls()]
    assert made == [(id_, name, arguments) for id_, name, arguments in _plain(calls)]
    assert answer.reason == ("tool_calls" if calls else "stop")


def _plain(calls: list[tuple[str, str, dict[str, Any]]]) -> list[tuple[str, str, dict[str, Any]]]:
    """The calls with arguments that JSON has words for."""
    return [(id_, name, {key: str(value) for key, value in given.items()}) for id_, name, given in calls]


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
def test_an_answer_without_end_is_ended(protocol: str) -> None:
    reader, piece = _reader(protocol), "x" * 2**20
    document: dict[str, Any] = {"choices": [{"delta": {"content": piece}}]}
    if protocol == "anthropic":
        reader.read(
            Event(
                "content_block_start", '{"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}'
            )
        )
        document = {"type": "content_block_delta", "index": 0, "delta": {"text": piece}}
    event = Event("message", json.dumps(document))
    for _ in range(MAX_TEXT // 2**20):
        reader.read(event)
    with pytest.raises(Malformed, match="characters"):
        reader.read(event)


def test_calls_without_end_are_ended() -> None:
    reader = _reader("openai")
    calls = [{"index": number, "id": "c", "function": {"name": "f"}} for number in range(MAX_CALLS + 1)]
    with pytest.raises(Malformed, match="tool calls"):
        reader.read(Event("message", json.dumps({"choices": [{"delta": {"tool_calls": calls}}]})))


def test_calls_without_places_and_names_said_twice() -> None:
    """As some compatible servers stream them."""
    reader = _reader("openai")
    for call in (
        {"id": "a", "function": {"name": "f", "arguments": '{"x"'}},
        {"function": {"name": "f", "arguments": ": 1}"}},
        {"id": "b", "function": {"name": "g", "arguments": "{}"}},
    ):
        reader.read(Event("message", json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]})))
    reader.read(Event("message", '{"choices": [{"delta": {}, "finish_reason": "stop"}]}'))
    reader.finish()
    first, second = reader.answer.tool_calls()
    assert (first.id, first.name, first.arguments) == ("a", "f", {"x": 1})
    assert (second.id, second.name) == ("b", "g")
    assert reader.answer.reason == "tool_calls"


@given(st.integers(200, 599), st.binary(max_size=300), st.sampled_from([None, "", "sk-1234567890"]))
def test_any_refusal_is_an_error_in_one_line(status: int, body: bytes, key: str | None) -> None:
    secret = None if not key else Secret(key)
    error = refused(SERVER, status, body + (key or "").encode(), 5, secret)
    assert error.info.message.isprintable()
    assert len(error.info.message) < 400
    assert not key or key not in error.info.message


@given(_VALUES)
def test_any_error_object_is_an_error(document: Any) -> None:
    assert failed(SERVER, document).code in ("remote_failed", "remote_overloaded", "prompt_too_long")


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), st.text(max_size=40)))
def test_any_wait_is_bounded(headers: dict[str, str]) -> None:
    wait = retry_after_ms(headers, 1_700_000_000_000, 60_000)
    assert wait is None or 0 <= wait <= 60_000


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("3", 3_000),
        ("1.5", 1_500),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30_000),
        ("Tue, 14 Nov 2023 22:13:10 GMT", None),
        ("-3", None),
        ("1e999", 60_000),
        ("nan", None),
    ],
)
def test_waits(text: str, wait: int | None) -> None:
    assert retry_after_ms({"retry-after": text}, 1_700_000_000_000, 60_000) == wait


def test_words_are_cut() -> None:
    assert clean("a\x00\x1b[1mb\n c" + "d" * 500) == "a [1mb c" + "d" * 292 + "…"


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "string"}, True),
        ({"type": "object", "properties": {}, "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, False),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
        ({"type": "array", "items": {"type": "object"}}, False),
        ({"anyOf": [{"type": "object"}, {"type": "string"}]}, False),
        ({"$defs": {"x": {"type": "object"}}, "type": "string"}, False),
    ],
)
def test_strict_schemas(schema: dict[str, Any], strict: bool) -> None:
    assert is_strict(schema) is strict


@given(st.lists(st.text("ab-k", max_size=6), max_size=12), st.sampled_from(["k-ab", "aab", "abab-ab", "kk"]))
def test_a_key_that_comes_back_is_taken_out_of_any_pieces(pieces: list[str], key: str) -> None:
    guard = Guard(Secret(key))
    said = "".join([guard.push(piece) for piece in pieces]) + guard.rest()
    assert said == "".join(pieces).replace(key, "[key]")


# -- health --------------------------------------------------------------------------------------------------------------------


def test_rests_grow_and_end() -> None:
    health, now = Health(100, 500), 0
    rests = []
    for _ in range(5):
        health.unreachable(now)
        rests.append(health.resting(now))
        assert health.total(now, 4) == 0
        now = health.until
        assert health.total(now, 4) == 1
    assert rests == [100, 200, 400, 500, 500]
    health.answered(now)
    assert (health.state, health.total(now, 4), health.total(now, None)) == (RemoteState.ready, 4, None)
    health.overloaded(now, None)
    assert health.resting(now) == 100


def test_a_crowd_is_one_trouble() -> None:
    health = Health(100, 500)
    for _ in range(10):
        health.overloaded(0, None)
    assert health.resting(0) == 100
    health.overloaded(50, 2_000)
    assert health.resting(50) == 2_000
    health.answered(60)
    assert health.state is RemoteState.limited, "it began before the trouble"


@given(st.lists(st.tuples(st.sampled_from("aoub"), st.integers(0, 400), st.none() | st.integers(0, 900)), max_size=40))
def test_health_is_never_stuck(story: list[tuple[str, int, int | None]]) -> None:
    health, now = Health(100, 500), 0
    for what, later, wait in story:
        now += later
        if what == "a":
            health.answered(now)
        elif what == "o":
            health.overloaded(now, wait)
        elif what == "u":
            health.unreachable(now)
        else:
            health.broke(now, wait)
        assert 0 <= health.resting(now) <= 900
        assert (health.total(now, 4) == 4) == (health.state is RemoteState.ready and not health.resting(now))
    now = max(now, health.until)
    assert health.total(now, 4) in (1, 4)
    health.answered(now)
    assert health.total(now, 4) == 4


def test_answers_are_decodable_json() -> None:
    """The loopback server's own events are what msgspec reads."""
    for event in SseReader().feed(b"".join(loopback.anthropic(loopback.Play()))):
        msgspec.json.decode(event.data)
