"""Who asks: the principal behind a connection, and the way back to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from engine.requests.grants import Grant


class Caller(msgspec.Struct, kw_only=True):
    """One connection's identity. `id` is unique in this engine's life, `principal` is on whose behalf it asks (kept with every
    task), `send` delivers a notification and is False when the other side is congested.
    `grant` bounds the rights of a principal that is no person (None: a person's connection). `gone` is done when the connection is
    gone (None: there is none)."""

    id: int
    principal: str
    client: str
    read_only: bool
    send: Callable[[Any], bool]
    grant: Grant | None = None
    gone: asyncio.Future[None] | None = None
