"""What the engine and a kind process say to each other over the pipe.

`work` names the attempt that a message is for (`t-4hq7x/1`): what a task left behind speaks for no later one."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.contract.definitions import WorkerDefinition
from engine.contract.errors import ErrorInfo
from engine.ports import GenerateRequest, Outcome, ToolDeclaration
from engine.workers.template import TaskInput


def work_of(task: TaskInput) -> str:
    return f"{task.id}/{task.attempt}"


class ProcessTask(msgspec.Struct, frozen=True, kw_only=True):
    """Engine to process, request: process this task, which may call these tools (None: none at all). The answer is a TaskOutput."""

    method: ClassVar[str] = "process"
    definition: WorkerDefinition
    task: TaskInput
    tools: tuple[ToolDeclaration, ...] | None = None


class AskModel(msgspec.Struct, frozen=True, kw_only=True):
    """Process to engine, request: start a generation under the task's reservation. The answer is its number."""

    method: ClassVar[str] = "generate"
    work: str
    request: GenerateRequest


class AskTool(msgspec.Struct, frozen=True, kw_only=True):
    """Process to engine, request: put a tool call to the gate. The answer is a ToolAnswer."""

    method: ClassVar[str] = "tool"
    work: str
    name: str
    arguments: Any = None


class StopModel(msgspec.Struct, frozen=True, kw_only=True):
    """Process to engine, request: stop a generation."""

    method: ClassVar[str] = "cancel"
    generation: int


class WriteText(msgspec.Struct, frozen=True, kw_only=True):
    """Process to engine, notification: text for the task's stream."""

    method: ClassVar[str] = "write"
    work: str
    text: str


class NoteInsight(msgspec.Struct, frozen=True, kw_only=True):
    """Process to engine, notification: an insight of the worker."""

    method: ClassVar[str] = "insight"
    work: str
    level: str
    message: str
    details: Any = None


class ModelSaid(msgspec.Struct, frozen=True, kw_only=True):
    """Engine to process, notification: a piece of a generation, or its end (an outcome or an error)."""

    method: ClassVar[str] = "said"
    generation: int
    text: str = ""
    tokens: int = 0
    outcome: Outcome | None = None
    error: ErrorInfo | None = None
