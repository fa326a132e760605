"""The door on the home's Unix socket: every engine opens it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine.doors.session import Doorman
from engine.wire.transports import listen


async def open_socket(path: Path, doorman: Doorman) -> asyncio.AbstractServer:
    """Listen for clients. The caller owns the home's lock, so an old socket file there is nobody's."""
    return await listen(path, doorman.peer)
