"""Requests about a home as a whole: what has been made in it."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.requests.base import Request
from engine.contract.states import Effect


class HomeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a home beside what every new one begins with: names of `models` that somebody added or put there, of worker definitions,
    pools, queues and templates, and how many `tasks` it ever had (and still knows). `bytes` is what its files take. `pristine`: there is
    nothing of its own, not even a task."""

    home: str
    bytes: int
    models: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    tasks: int = 0
    pristine: bool = True


class HomeLook(Request[HomeReport], frozen=True, kw_only=True):
    """What this home has of its own, and whether anything has been done in it yet. Changes nothing."""

    method: ClassVar[str] = "home.look"
    effect: ClassVar[Effect] = Effect.read
