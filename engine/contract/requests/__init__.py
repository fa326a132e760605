"""Requests as data: everything that can be asked of the engine, one frozen struct each.

`catalogue()` lists them all. Nothing here knows how a request is answered."""

from __future__ import annotations

from functools import cache

from engine.contract.requests.base import RequestCatalogue


@cache
def catalogue() -> RequestCatalogue:
    """All requests, found by walking this package's modules for concrete Request classes."""
    from typing import Any

    from engine.contract.requests import fleet, session, tasks
    from engine.contract.requests.base import Request

    classes: list[type[Request[Any]]] = []
    for module in (tasks, fleet, session):
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, Request) and "method" in vars(thing):
                classes.append(thing)
    return RequestCatalogue(classes)
