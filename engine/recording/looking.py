"""What a recording has beside the store's rows: tables that are kept in memory, and answers that only the running engine knows.

Each is looked at once for all recordings, at most once a second and only while something may have changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from engine.contract.errors import AiwmError
from engine.contract.records import Record

Ask = Callable[[str, msgspec.Raw], Awaitable[bytes]]
Rows = dict[str, dict[str, Any]]
Change = tuple[str, list[dict[str, Any]], list[str]]
Answer = tuple[str, Any, msgspec.Raw]

LIVE: Final = (
    *("queues", "pools", "instances", "workers", "templates", "sources", "models", "devices", "adapters"),
    *("lessons", "reviews", "approvals", "needs", "machine"),
)
"""Tables that are looked at. The others (operations, failures, batches, retired instances) follow from the store's rows."""
_ALWAYS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("engine.why", {}),
    ("engine.status", {}),
    ("limits.list", {}),
    ("adapter.stats", {}),
)
_OF_EACH: Final = (
    ("queues", "queue.explain", "name", "id"),
    ("pools", "pool.explain", "name", "id"),
    ("models", "model.explain", "name", "model"),
    ("instances", "instance.show", "id", "id"),
)
"""Table, method, its parameter, and the field of a row that is put there: 0.1 ms each, asked at every look."""
_OF_CHANGED: Final = (
    ("models", "model.show", "name", "model"),
    ("adapters", "adapter.versions", "name", "name"),
    ("adapters", "adapter.inspect", "name", "id"),
)
"""The same of answers that cost 0.5 to 3 ms: asked only of rows that have changed, a few at a look."""
PLAIN: Final = frozenset({"engine.why", "engine.status", "limits.list", "adapter.stats"}) | {
    f"{noun}.explain" for noun in ("queue", "pool", "model")
}
"""Answers in which nothing is repeated of what a task says."""
MOST_ASKED: Final = 64
"""So many quick questions are asked at a time; of more, the others have their turn next time."""
MOST_DEAR: Final = 4
"""So many dear ones; the others wait."""


class Looking:
    """The rows and answers as they were last seen."""

    def __init__(self, tables: Mapping[str, Callable[[], Sequence[Record]]], ask: Ask) -> None:
        self._tables = {name: tables[name] for name in LIVE}
        self._ask = ask
        self._rows: dict[str, Rows] = {}
        self._answers: dict[bytes, Answer] = {}
        self._turn = 0
        self._owed: dict[tuple[str, str, str], None] = {}

    @property
    def owes(self) -> bool:
        """Whether there are questions that wait for the next look."""
        return bool(self._owed)

    @property
    def tables(self) -> Iterable[str]:
        return self._tables

    def forget(self) -> None:
        """Nobody records any more: the next look finds everything new."""
        self._rows.clear()
        self._answers.clear()
        self._owed.clear()

    def everything(self) -> tuple[list[Change], list[Answer]]:
        """What was last seen, for a recording that begins."""
        changes: list[Change] = [(table, list(rows.values()), []) for table, rows in self._rows.items()]
        return changes, list(self._answers.values())

    def look(self, tables: Iterable[str]) -> list[Change]:
        """What changed in these tables since they were last looked at."""
        changes: list[Change] = []
        for table in tables:
            source = self._tables.get(table)
            if source is None:
                continue
            now: Rows = {record.id: msgspec.to_builtins(record) for record in source()}
            before = self._rows.get(table, {})
            rows = [row for identifier, row in now.items() if before.get(identifier) != row]
            gone = [identifier for identifier in before if identifier not in now]
            self._rows[table] = now
            if rows or gone:
                changes.append((table, rows, gone))
                dear = [entry for entry in _OF_CHANGED if entry[0] == table]
                self._owed.update({(method, key, row[field]): None for _, method, key, field in dear for row in rows})
        return changes

    async def ask(self) -> list[Answer]:
        """Answers that are new or have changed."""
        found: list[Answer] = []
        for method, params in self._questions():
            encoded = msgspec.json.encode(params)
            try:
                result = msgspec.Raw(await self._ask(method, msgspec.Raw(encoded)))
            except AiwmError:
                # What cannot be answered now (a pool that has just gone) is not recorded.
                continue
            key = method.encode() + encoded
            known = self._answers.get(key)
            if known is None or bytes(known[2]) != bytes(result):
                self._answers[key] = (method, params, result)
                found.append((method, params, result))
        return found

    def _questions(self) -> list[tuple[str, dict[str, Any]]]:
        each = [
            (method, {parameter: name})
            for table, method, parameter, field in _OF_EACH
            for name in dict.fromkeys(row[field] for row in self._rows.get(table, {}).values())
        ]
        if len(each) > MOST_ASKED:
            first = self._turn % len(each)
            self._turn += MOST_ASKED
            each = (each[first:] + each[:first])[:MOST_ASKED]
        dear = list(self._owed)[:MOST_DEAR]
        for question in dear:
            del self._owed[question]
        return [*_ALWAYS, *each, *((method, {key: value}) for method, key, value in dear)]
