"""Copying: OSC 52, which reaches the clipboard of the terminal that one sits at, also through ssh.

Inside tmux it is tmux that is asked: by its default (`set-clipboard external`) it ignores the OSC 52 of the programs in it, but
`load-buffer -w` fills its own buffer and passes the text on to the terminal outside."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.app import App

MOST = 65_536
"""Bytes; longer sequences are dropped as a whole by terminals."""
_PATIENCE_S = 2.0


def bounded(text: str) -> str:
    """As much of a text as terminals take."""
    raw = text.encode()
    return text if len(raw) <= MOST else raw[:MOST].decode(errors="ignore")


async def to_clipboard(app: App[None], text: str) -> None:
    """Put a text on the clipboard. Nothing tells whether the terminal took it: it is asked to and does not answer."""
    text = bounded(text)
    if not (os.environ.get("TMUX") and await _by_tmux(text)):
        app.copy_to_clipboard(text)


async def _by_tmux(text: str) -> bool:
    devnull = asyncio.subprocess.DEVNULL
    try:
        tmux = await asyncio.create_subprocess_exec(
            "tmux", "load-buffer", "-w", "-", stdin=asyncio.subprocess.PIPE, stdout=devnull, stderr=devnull
        )
    except OSError:
        return False
    try:
        await asyncio.wait_for(tmux.communicate(text.encode()), _PATIENCE_S)
    except TimeoutError:
        tmux.kill()
        await tmux.wait()
    return tmux.returncode == 0
