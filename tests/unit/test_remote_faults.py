"""Faults of remote servers: refusals, broken and slow answers, nobody there, and how the model rests and is tried again."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from engine.contract.definitions import Backend
from tests.support.loopback import Loopback, Play, loopback
from tests.support.remote import BOTH_PROTOCOLS, KEY, Far
from tests.support.waiting import until


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as running:
        yield running


# -- refusals ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "body", "code", "retryable", "wait_ms"),
    [
        (
            429,
            {"retry-after": "7"},
            {"type": "rate_limit_error", "message": "slow down"},
            "remote_overloaded",
            True,
            7000,
        ),
        (429, {"retry-after-ms": "250"}, {"message": "slow down"}, "remote_overloaded", True, 250),
        (429, {"retry-after": "99999"}, {"message": "slow down"}, "remote_overloaded", True, 60_000),
        (429, {"retry-after": "soon"}, {"message": "slow down"}, "remote_overloaded", True, None),
        (429, {}, {"code": "insufficient_quota", "message": "pay"}, "remote_failed", False, None),
        (529, {}, {"type": "overloaded_error", "message": "Overloaded"}, "remote_overloaded", True, None),
        (503, {"retry-after": "1"}, {"message": "no slot"}, "remote_overloaded", True, 1000),
        (500, {}, {"message": "oh"}, "remote_failed", True, None),
        (401, {}, {"message": "who are you?"}, "remote_failed", False, None),
        (404, {}, {"message": "no such model"}, "remote_failed", False, None),
        (400, {}, {"message": "temperature?"}, "remote_failed", False, None),
        (400, {}, {"code": "context_length_exceeded", "message": "too much"}, "prompt_too_long", False, None),
        (
            400,
            {},
            {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"},
            "prompt_too_long",
            False,
            None,
        ),
        (413, {}, {"type": "request_too_large", "message": "x"}, "prompt_too_long", False, None),
    ],
)
async def test_a_refusal_is_understood(
    server: Loopback,
    status: int,
    headers: dict[str, str],
    body: dict[str, str],
    code: str,
    retryable: bool,
    wait_ms: int | None,
) -> None:
    server.plays.append(Play(status=status, headers=headers, body=json.dumps({"error": body}).encode()))
    error = await Far(server, key="mine").trouble()
    assert (error.code, error.info.retryable, error.info.retry_after_ms) == (code, retryable, wait_ms)
    assert body["message"] in error.info.message
    assert str(status) in error.info.message
    assert error.spent == (0, 0)


async def test_what_a_server_says_is_data(server: Loopback) -> None:
    """Its words are cut and cleaned, and a key that it sends back is not shown."""
    words = f"\x1b[31mred\x00\n{KEY} [b]bold[/b] " + "long " * 400
    for body in (json.dumps({"error": {"message": words}}).encode(), words.encode(), f'"{KEY}"'.encode() * 900):
        server.plays.append(Play(status=400, body=body))
        message = (await Far(server, key="mine").trouble()).info.message
        assert len(message) < 400
        assert message.isprintable()
        assert KEY not in message
        assert KEY[:12] not in message


async def test_redirects_are_not_followed(server: Loopback) -> None:
    server.plays.append(Play(status=307, headers={"location": "http://127.0.0.1:1/elsewhere"}))
    error = await Far(server, key="mine").trouble()
    assert error.code == "remote_failed"
    assert "127.0.0.1:1/elsewhere" in error.info.message
    assert "not followed" in error.info.message
    assert len(server.asked) == 1


@BOTH_PROTOCOLS
@pytest.mark.parametrize("cut", [0, 2])
async def test_a_cut_stream_is_worth_another_attempt(server: Loopback, backend: Backend, cut: int) -> None:
    server.plays.append(Play(cut=cut))
    far = Far(server, backend=backend)
    error = await far.trouble("x" * 40)
    assert (error.code, error.info.retryable) == ("remote_failed", True)
    assert error.spent is not None
    assert error.spent[0] > 0
    assert (await far.ask())[0] == "it is four"


@BOTH_PROTOCOLS
async def test_a_stream_that_ends_too_early(server: Loopback, backend: Backend) -> None:
    server.plays.append(
        Play(spoil=b"data: {}\n\n" if backend is Backend.openai else b"event: ping\ndata: {}\n\n", reason="-")
    )
    server.plays[0] = Play(body=b"data: {}\n\n")
    error = await Far(server, backend=backend).trouble()
    assert "ended before the answer did" in error.info.message


@BOTH_PROTOCOLS
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (b"data: {not json}\n\n", "no JSON"),
        (b"data: [1]\n\n", "no JSON object"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "no JSON"),
        (b"data: \xff\xfe\n\n", "no JSON"),
    ],
)
async def test_malformed_events_are_named(server: Loopback, backend: Backend, spoil: bytes, words: str) -> None:
    server.plays.append(Play(spoil=spoil))
    error = await Far(server, backend=backend).trouble()
    assert (error.code, error.info.retryable) == ("remote_failed", True)
    assert words in error.info.message


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (b'data: {"choices": 7}\n\n', "choices"),
        (b'data: {"choices": [{"delta": {"tool_calls": 7}}]}\n\n', "tool_calls"),
        (b'data: {"choices": [{"delta": {"content": 7}}]}\n\n', "content"),
        (b'data: {"choices": [{"delta": {"tool_calls": ["x"]}}]}\n\n', "tool_calls"),
        (b'data: {"error": {"message": "it broke", "type": "server_error"}}\n\n', "it broke"),
    ],
)
async def test_wrong_shapes_are_named(server: Loopback, spoil: bytes, words: str) -> None:
    server.plays.append(Play(spoil=spoil))
    error = await Far(server).trouble()
    assert error.code == "remote_failed"
    assert words in error.info.message


async def test_an_overload_in_the_midst_is_one(server: Loopback) -> None:
    spoil = b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}\n\n'
    server.plays.append(Play(spoil=spoil))
    error = await Far(server, backend=Backend.anthropic).trouble()
    assert (error.code, error.info.retryable) == ("remote_overloaded", True)


async def test_an_answer_of_another_kind(server: Loopback) -> None:
    server.plays.append(Play(kind="text/html", body=b"<html>log in</html>"))
    error = await Far(server).trouble()
    assert "text/html" in error.info.message
    server.plays.append(Play(headers={"content-encoding": "gzip"}))
    assert "compresses" in (await Far(server).trouble()).info.message


# -- time and giving up ----------------------------------------------------------------------------------------------------------


async def test_a_slow_first_byte(server: Loopback) -> None:
    server.plays.append(Play(hold=0))
    error = await Far(server, first_byte=0.1).trouble()
    assert (error.code, error.info.retryable) == ("remote_failed", True)
    assert "said nothing for 0.1 s" in error.info.message
    await until(lambda: server.left == 1)


async def test_a_pause_in_the_midst(server: Loopback) -> None:
    server.plays.append(Play(hold=3))
    error = await Far(server, idle=0.1).trouble()
    assert "said nothing for 0.1 s" in error.info.message
    await until(lambda: server.left == 1)


async def test_a_deadline_ends_a_call(server: Loopback) -> None:
    server.plays.append(Play(hold=3))
    text, outcome = await Far(server).ask(deadline_ms=300)
    assert outcome.reason == "deadline"
    assert "it is ".startswith(text)
    await until(lambda: server.left == 1)


@BOTH_PROTOCOLS
@pytest.mark.parametrize("hold", [0, 4])
async def test_cancel_closes_the_connection(server: Loopback, backend: Backend, hold: int) -> None:
    server.plays.append(Play(hold=hold))
    far = Far(server, backend=backend)
    generation = await far.start()
    await until(lambda: server.running == 1)
    if hold:
        async for _ in generation:
            break
    await generation.cancel()
    assert [delta async for delta in generation] == []
    assert generation.outcome.reason == "cancelled"
    assert (generation.outcome.tokens_in > 0) == bool(hold)
    await until(lambda: server.left == 1)
    assert far.model.rows()[0].running == 0


async def test_nobody_listens(server: Loopback) -> None:
    far = Far(server, url="http://127.0.0.1:1/v1")
    error = await far.trouble()
    assert (error.code, error.info.retryable) == ("model_unavailable", True)
    assert "127.0.0.1:1" in error.info.message
    assert far.model.rows()[0].state == "unreachable"
    await far.model.close()


async def test_an_address_that_names_no_host_can_be(server: Loopback) -> None:
    far = Far(server, url="http://ü..example/v1", backoff_ms=1)
    error = await far.trouble()
    assert (error.code, error.info.retryable) == ("model_unavailable", True)
    assert "hostname" in error.info.message
    assert "hostname" in await far.model._connection.reachable()
    await far.model.close()


def test_the_loop_does_not_wait_for_an_import(server: Loopback) -> None:
    program = f"""
import asyncio, builtins, threading
from engine.inference.remote.connection import Connection, Timeouts

importing, real = [], builtins.__import__

def watched(name, *rest):
    if name == "httpx" and "httpx" not in __import__("sys").modules:
        importing.append(threading.current_thread() is threading.main_thread())
    return real(name, *rest)

builtins.__import__ = watched
connection = Connection({server.url!r}, Timeouts(2.0, 2.0, 2.0))

async def look():
    said = await connection.reachable()
    await connection.close()
    return said

print([asyncio.run(look()), importing])
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "['', [False]]", done.stderr


async def test_certificates_that_cannot_be_read(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("httpx.create_ssl_context", missing)
    far = Far(server, url="https://127.0.0.1:1/v1")
    error = await far.trouble()
    assert error.code == "model_unavailable"
    assert "certificates cannot be read: No such file" in error.info.message
    assert "certificates" in await far.model._connection.reachable()
    await far.model.close()


async def test_a_server_that_comes_back_is_found_without_a_call() -> None:
    """No call pays for looking, and none is made: the server is only connected to."""
    gone = Loopback()
    with loopback() as other:
        gone.port = other.port
    far = Far(gone, slots=4)
    await far.trouble()
    await until(lambda: len(far.told) >= 3)
    assert {state.total for state in far.told} == {0}
    assert far.told[0].why.startswith("unreachable: far: ")
    assert far.events.types == ["model.unreachable"]
    gone.start()
    try:
        await until(lambda: far.told[-1].total == 4)
        assert far.events.types == ["model.unreachable", "model.ready"]
        assert (gone.asked, gone.knocked) == ([], 1)
        assert (await far.ask())[0] == "it is four"
    finally:
        await far.model.close()
        gone.stop()


# -- health ----------------------------------------------------------------------------------------------------------------------


async def test_a_limited_server_rests_then_one_tries(server: Loopback) -> None:
    far = Far(server, slots=4)
    far.model.announce()
    server.plays.append(Play(status=429, headers={"retry-after-ms": "300"}))
    await far.trouble()
    (row,) = far.model.rows()
    assert row.state == "limited"
    assert row.note.startswith(("again in 0 s: far: 127.0.0.1", "tried by the next call"))
    assert far.events.types == ["model.limited"]
    server.usual = Play(hold=0)
    calls = [asyncio.ensure_future(far.ask()) for _ in range(3)]
    await until(lambda: server.running == 1)
    await until(lambda: [state.total for state in far.told] == [4, 0, 1])  # told a moment after a waiting call goes
    server.usual = Play()
    server.release()
    assert {text for text, _ in await asyncio.gather(*calls)} == {"it is four"}
    assert server.most == 1 or far.told[-1].total == 4
    assert [state.total for state in far.told] == [4, 0, 1, 4]
    assert far.events.types == ["model.limited", "model.ready"]
    assert far.model.rows()[0].state == "ready"


async def test_a_long_rest_is_not_waited_for(server: Loopback) -> None:
    far = Far(server)
    server.plays.append(Play(status=503, headers={"retry-after": "9999"}))
    far.model._turns.health._max_ms = 10**9
    first = await far.trouble()
    assert first.info.retry_after_ms == 60_000
    far.model._turns.health.until += 60_000
    error = await far.trouble()
    assert (error.code, error.info.retryable) == ("remote_overloaded", True)
    assert error.info.retry_after_ms is not None
    assert 60_000 < error.info.retry_after_ms <= 120_000
    assert len(server.asked) == 1
    await far.model.close()


async def test_one_broken_answer_is_bad_luck_three_are_trouble(server: Loopback) -> None:
    far = Far(server)
    for number in range(3):
        assert far.model.rows()[0].state == "ready", number
        server.plays.append(Play(cut=1))
        await far.trouble()
    assert far.model.rows()[0].state == "backoff"
    assert (await far.ask())[0] == "it is four"
    assert far.model.rows()[0].state == "ready"
