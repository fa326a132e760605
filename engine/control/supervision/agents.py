"""Agents that supervise: a worker definition, asked in a worker of its own, or a live instance, asked in its chat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from engine.contract.definitions import DefinitionStatus, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.models import model_name
from engine.contract.records.instances import ChatTurn
from engine.contract.requests.instances import InstanceChat
from engine.control import adapter_names
from engine.control.budget import Budget
from engine.control.catalogue import Catalogue
from engine.control.execution import TaskContext, execute
from engine.control.instances import Instance
from engine.control.slots import Slots
from engine.control.supervision.asking import INSTRUCTION
from engine.home import log_path
from engine.ports import Models, ToolBox
from engine.requests.caller import Caller
from engine.workers.isolated import IsolatedWorker, worker_for
from engine.workers.registry import KindRegistry
from engine.workers.template import TaskInput

PRINCIPAL = "supervisor"
ANSWER_TOKENS = 256
_CHARS = 3
TIMEOUT_S = 300.0
_LARGEST = 12_000
_UNKNOWN = 6_000
_MAX_RESULT = 65_536


class Loader(Protocol):
    """What is needed of inference beside the models."""

    def ensure(self, model: str) -> None: ...


class Chats(Protocol):
    """Where live instances are talked to."""

    async def chat(self, request: InstanceChat, caller: Caller) -> ChatTurn: ...


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent said, as text or data, and what that took."""

    said: Any
    tokens_in: int = 0
    tokens_out: int = 0


class Agents:
    """Asks them. Every call of a model has leave from the budget of the agent's own definition and holds one of the model's slots; what
    an agent calls while it reviews passes the gate with its own definition's rights (`tools`)."""

    def __init__(
        self,
        home: Path,
        catalogue: Catalogue,
        kinds: KindRegistry,
        chats: Callable[[], Chats],
        models: Models,
        budget: Budget,
        slots: Slots,
        loader: Loader,
        is_instance: Callable[[str], bool],
        tools: Callable[[WorkerDefinition], ToolBox | None],
    ) -> None:
        self._home = home
        self._catalogue = catalogue
        self._kinds = kinds
        self._chats = chats
        self._models = models
        self._budget = budget
        self._slots = slots
        self._loader = loader
        self._is_instance = is_instance
        self._tools = tools

    def kind(self, reference: str) -> str:
        """instance, definition or missing."""
        if self._is_instance(reference):
            return "instance"
        return "definition" if reference in self._catalogue.workers else "missing"

    def room(self, reference: str) -> int:
        """How many characters a question may have."""
        worker = self._catalogue.workers.get(reference)
        context = (worker.context_tokens or self._context(worker)) if worker is not None else 0
        if not context:
            return _UNKNOWN
        return max(0, min(_LARGEST, (context - _answer_tokens(context)) * _CHARS - len(INSTRUCTION)))

    def _context(self, worker: WorkerDefinition) -> int:
        return (self._models.handle(model_name(worker)).context or 0) if worker.model else 0

    async def ask(self, reference: str, about: str, question: str) -> Answer:
        """Raises AiwmError: `not_found`, `not_active`, `timeout`, whatever the model or the instance raises."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._is_instance(reference):
                    return await self._in_chat(reference, question)
                return await self._as_worker(self._catalogue.worker(reference), about, question)
        except TimeoutError:
            raise AiwmError(Code.timeout, f"{reference} gave no answer in {TIMEOUT_S:g} s", retryable=True) from None

    async def _in_chat(self, reference: str, question: str) -> Answer:
        caller = Caller(id=0, principal=PRINCIPAL, client=PRINCIPAL, read_only=False, send=lambda _: False)
        turn = await self._chats().chat(InstanceChat(id=reference, message=f"{INSTRUCTION}\n{question}"), caller)
        return Answer(said=turn.text, tokens_in=turn.tokens_in, tokens_out=turn.tokens_out)

    async def _as_worker(self, definition: WorkerDefinition, about: str, question: str) -> Answer:
        if definition.status is not DefinitionStatus.active:
            raise AiwmError(Code.not_active, f'worker definition "{definition.name}" is {definition.status.value}')
        worker = worker_for(self._kinds, definition, log_path(self._home, f"supervisor-{definition.name}"))
        instance = Instance(f"{PRINCIPAL}/{definition.name}", "", definition, worker, 0)
        work = TaskInput(id=f"review/{about}", attempt=1, payload=self._payload(definition, question))
        context = TaskContext(self._models, self._budget, definition, work, _unheard, _unheard, self._tools(definition))
        try:
            if definition.model:
                self._loader.ensure(model_name(definition))
                with self._slots.held(model_name(definition), adapter_names.of(definition)) as context.replica:
                    ended = await execute(instance, work, context, _MAX_RESULT)
            else:
                ended = await execute(instance, work, context, _MAX_RESULT)
        finally:
            if isinstance(worker, IsolatedWorker):
                worker.close()
        if ended.error is not None:
            raise AiwmError.of(ended.error)
        said = msgspec.json.decode(ended.result or b"null")
        return Answer(said=said, tokens_in=ended.tokens_in or 0, tokens_out=ended.tokens_out or 0)

    def _payload(self, definition: WorkerDefinition, question: str) -> dict[str, Any]:
        """The question in the words of the definition's kind: the LLM worker takes a conversation, others a prompt."""
        if definition.kind != "goat":
            return {"prompt": f"{INSTRUCTION}\n{question}"}
        system = f"{definition.system}\n{INSTRUCTION}".strip()
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        context = definition.context_tokens or self._context(definition)
        return {"messages": messages, "temperature": 0.0, "max_tokens": _answer_tokens(context)}


def _unheard(_: object) -> None:
    """Nobody follows what a reviewer writes, or sees it wait for its budget."""


def _answer_tokens(context: int) -> int:
    """What an answer may have: a quarter of a small context."""
    return min(ANSWER_TOKENS, context // 4) if context else ANSWER_TOKENS
