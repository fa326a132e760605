"""Waiting for conditions, never for time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return once the condition holds; TimeoutError if it does not come to."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (whatever it looks at has no event to wait for)
            await asyncio.sleep(0.002)
