"""Requests as data: everything that can be asked of the engine, one frozen struct each, one module a noun.

`catalogue()` lists them all. Nothing here knows how a request is answered."""

from __future__ import annotations

from functools import cache

from engine.contract.requests.base import RequestCatalogue


@cache
def catalogue() -> RequestCatalogue:
    """All requests, found by walking this package's modules for concrete Request classes."""
    import importlib
    import pkgutil
    from typing import Any

    from engine.contract.requests.base import Request

    classes: dict[type[Request[Any]], None] = {}
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, Request) and "method" in vars(thing):
                classes[thing] = None
    return RequestCatalogue(classes)
