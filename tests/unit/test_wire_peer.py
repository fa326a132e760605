"""Peers: calls and errors cross a real socket pair; a client that does not read cannot make the other side grow."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from engine.contract.errors import AiwmError
from engine.wire.peer import Peer
from engine.wire.rpc import Incoming


async def _answer(_: Peer, message: Incoming) -> bytes:
    if message.method == "fail":
        raise AiwmError("queue_full", "queue demo is full", field="queue", fix="wait", retryable=True)
    if message.method == "big":
        return b'"' + b"x" * 1_000_000 + b'"'
    return bytes(message.params)


async def _pair() -> tuple[Peer, Peer]:
    left, right = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, server = await loop.create_unix_connection(lambda: Peer(_answer), sock=left)
    _, client = await loop.create_unix_connection(lambda: Peer(), sock=right)
    return server, client


async def test_answers_find_their_calls_in_any_order() -> None:
    _, client = await _pair()
    answers = await asyncio.gather(*(client.call("echo", json.dumps(i).encode()) for i in range(200)))
    assert [json.loads(answer) for answer in answers] == list(range(200))


async def test_an_error_keeps_code_field_fix_and_retryability() -> None:
    _, client = await _pair()
    with pytest.raises(AiwmError) as caught:
        await client.call("fail", b"{}")
    info = caught.value.info
    assert (info.code, info.field, info.fix, info.retryable) == ("queue_full", "queue", "wait", True)


async def test_a_lost_connection_fails_the_calls_in_flight() -> None:
    left, right = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, client = await loop.create_unix_connection(lambda: Peer(), sock=right)
    call = asyncio.ensure_future(client.call("never", b"{}"))
    await asyncio.sleep(0)
    left.close()
    with pytest.raises(AiwmError) as caught:
        await call
    assert caught.value.code == "connection_lost"
    assert client.closed.done()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b'{"half": \n', "bad_line"),
        (b'{"jsonrpc":"2.0","params":' + b"[" * 3000 + b"\n", "bad_line"),
        (b"\xff\xfe\n", "bad_line"),
        (b"[1,2]\n", "bad_line"),
        (b"x" * (17 * 2**20) + b"\n", "line_too_long"),
    ],
)
async def test_a_bad_line_is_answered_and_the_connection_lives(sent: bytes, code: str) -> None:
    left, right = socket.socketpair()
    await asyncio.get_running_loop().create_unix_connection(lambda: Peer(_answer), sock=left)
    reader, writer = await asyncio.open_unix_connection(sock=right, limit=2**20)
    writer.write(sent + b'{"jsonrpc":"2.0","id":7,"method":"echo","params":[1]}\n')
    first, second = json.loads(await reader.readline()), json.loads(await reader.readline())
    assert first["id"] is None
    assert first["error"]["data"]["code"] == code
    assert second == {"jsonrpc": "2.0", "id": 7, "result": [1]}
    writer.close()


async def test_droppable_notifications_are_refused_while_the_other_side_does_not_read() -> None:
    left, _right = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, server = await loop.create_unix_connection(lambda: Peer(_answer), sock=left)
    sent = 0
    while server.notify("view.changed", b'"' + b"x" * 100_000 + b'"', droppable=True):
        sent += 1
        await asyncio.sleep(0)
        assert sent < 200, "an unread client must not be fed for ever"
    assert server.congested


async def test_a_client_that_asks_but_does_not_read_is_not_read_either() -> None:
    left, right = socket.socketpair()
    right.setblocking(False)
    loop = asyncio.get_running_loop()
    _, server = await loop.create_unix_connection(lambda: Peer(_answer), sock=left)
    line = b'{"jsonrpc":"2.0","id":1,"method":"big"}\n'
    asked = 0
    while asked < 100_000:
        try:
            asked += right.send(line) // len(line)
        except BlockingIOError:
            if server.congested and not server._reading:
                break
        await asyncio.sleep(0)
    assert not server._reading
    assert asked < 100_000


async def test_a_handler_that_breaks_is_still_an_answer() -> None:
    async def breaks(_: Peer, message: Incoming) -> bytes:
        raise FileNotFoundError("no such file")

    left, right = socket.socketpair()
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: Peer(breaks), sock=left)
    _, client = await loop.create_unix_connection(lambda: Peer(), sock=right)
    with pytest.raises(AiwmError) as caught:
        await asyncio.wait_for(client.call("x", b"{}"), 5)
    assert caught.value.code == "internal"


async def test_an_error_that_is_no_unicode_is_still_an_answer() -> None:
    async def refuses(_: Peer, message: Incoming) -> bytes:
        raise AiwmError("task_failed", "no file \udcff")

    left, right = socket.socketpair()
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: Peer(refuses), sock=left)
    _, client = await loop.create_unix_connection(lambda: Peer(), sock=right)
    with pytest.raises(AiwmError) as caught:
        await asyncio.wait_for(client.call("x", b"{}"), 5)
    assert caught.value.code == "task_failed"


async def test_what_is_too_long_for_a_line_is_refused_on_either_side() -> None:
    async def long(_: Peer, message: Incoming) -> bytes:
        return b'"' + b"x" * (17 * 2**20) + b'"'

    left, right = socket.socketpair()
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: Peer(long), sock=left)
    _, client = await loop.create_unix_connection(lambda: Peer(), sock=right)
    for params in (b"{}", b'"' + b"x" * (17 * 2**20) + b'"'):
        with pytest.raises(AiwmError) as caught:
            await asyncio.wait_for(client.call("x", params), 10)
        assert caught.value.code == "payload_too_large"


async def test_thousands_of_requests_in_one_turn_do_not_stall_the_connection() -> None:
    _, client = await _pair()
    await asyncio.gather(*(client.call("echo", b"1") for _ in range(6000)))
    assert await asyncio.wait_for(client.call("echo", b"2"), 5) == b"2"
