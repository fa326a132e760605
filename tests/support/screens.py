"""What a test sees of a running console: its text, and waiting for a condition instead of a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from textual import events
from textual.keys import _character_to_key


async def wait_until(holds: Callable[[], Any], what: str = "", timeout_s: float = 15.0) -> None:
    """Wait until a condition holds; the failure says what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s for {what or holds}")
        await asyncio.sleep(0.01)


async def press(app: Any, *keys: str) -> None:
    """Type keys as fast as a terminal can: none waits for what the one before does. Returns when the app has taken them all."""
    for key in keys:
        name = _character_to_key(key) if len(key) == 1 and not key.isalnum() else key
        event = events.Key(name, key if len(key) == 1 else None)
        event.set_sender(app)
        app.post_message(event)
    taken = asyncio.Event()
    app.call_later(taken.set)
    await asyncio.wait_for(taken.wait(), 15)


def text_of(app: Any) -> str:
    """The screen as text, line by line, as the terminal would show it."""
    screen = app.screen
    _width, height = app.size
    lines = screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in lines[:height])


def line_of(app: Any, number: int) -> str:
    lines = text_of(app).split("\n")
    return lines[number] if number < len(lines) else ""


async def shows(app: Any, *words: str) -> None:
    """Wait until the screen shows all of these."""
    try:
        await wait_until(lambda: all(word in text_of(app) for word in words))
    except AssertionError:
        missing = [word for word in words if word not in text_of(app)]
        raise AssertionError(f"never shown: {missing}; the screen is\n{text_of(app)}") from None


async def hides(app: Any, *words: str) -> None:
    """Wait until the screen shows none of these."""
    try:
        await wait_until(lambda: not any(word in text_of(app) for word in words))
    except AssertionError:
        raise AssertionError(f"still shown: {words}; the screen is\n{text_of(app)}") from None
