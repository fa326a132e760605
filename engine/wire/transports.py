"""Peers on real transports: a Unix socket (either end) and a pair of pipe ends (a child's stdin and stdout, or our own)."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from engine.wire.peer import Heard, Peer, Serve


async def dial(path: Path, serve: Serve | None = None, heard: Heard | None = None) -> Peer:
    """Connect to a Unix socket. OSError when nobody listens there."""
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_unix_connection(lambda: _peer(serve, heard), str(path))
    return peer


async def over_pipes(
    reading: BinaryIO, writing: BinaryIO, serve: Serve | None = None, heard: Heard | None = None
) -> Peer:
    """A peer that reads one pipe end and writes another. The files belong to the peer from here on."""
    loop = asyncio.get_running_loop()
    peer = _peer(serve, heard)
    await loop.connect_write_pipe(lambda: peer, writing)
    await loop.connect_read_pipe(lambda: peer, reading)
    return peer


async def listen(path: Path, accept: Callable[[], Peer]) -> asyncio.AbstractServer:
    """Listen on a Unix socket that only its owner may open (0600) and whose callers are checked: see `peer_uid`."""
    path.unlink(missing_ok=True)  # noqa: ASYNC240 (once, at start)
    # The mode is set before anyone can connect: bind under a umask, then listen.
    previous = os.umask(0o177)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(path))
    finally:
        os.umask(previous)
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(accept, sock=sock, backlog=128)


def peer_uid(peer: Peer) -> int | None:
    """The user at the other end of a Unix socket (SO_PEERCRED); None where the system cannot tell."""
    transport = peer._writer
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _peer(serve: Serve | None, heard: Heard | None) -> Peer:
    return Peer(heard=heard) if serve is None else Peer(serve, heard)
