"""Requests about the notify hook."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.requests.base import Request
from engine.contract.states import Effect


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """How many ways to notify are configured, and what went wrong with which of them."""

    ways: int
    failures: tuple[str, ...] = ()


class NotifyTest(Request[Tried], frozen=True, kw_only=True):
    """Tell the notify hook of config.toml ([notify]) something, to see whether it works."""

    method: ClassVar[str] = "notify.test"
    effect: ClassVar[Effect] = Effect.write
