"""The adapters that a task or a definition asks for, by name, as the scheduler compares them with those that a replica has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.contract.definitions import WorkerDefinition

_LONGEST = 500


def asked(payload: Mapping[str, Any]) -> str | None:
    """What a task's row says of the adapters in its payload: their names with commas between, empty if it asks for none at all, None if it
    leaves that to its worker's definition."""
    uses = payload.get("adapters")
    if not isinstance(uses, list):
        return None
    names = [use.get("name") for use in uses if isinstance(use, Mapping)]
    return ",".join(name for name in names if isinstance(name, str))[:_LONGEST]


def read(column: str | None) -> tuple[str, ...] | None:
    """The names in such a text; None if it leaves them to the definition."""
    if column is None:
        return None
    return tuple(column.split(",")) if column else ()


def of(definition: WorkerDefinition) -> tuple[str, ...]:
    """The names of a definition's adapters."""
    return tuple(use.name for use in definition.adapters)
