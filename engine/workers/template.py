"""WorkerTemplate: the base of every kind of worker, and what a kind is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import msgspec

from engine.contract.definitions import WorkerDefinition
from engine.ports import ContextFile, GenerateRequest, Generation, Lesson, ToolBox


class TaskInput(msgspec.Struct, frozen=True, kw_only=True):
    """A task as its worker sees it. `payload` is the submitted JSON object, untrusted; `deadline_ms` Unix time; `lessons` are
    what earlier tasks of its sort have taught, for its prompt; `files` are the file contexts that it begins with."""

    id: str
    attempt: int
    payload: dict[str, Any]
    deadline_ms: int | None = None
    lessons: tuple[Lesson, ...] = ()
    files: tuple[ContextFile, ...] = ()


class TaskOutput(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker made of a task. `result` must be JSON; token counts are 0 for kinds without a model."""

    result: Any
    summary: str = ""
    tokens_in: int = 0
    tokens_out: int = 0


class WorkerContext(Protocol):
    """What a kind may ask for while it works."""

    @property
    def tools(self) -> ToolBox | None:
        """What it may call, through the permission gate; None for a definition without tools."""

    async def generate(self, request: GenerateRequest) -> Generation:
        """Ask the definition's model. The reservation that the scheduler made for this task is used up here."""

    def write(self, text: str) -> None:
        """Append to the task's streamed text."""

    def insight(self, level: str, message: str, details: Any = None) -> None:
        """Note something about the work for those who look after it: shown with the task, joined in its record. `level` is debug, info,
        warn or error, `details` any JSON."""


class WorkerTemplate(ABC):
    """Base of all kinds. One object is made per instance and processes one task at a time.

    `idempotent`: processing a task twice does no harm, so its start need not be on disk before it runs. `isolated`: runs in a
    process of its own; every kind from another package does. `process` is a coroutine and may not block."""

    kind: ClassVar[str]
    idempotent: ClassVar[bool] = False
    isolated: ClassVar[bool] = False
    uses_model: ClassVar[bool] = False

    def __init__(self, definition: WorkerDefinition) -> None:
        self.definition = definition

    def check(self, payload: dict[str, Any]) -> None:  # noqa: B027 (a kind without demands on its payload is a kind)
        """Refuse a payload that this kind can never process: raise AiwmError `payload_invalid` naming the field."""

    @abstractmethod
    async def process(self, task: TaskInput, context: WorkerContext) -> TaskOutput:
        """Do the task. An AiwmError says whether a retry may help; any other exception is a failure that is retried."""
