"""The door on our own stdin and stdout: the console that started this engine, or `ssh host aiwm engine attach`."""

from __future__ import annotations

import asyncio
from typing import BinaryIO

from engine.doors.session import Doorman


async def open_pipe(reading: BinaryIO, writing: BinaryIO, doorman: Doorman) -> None:
    """Serve the client at the other end of two pipe ends."""
    loop = asyncio.get_running_loop()
    peer = doorman.peer()
    await loop.connect_write_pipe(lambda: peer, writing)
    await loop.connect_read_pipe(lambda: peer, reading)
