"""A manager on a real store with a model of the test's making and a clock that can be put forward: rooms without processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from engine.clock import SystemClock
from engine.config import load_config
from engine.contract.definitions import PoolDefinition, QueueDefinition, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.base import Request, result_type
from engine.contract.requests.tasks import TaskOutcome, TaskSubmit, TaskWait
from engine.control.manager import Manager
from engine.events import JournalEvents
from engine.home import database_path, make_home
from engine.inference.streams import Streams
from engine.ports import AdapterUsed, Delta, GenerateRequest, Outcome, ReplicaState, Reservation
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.scheduling.inputs import Tick
from engine.store.store import Store

Result = TypeVar("Result")


class JumpingClock(SystemClock):
    """The system's clock, put forward by hand."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def jump(self, ms: int) -> None:
        self._ahead_ms += ms

    def wall_ms(self) -> int:
        return super().wall_ms() + self._ahead_ms

    def mono_ns(self) -> int:
        return super().mono_ns() + self._ahead_ms * 1_000_000


class Said:
    """A generation that says prepared words, one a delta. With `hold` it waits before its last word."""

    def __init__(self, model: Model, request: GenerateRequest, words: Sequence[str]) -> None:
        self._model = model
        self._words = list(words)
        self._said: list[str] = []
        self._tokens_in = sum(len(message.content.split()) for message in request.messages)
        self._adapters = tuple(AdapterUsed(name=use.name, digest="d", weight=use.weight) for use in request.adapters)
        self._stopped = asyncio.Event()
        self._outcome: Outcome | None = None

    async def __aiter__(self) -> AsyncIterator[Delta]:
        self._model.running += 1
        try:
            for place, word in enumerate(self._words):
                if self._model.hold is not None and place == len(self._words) - 1:
                    stopped = asyncio.ensure_future(self._stopped.wait())
                    held = asyncio.ensure_future(self._model.hold.wait())
                    try:
                        await asyncio.wait([stopped, held], return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        stopped.cancel()
                        held.cancel()
                if self._stopped.is_set():
                    break
                if self._model.fails is not None:
                    raise self._model.fails
                self._said.append(word)
                yield Delta(word + " ", 1)
            text = " ".join(self._said)
            self._outcome = Outcome(
                reason="cancelled" if self._stopped.is_set() else "stop",
                text=text,
                tokens_in=self._tokens_in,
                tokens_out=len(self._said),
                first_token_ms=1.0,
                total_ms=2.0,
                adapters=self._adapters,
                prompt=self._model.prompt,
            )
        finally:
            self._model.running -= 1

    @property
    def outcome(self) -> Outcome:
        assert self._outcome is not None
        return self._outcome

    async def cancel(self) -> None:
        self._stopped.set()


class Model:
    """A model whose context holds so many words; `asked` are its requests. It answers with the words in `answer`."""

    def __init__(self, context: int | None = 100) -> None:
        self.context = context
        self.answer = "it is four"
        self.hold: asyncio.Event | None = None
        self.fails: AiwmError | None = None
        self.running = 0
        self.asked: list[GenerateRequest] = []
        self.reservations: list[Reservation] = []
        self.prefetched: list[tuple[str, str, tuple[str, ...], bool]] = []
        self.grown: list[str] = []
        self.exact: dict[str, str] = {}
        self.prompt = ""

    def handle(self, model: str) -> Model:
        assert model == "m"
        return self

    def pinned(self, adapter: str) -> str:
        return self.exact.get(adapter, adapter)

    def check(self, model: str) -> None:
        pass

    def publish(self, model: str) -> None:
        pass

    def ensure(self, model: str) -> None:
        pass

    def prefetch(self, model: str, replica: str, adapters: tuple[str, ...], first: bool) -> None:
        self.prefetched.append((model, replica, adapters, first))

    def grow(self, model: str) -> None:
        self.grown.append(model)

    async def generate(self, request: GenerateRequest, reservation: Reservation) -> Said:
        words = sum(len(message.content.split()) for message in request.messages)
        if self.context is not None and words >= self.context:
            raise AiwmError(Code.prompt_too_long, f"the prompt has {words} tokens; this model holds {self.context}")
        self.asked.append(request)
        self.reservations.append(reservation)
        return Said(self, request, self.answer.split())


class House:
    """A manager with its requests. `call` asks it as a client would."""

    def __init__(self, home: Path, *workers: WorkerDefinition, model: Model | None = None, pool: int = 0) -> None:
        self.home = home
        self.model = model or Model()
        self.clock = JumpingClock()
        make_home(home)
        self.write_workers(*workers)
        pools = [PoolDefinition(name=it.name, definition=it.name, max_total=pool) for it in workers if pool]
        queues = [QueueDefinition(name=it.name, pools=(it.name,)) for it in pools]
        for file, definitions in (("ai_worker_pool_definitions", pools), ("ai_work_queue_definitions", queues)):
            path = home / f"{file}.json"
            if not path.exists():
                path.write_bytes(msgspec.json.encode(definitions))
        self.store = Store.open(database_path(home), clock=self.clock)
        self.touched: list[str] = []
        events = JournalEvents(self.store.journal, self.clock)
        self.manager = Manager(
            home,
            load_config({}).config,
            self.store,
            self.clock,
            events,
            self.model,
            self.model,
            Streams(),
            list,
            self.touched.append,
            lambda: "live",
        )
        self.table = RequestTable(events, read_only=False)
        self.manager.register(self.table)
        self.manager.slots.changed(ReplicaState(model="m", replica="m.0", total=8))

    def write_workers(self, *workers: WorkerDefinition) -> None:
        (self.home / "ai_worker_definitions.json").write_bytes(msgspec.json.encode(workers))

    async def __aenter__(self) -> Self:
        await self.manager.start(dispatch=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.manager.stop()
        await self.store.close()

    async def call(self, request: Request[Result], caller: Caller | None = None) -> Result:
        """Ask. Raises AiwmError as a client would see it."""
        data = await self.table.handle(
            request.method, msgspec.Raw(msgspec.json.encode(request)), caller or client(lambda _: True)
        )
        result: Result = msgspec.json.decode(data, type=result_type(type(request)))
        return result

    async def submit(self, queue: str, **payload: Any) -> str:
        return (await self.call(TaskSubmit(queue=queue, payload=payload))).id

    async def outcome(self, identifier: str) -> TaskOutcome:
        (outcome,) = await self.call(TaskWait(ids=(identifier,), timeout_ms=10_000))
        return outcome

    def jump(self, ms: int) -> None:
        """Let time pass, and everyone notice."""
        self.clock.jump(ms)
        self.manager.dispatcher.feed(Tick())
        self.manager.budget.look()


def client(send: Any, identifier: int = 1) -> Caller:
    return Caller(id=identifier, principal="operator", client="test", read_only=False, send=send)
