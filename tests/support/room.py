"""A control room on a real store, without doors and models: requests go through the handler table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.clock import SystemClock
from engine.config import load_config
from engine.contract.definitions import (
    DataSource,
    PoolDefinition,
    QueueDefinition,
    RetryPolicy,
    TaskTemplate,
    WorkerDefinition,
)
from engine.contract.requests.base import Request, result_type
from engine.contract.requests.tasks import TaskOutcome, TaskSubmit, TaskWait
from engine.contract.states import Durability
from engine.control.manager import Manager
from engine.events import JournalEvents
from engine.home import database_path, make_home
from engine.inference.streams import Streams
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.store import Store
from engine.wire.rpc import encode

Result = TypeVar("Result")

CALLER = Caller(id=1, principal="operator", client="test", read_only=False, send=lambda _: True)
QUEUES = (
    QueueDefinition(name="q", pools=("p",), retry=RetryPolicy(delay_ms=0)),
    QueueDefinition(name="m", pools=("p",), durability=Durability.memory),
    QueueDefinition(name="short", pools=("p",), paused=True, max_length=5),
    QueueDefinition(name="still", pools=("p",), paused=True),
    QueueDefinition(name="dry", pools=("p",), draining=True),
)
TEMPLATES = (
    TaskTemplate(
        name="part",
        queue="q",
        priority=7,
        defaults={"size": {"unit": "mm", "round": True}},
        payload_schema={
            "type": "object",
            "properties": {
                "material": {"type": "string", "default": "steel_grade_a"},
                "count": {"type": "integer", "minimum": 1},
                "size": {"type": "object"},
            },
            "required": ["count"],
            "additionalProperties": False,
        },
    ),
)


class NoModels:
    def handle(self, model: str) -> Any:
        raise AssertionError(model)

    def pinned(self, adapter: str) -> str:
        return adapter

    def check(self, model: str) -> None:
        pass

    def publish(self, model: str) -> None:
        pass

    def ensure(self, model: str) -> None:
        pass

    def prefetch(self, model: str, replica: str, adapters: tuple[str, ...], first: bool) -> None:
        pass

    def grow(self, model: str) -> None:
        pass


class Room:
    """The manager on a home of its own; `call` asks it as a client would."""

    def __init__(self, home: Path) -> None:
        make_home(home)
        for file, definitions in (
            ("ai_worker_definitions", (WorkerDefinition(name="echo", kind="template"),)),
            ("ai_worker_pool_definitions", (PoolDefinition(name="p", definition="echo", max_total=2),)),
            ("ai_work_queue_definitions", QUEUES),
            ("ai_work_item_definitions", TEMPLATES),
            ("ai_global_data_source_definitions", (DataSource(name="docs", path="docs"),)),
        ):
            (home / f"{file}.json").write_bytes(msgspec.json.encode(definitions))
        clock = SystemClock()
        self.store = Store.open(database_path(home), clock=clock)
        self.texts = Streams()
        events = JournalEvents(self.store.journal, clock)
        self.manager = Manager(
            home,
            load_config({}).config,
            self.store,
            clock,
            events,
            NoModels(),
            NoModels(),
            self.texts,
            list,
            lambda _: None,
            lambda: "live",
        )
        self.table = RequestTable(events, read_only=False)
        self.manager.register(self.table)

    async def call(self, request: Request[Result]) -> Result:
        answer = await self.table.handle(request.method, msgspec.Raw(encode(request)), CALLER)
        result: Result = msgspec.json.decode(answer, type=result_type(type(request)))
        return result

    async def submit(self, **payload: Any) -> str:
        return (await self.call(TaskSubmit(queue="q", payload=payload))).id

    async def outcome(self, identifier: str) -> TaskOutcome:
        (outcome,) = await self.call(TaskWait(ids=(identifier,), timeout_ms=5_000))
        return outcome

    async def close(self) -> None:
        await self.manager.stop()
        await self.store.close()
