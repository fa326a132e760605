"""What a principal that is not a person may ask for: a task that calls tools acts within what it was given, and hands on no more."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a caller's rights: its data sources. `approval` is the id under which a person allowed this one request."""

    sources: frozenset[str] = frozenset()
    approval: str = ""


_OF_THIS_MACHINE = frozenset({"model.add", "model.set", "model.import", "model.offer", "model.check", "model.detect"})
"""Requests that name programs, paths and addresses of this machine: whoever may make them may run anything and look anywhere."""


def check_grant(request: Request[Any], grant: Grant) -> None:
    """Refuse what passes the bounds: raises `denied`. Destructive requests need a person's approval, each of them; whatever names data
    sources may name the caller's own alone."""
    kind = type(request)
    if kind.effect is Effect.destructive and not grant.approval:
        raise AiwmError(
            Code.denied, f"{kind.method} is destructive: a person must approve it", fix="aiwm approval list"
        )
    if kind.method.startswith(("approval.", "tool.", "key.", "config.", "record.")) or kind.method in _OF_THIS_MACHINE:
        raise AiwmError(Code.denied, f"{kind.method} is for people only")
    named: tuple[str, ...] = tuple(getattr(request, "sources", ()))
    if kind.method.startswith("source."):
        named += tuple(filter(None, (getattr(request, "name", ""),)))
    for source in named:
        if source not in grant.sources:
            raise AiwmError(
                Code.denied,
                f'the data source "{source[:64]}" is not among those of whoever asks',
                field="sources",
                fix=f"its sources: {', '.join(sorted(grant.sources))}" if grant.sources else "it has no sources",
            )
