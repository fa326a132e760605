"""A stand-in for the engine under the console: answers views from records in memory through engine.contract.query."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from engine.contract import query
from engine.contract.errors import AiwmError, Code
from engine.contract.notifications import StreamChunk, ViewChanged
from engine.contract.records import TABLES, ChatTurn, Record
from engine.contract.records.definitions import ScaleStep
from engine.contract.requests import session
from engine.contract.requests.context import EffectiveContext
from engine.contract.requests.maintenance import Maintenance
from engine.contract.why import Why

NOW = 1_795_144_061_000
"""2026-11-20 03:07:41 UTC."""


@dataclass
class _View:
    location: query.Location
    top: int
    size: int
    seq: int = 0
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)


@dataclass
class Stream:
    task: str
    attempt: int = 1
    text: str = ""
    ended: bool = False


Answer = Callable[["ConsoleEngine", Any], Any]
ANSWERS: dict[type, Answer] = {}
"""What the stand-in answers to each request; filled by the modules of `console_answers`."""

Function = TypeVar("Function", bound=Callable[..., Any])


def answers(*requests: type) -> Callable[[Function], Function]:
    """Register a function (engine, request) → result as the answer to requests."""

    def register(function: Function) -> Function:
        ANSWERS.update(dict.fromkeys(requests, function))
        return function

    return register


class ConsoleEngine:
    """Rows by table and id. `requests` records every request that was not about views; `answers` are those of one test, before all
    others; `refuse` has errors by request class, `hangs` the classes that are never answered."""

    def __init__(self, now: Callable[[], int] = lambda: NOW) -> None:
        self.now = now
        self.tables: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
        self.requests: list[Any] = []
        self.moves: list[session.ViewMove] = []
        self.reads: list[session.ViewRead] = []
        self.details: dict[str, dict[str, Any]] = {}
        self.definitions: dict[tuple[str, str], Any] = {}
        self.maintenance: Maintenance | None = None
        self.contexts: dict[str, EffectiveContext] = {}
        self.steps: dict[str, list[ScaleStep]] = {}
        self.samples: dict[str, list[tuple[int, float]]] = {}
        self.turns: dict[str, tuple[ChatTurn, ...]] = {}
        self.streams: dict[str, Stream] = {}
        self.whys: dict[str, Why] = {}
        self.answers: dict[type, Answer] = {}
        self.refuse: dict[type, AiwmError] = {}
        self.hangs: set[type] = set()
        self.read_only = False
        self.down = False
        self.client: FakeClient | None = None

    # What tests do

    def put(self, table: str, *records: Record) -> None:
        for record in records:
            self.tables[table][record.id] = record
        self.publish()

    def change(self, table: str, identifier: str, **changes: Any) -> None:
        self.put(table, msgspec.structs.replace(self.tables[table][identifier], **changes))

    def remove(self, table: str, *identifiers: str) -> None:
        for identifier in identifiers:
            del self.tables[table][identifier]
        self.publish()

    def write(self, task: str, text: str, *, ended: bool = False) -> None:
        """A model wrote more text of a task."""
        stream = self.streams.setdefault(task, Stream(task))
        offset, stream.text, stream.ended = len(stream.text), stream.text + text, ended
        if self.client is not None and task in self.client.followed:
            self.client.hear(
                StreamChunk(
                    stream=f"s-{task}", task=task, attempt=stream.attempt, offset=offset, text=text, ended=ended
                )
            )

    def drop(self) -> None:
        """The connection breaks."""
        if self.client is not None:
            self.client.closed.set_result(None)
            self.client = None

    async def connect(self) -> FakeClient:
        if self.down:
            raise AiwmError(Code.engine_unreachable, "no engine serves this home", fix="aiwm engine run")
        self.client = FakeClient(self)
        return self.client

    # Views

    def rows_of(self, location: query.Location) -> list[Any]:
        records = list(self.tables[location.table].values())
        for term in location.terms:
            if term.field == "chain":
                of = {record.correlation for record in records if record.id in term.values}
                records = [record for record in records if record.correlation in of]
        rest = tuple(term for term in location.terms if term.field != "chain")
        location = msgspec.structs.replace(location, terms=rest)
        return query.sort_records(
            location, [record for record in records if query.matches(location, record, self.now())]
        )

    def publish(self) -> None:
        if self.client is not None:
            for name, view in list(self.client.views.items()):
                self._diff(self.client, name, view)

    def window(self, view: _View) -> tuple[list[Any], list[Any]]:
        rows = self.rows_of(view.location)
        view.top = max(0, min(view.top, len(rows) - 1)) if rows else 0
        return rows, rows[view.top : view.top + view.size]

    def answer(self, name: str, view: _View) -> session.ViewRows:
        rows, shown = self.window(view)
        view.seq += 1
        view.sent = {row.id: msgspec.to_builtins(row) for row in shown}
        view.ids = [row.id for row in shown]
        return session.ViewRows(
            view=name,
            seq=view.seq,
            location=str(view.location),
            table=view.location.table,
            rows=list(view.sent.values()),
            top=view.top,
            matched=len(rows),
            total=len(self.tables[view.location.table]),
            faults=self._faults(view.location, rows),
        )

    def _faults(self, location: query.Location, rows: list[Any]) -> int | None:
        fault = query.Location(location.table, None, (query.Term(query.Op.any_of, ("fault",), "is"),))
        return sum(1 for row in rows if query.matches(fault, row, self.now()))

    def _diff(self, client: FakeClient, name: str, view: _View) -> None:
        rows, shown = self.window(view)
        new = {row.id: msgspec.to_builtins(row) for row in shown}
        ids = [row.id for row in shown]
        changed = [row for identifier, row in new.items() if view.sent.get(identifier) != row]
        removed = [identifier for identifier in view.sent if identifier not in new]
        if not changed and not removed and ids == view.ids:
            return
        view.seq += 1
        order = ids if ids != view.ids else None
        view.sent, view.ids = new, ids
        client.hear(
            ViewChanged(
                view=name,
                seq=view.seq,
                rows=changed,
                removed=removed,
                order=order,
                top=view.top,
                matched=len(rows),
                total=len(self.tables[view.location.table]),
                faults=self._faults(view.location, rows),
            )
        )

    # Requests

    def handle(self, client: FakeClient, request: Any) -> Any:
        if type(request) in self.refuse:
            raise self.refuse[type(request)]
        match request:
            case session.ViewOpen():
                view = _View(query.parse(request.location), request.top, request.size)
                name = f"v-{client.next_view()}"
                client.views[name] = view
                return self.answer(name, view)
            case session.ViewMove():
                return self._move(client, request)
            case session.ViewRead():
                self.reads.append(request)
                return self.answer("", _View(query.parse(request.location), request.top, request.size))
            case session.ViewClose():
                client.views.pop(request.view, None)
                return None
        self.requests.append(request)
        answer = self.answers.get(type(request)) or ANSWERS.get(type(request))
        if answer is None:
            raise AssertionError(f"the stand-in has no answer to {request!r}")
        return answer(self, request)

    def _move(self, client: FakeClient, request: session.ViewMove) -> session.ViewRows:
        self.moves.append(request)
        view = client.views[request.view]
        view.size = request.size or view.size
        if request.top is not None:
            view.top = request.top
        if request.anchor is not None:
            ids = [row.id for row in self.rows_of(view.location)]
            if request.anchor in ids:
                view.top = max(0, ids.index(request.anchor) - view.size // 2)
        return self.answer(request.view, view)

    def row(self, table: str, identifier: str) -> Any:
        """A row that must exist."""
        row = self.tables[table].get(identifier)
        if row is None:
            raise AiwmError(Code.not_found, f'"{identifier}" does not exist', field="id")
        return row


class FakeClient:
    """The part of engine.client.Client that the console uses."""

    def __init__(self, engine: ConsoleEngine) -> None:
        self.engine = engine
        self.views: dict[str, _View] = {}
        self.followed: set[str] = set()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.welcome: session.Welcome | None = session.Welcome(
            protocol=1, version="0", home="/home", pid=1, epoch=1, host="anvil", read_only=engine.read_only
        )
        self._heard: list[tuple[type, Callable[[Any], None]]] = []
        self._views_made = 0

    def next_view(self) -> int:
        self._views_made += 1
        return self._views_made

    async def call(self, request: Any, *, timeout_s: float | None = None) -> Any:
        await asyncio.sleep(0)
        if type(request) in self.engine.hangs:
            await self.closed
        if self.closed.done():
            raise AiwmError(Code.connection_lost, "the connection is gone", retryable=True)
        return self.engine.handle(self, request)

    def on(self, kind: type, callback: Callable[[Any], None]) -> Callable[[], None]:
        entry = (kind, callback)
        self._heard.append(entry)
        return lambda: self._heard.remove(entry)

    def hear(self, note: Any) -> None:
        for kind, callback in list(self._heard):
            if isinstance(note, kind):
                callback(note)

    async def close(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
