"""A stand-in for the engine under the console: answers from records in memory through engine.contract.query."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from engine.contract import query
from engine.contract.definitions import PoolDefinition, QueueDefinition, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.notifications import StreamChunk, ViewChanged
from engine.contract.records import (
    TABLES,
    EventRow,
    InstanceRow,
    MachineRow,
    ModelRow,
    NeedRow,
    PoolDetail,
    PoolRow,
    QueueDetail,
    QueueRow,
    Record,
    TaskDetail,
    TaskRow,
    WorkerDetail,
    WorkerRow,
)
from engine.contract.requests import fleet, session, tasks
from engine.contract.why import Gate, Why

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
class _Stream:
    task: str
    attempt: int = 1
    text: str = ""
    ended: bool = False


class ConsoleEngine:
    """Rows by table and id. `requests` records every request that was not about views."""

    def __init__(self, now: Callable[[], int] = lambda: NOW) -> None:
        self.now = now
        self.tables: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
        self.requests: list[Any] = []
        self.moves: list[session.ViewMove] = []
        self.details: dict[str, dict[str, Any]] = {}
        self.streams: dict[str, _Stream] = {}
        self.whys: dict[str, Why] = {}
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
        stream = self.streams.setdefault(task, _Stream(task))
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
        records = self.tables[location.table].values()
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
            case session.ViewClose():
                client.views.pop(request.view, None)
                return None
        self.requests.append(request)
        return self._other(client, request)

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

    def _other(self, client: FakeClient, request: Any) -> Any:
        match request:
            case tasks.TaskShow():
                row = self._row("tasks", request.id)
                detail = {"payload": {"prompt": "Who sent this invoice?"}} | self.details.get(row.id, {})
                return TaskDetail(row=row, **detail)
            case tasks.TaskFollow():
                client.followed.add(request.id)
                stream = self.streams.setdefault(request.id, _Stream(request.id))
                return tasks.StreamState(
                    stream=f"s-{request.id}",
                    task=request.id,
                    attempt=stream.attempt,
                    offset=request.offset,
                    text=stream.text[request.offset :],
                    ended=stream.ended,
                )
            case tasks.TaskUnfollow():
                return client.followed.discard(request.stream.removeprefix("s-"))
            case tasks.TaskExplain():
                return self.whys.get(request.id) or _why("task", request.id)
            case fleet.QueueExplain() | fleet.PoolExplain() | fleet.ModelExplain():
                return self.whys.get(request.name) or _why(request.method.partition(".")[0], request.name)
            case session.EngineStop():
                return session.Stopping(mode=request.mode, running=0, waiting=0)
        return self._fleet(request)

    def _fleet(self, request: Any) -> Any:
        match request:
            case fleet.QueuePause() | fleet.QueueResume():
                state = "paused" if isinstance(request, fleet.QueuePause) else "open"
                self.change("queues", request.name, state=state)
                return self._queue(request.name)
            case fleet.QueueShow():
                return self._queue(request.name)
            case fleet.PoolShow():
                return self._pool(request.name)
            case fleet.PoolScale():
                self.change("pools", request.name, min_idle=request.min_idle or 0, max_total=request.max_total or 0)
                return self._pool(request.name)
            case fleet.WorkerShow():
                row = self._row("workers", request.name)
                return WorkerDetail(row=row, definition=WorkerDefinition(name=row.id, kind=row.kind, model=row.model))
            case fleet.WorkerReload():
                return fleet.Reloaded(added=["new"], changed=[], removed=[], unchanged=2)
        return self._work(request)

    def _work(self, request: Any) -> Any:
        match request:
            case tasks.TaskSubmit():
                if request.queue not in self.tables["queues"]:
                    raise AiwmError(
                        Code.not_found, f'queue "{request.queue}" does not exist', field="queue", fix="aiwm queue list"
                    )
                return tasks.TaskAck(id="t-10099", state="pending")
            case tasks.TaskCancel():
                for identifier in request.ids:
                    self.change("tasks", identifier, state="cancelled")
                return tasks.Cancelled(cancelled=list(request.ids), stopping=[], ended=[])
            case tasks.TaskRetry():
                for identifier in request.ids:
                    self.change("tasks", identifier, state="pending")
                return tasks.Retried(retried=list(request.ids))
        raise AssertionError(f"the stand-in has no answer to {request!r}")

    def _row(self, table: str, identifier: str) -> Any:
        row = self.tables[table].get(identifier)
        if row is None:
            raise AiwmError(Code.not_found, f'"{identifier}" does not exist', field="id")
        return row

    def _queue(self, name: str) -> QueueDetail:
        return QueueDetail(row=self._row("queues", name), definition=QueueDefinition(name=name, pools=("demo",)))

    def _pool(self, name: str) -> PoolDetail:
        row = self._row("pools", name)
        definition = PoolDefinition(
            name=name, definition=row.definition, min_idle=row.min_idle, max_total=row.max_total
        )
        return PoolDetail(row=row, definition=definition)


def _why(scope: str, about: str) -> Why:
    gate = Gate(
        name="pool at max", closed=True, count=3, since_ms=NOW - 60_000, opens="when a task ends", why="4 of 4 busy"
    )
    return Why(
        scope=scope,
        about=about,
        moving=True,
        summary=f"{about} waits for a free instance",
        gates=(Gate(name="queue open", closed=False), gate),
    )


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


def task(number: int, **changes: Any) -> TaskRow:
    """A task row; numbers count from 1."""
    from engine.contract.ids import task_id

    values: dict[str, Any] = {
        "id": task_id(number),
        "queue": "demo",
        "state": "pending",
        "priority": 5,
        "attempt": 0,
        "max_attempts": 3,
        "by": "ana",
        "submitted_ms": NOW - 60_000 * number,
        "reason": "pool at max 4",
    }
    return TaskRow(**(values | changes))


def populate(engine: ConsoleEngine) -> ConsoleEngine:
    """One moment of a small machine, so that screens agree with each other."""
    engine.put(
        "machine",
        MachineRow(
            id="anvil",
            host="anvil",
            started_ms=NOW - 3 * 86_400_000 - 4 * 3_600_000,
            running=2,
            waiting=14,
            fail_today=2,
            tokens_per_s=560.0,
            mode="live",
            cpu_percent=41.0,
        ),
    )
    engine.put("queues", *_queues())
    engine.put("pools", *_pools())
    engine.put("instances", *_instances())
    engine.put("models", *_models())
    engine.put(
        "workers",
        WorkerRow(
            id="nano",
            kind="goat",
            model="aiwm-nano",
            capabilities=("json",),
            pools=("demo",),
            digest="41ac9f00d1",
            description="The shipped model: sums, extraction, JSON.",
        ),
        WorkerRow(
            id="echo",
            kind="template",
            model="",
            capabilities=(),
            pools=("echo",),
            digest="00aa11bb22",
            description="Gives back what it is given.",
        ),
    )
    engine.put(
        "needs",
        NeedRow(
            id="n1",
            since_ms=NOW - 6_720_000,
            state="broken",
            what="summaries stands still",
            why="queue paused by ana",
            press="↵ what it waits for",
            location=":queues id:summaries",
        ),
        NeedRow(
            id="n2",
            since_ms=NOW - 2_280_000,
            state="wrong",
            what="2 tasks failed",
            why="output is not JSON",
            press="↵ see them",
            location=":tasks state:failed",
        ),
    )
    engine.put("tasks", *_tasks())
    engine.put("events", *_events())
    return engine


def _queues() -> list[QueueRow]:
    common: dict[str, Any] = {"scheduled": 0, "retrying": 0, "cancelled": 0, "durability": "disk"}
    return [
        QueueRow(
            id="demo",
            state="open",
            waiting=12,
            running=2,
            completed=18_220,
            failed=2,
            head_ms=NOW - 2_460_000,
            in_per_min=22.1,
            out_per_min=18.0,
            pools=("demo",),
            gate="pool at max 4",
            **(common | {"retrying": 1}),
        ),
        QueueRow(
            id="echo",
            state="open",
            waiting=0,
            running=0,
            completed=41,
            failed=0,
            head_ms=None,
            in_per_min=0.0,
            out_per_min=0.0,
            pools=("echo",),
            gate="",
            **common,
        ),
        QueueRow(
            id="summaries",
            state="paused",
            waiting=2,
            running=0,
            completed=903,
            failed=0,
            head_ms=NOW - 6_720_000,
            in_per_min=1.4,
            out_per_min=0.0,
            pools=("demo",),
            gate="paused by ana",
            **common,
        ),
    ]


def _pools() -> list[PoolRow]:
    return [
        PoolRow(
            id="demo",
            state="at max",
            definition="nano",
            queues=("demo", "summaries"),
            model="aiwm-nano",
            busy=2,
            idle=0,
            starting=0,
            min_idle=1,
            max_total=4,
            waiting=12,
            held_by="max 4",
        ),
        PoolRow(
            id="echo",
            state="empty",
            definition="echo",
            queues=("echo",),
            model="",
            busy=0,
            idle=0,
            starting=0,
            min_idle=0,
            max_total=4,
            waiting=0,
            held_by="",
        ),
    ]


def _instances() -> list[InstanceRow]:
    return [
        InstanceRow(
            id="i-01",
            state="busy",
            pool="demo",
            definition="nano",
            kind="goat",
            task="t-10001",
            since_ms=NOW - 9_000,
            done=212,
            failed=1,
            tokens=1_912_004,
            note="",
        ),
        InstanceRow(
            id="i-02",
            state="busy",
            pool="demo",
            definition="nano",
            kind="goat",
            task="t-10002",
            since_ms=NOW - 4_000,
            done=207,
            failed=1,
            tokens=1_800_402,
            note="",
        ),
        InstanceRow(
            id="i-03",
            state="idle",
            pool="demo",
            definition="nano",
            kind="goat",
            task=None,
            since_ms=NOW - 182_000,
            done=66,
            failed=0,
            tokens=40_112,
            note="retires in 1m58s",
        ),
    ]


def _models() -> list[ModelRow]:
    return [
        ModelRow(
            id="aiwm-nano.0",
            model="aiwm-nano",
            state="busy",
            backend="reference",
            where="CPU",
            running=2,
            waiting=0,
            slots=16,
            tokens_per_s=362.0,
            steps_per_s=40.2,
            weights_bytes=5_242_880,
            kv_bytes=33_554_432,
            kv_used_bytes=2_097_152,
            rss_bytes=94_371_840,
            adapters=2,
            restarts=0,
            since_ms=NOW - 273_600_000,
            pid=4242,
            note="",
        )
    ]


def _tasks() -> list[TaskRow]:
    run: dict[str, Any] = {"state": "processing", "attempt": 1, "definition": "nano", "pool": "demo", "tokens_in": 1204}
    done: dict[str, Any] = {
        "attempt": 1,
        "definition": "nano",
        "pool": "demo",
        "started_ms": NOW - 600_000,
        "ended_ms": NOW - 592_000,
        "tokens_in": 880,
    }
    return [
        task(
            1,
            **run,
            instance="i-01",
            started_ms=NOW - 9_000,
            tokens_out=388,
            priority=8,
            reason='{"supplier": "Müller & Söhne',
        ),
        task(2, **run, instance="i-02", started_ms=NOW - 4_000, tokens_out=22, reason="category: invoice_question"),
        task(
            3,
            state="retrying",
            attempt=2,
            due_ms=NOW + 30_000,
            reason="output is not JSON",
            error="output_not_json",
            definition="nano",
        ),
        task(4),
        task(5),
        task(6, reason="needs vision: no pool has it", priority=9),
        task(7, state="scheduled", due_ms=NOW + 3_139_000, reason=""),
        task(
            8,
            **(done | {"state": "failed", "attempt": 3}),
            tokens_out=2048,
            error="output_not_json",
            reason="output is not JSON",
        ),
        task(
            9,
            **(done | {"state": "failed", "attempt": 3}),
            tokens_out=2048,
            error="output_not_json",
            reason="output is not JSON",
        ),
        task(10, state="cancelled", ended_ms=NOW - 500_000, reason="by ana: duplicate of t-10009"),
        task(11, **done, state="completed", tokens_out=402, reason='{"supplier": "Kern AG"}'),
        *(task(number, queue="summaries", reason="queue paused by ana") for number in (12, 13)),
    ]


def _events() -> list[EventRow]:
    rows = [
        ("info", "task.started", "dispatcher", "t-10002", "on i-02, waited 1.2s", "t-10002"),
        ("info", "task.started", "dispatcher", "t-10001", "on i-01, waited 41m", "t-10001"),
        ("warn", "task.retry", "scheduler", "t-10003", "2 of 3 at 03:08:11: output is not JSON", "t-10003"),
        ("info", "pool.scaled", "scheduler", "demo", "3 → 4: head of demo waited 9s", None),
        ("error", "task.failed", "i-01", "t-10008", "output is not JSON", "t-10008"),
        ("audit", "queue.paused", "ana (console)", "summaries", "no reason given", None),
        ("info", "model.ready", "inference", "aiwm-nano.0", "in 310 ms", None),
    ]
    return [
        EventRow(
            id=str(100 - place),
            at_ms=NOW - 700 - place * 11_300,
            level=level,
            type=kind,
            who=who,
            about=about,
            text=text,
            task=of,
        )
        for place, (level, kind, who, about, text, of) in enumerate(rows)
    ]
