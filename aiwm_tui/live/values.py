"""Values that exist now, for the filter prompt: asked of the engine when a field is typed, kept for as long as the prompt is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiwm_tui.live.link import Link
from engine.contract.errors import AiwmError
from engine.contract.fields import Kind, fields_of
from engine.contract.records import Record
from engine.contract.requests.session import ViewRead

LOOKED_AT = 200
"""So many rows of a table are looked at: its first ones, which of tasks and events are the newest."""
_LISTED: Mapping[str, tuple[str, str]] = {
    "queue": ("queues", "id"),
    "queues": ("queues", "id"),
    "pool": ("pools", "id"),
    "pools": ("pools", "id"),
    "definition": ("workers", "id"),
    "instance": ("instances", "id"),
    "model": ("models", "model"),
    "adapter": ("adapters", "id"),
    "template": ("templates", "id"),
    "batch": ("batches", "id"),
    "fail": ("failures", "id"),
    "source": ("sources", "id"),
}
"""Attributes whose values are listed elsewhere: (table, attribute)."""


class Values:
    """`arrived` is called when there is more to suggest; `rows` are those of the screen, which are known already."""

    def __init__(self, link: Link, arrived: Callable[[], None], rows: Mapping[str, Record] | None = None) -> None:
        self._link = link
        self._arrived = arrived
        self._shown = list((rows or {}).values())
        self._read: dict[str, list[dict[str, Any]]] = {}
        self._work: set[asyncio.Task[None]] = set()

    def of(self, table: str, name: str) -> list[str]:
        """The values of a field as they would be typed, in order; those that the engine is being asked for come with the next call."""
        field = fields_of(table).get(name)
        if field is None or field.kind not in (Kind.text, Kind.texts):
            return []
        found = {value for row in self._shown for value in _each(getattr(row, field.attribute, None))}
        found |= self._in(table, field.attribute)
        if field.attribute in _LISTED:
            found |= self._in(*_LISTED[field.attribute])
        return sorted(_typed(value) for value in found if value and '"' not in value and value.isprintable())

    def _in(self, table: str, attribute: str) -> set[str]:
        if table not in self._read:
            self._read[table] = []
            task = asyncio.create_task(self._look(table))
            self._work.add(task)
            task.add_done_callback(self._work.discard)
        return {value for row in self._read[table] for value in _each(row.get(attribute))}

    async def _look(self, table: str) -> None:
        try:
            answer = await self._link.call(ViewRead(location=f":{table}", size=LOOKED_AT))
        except AiwmError:
            # Suggestions are a help: without them one types.
            return
        self._read[table] = answer.rows
        self._arrived()


def _each(value: Any) -> Iterable[str]:
    if isinstance(value, list | tuple):
        return (str(part) for part in value)
    return (str(value),) if value not in (None, "") else ()


def _typed(value: str) -> str:
    return f'"{value}"' if " " in value or "," in value else value
