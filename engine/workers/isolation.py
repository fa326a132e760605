"""What the engine and a kind process say to each other over the pipe."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.definitions import WorkerDefinition
from engine.contract.errors import ErrorInfo
from engine.ports import GenerateRequest, Outcome
from engine.workers.template import TaskInput


class ProcessTask(msgspec.Struct, frozen=True, kw_only=True):
    """Engine to process, request: process this task. The answer is a TaskOutput."""

    method: ClassVar[str] = "process"
    definition: WorkerDefinition
    task: TaskInput


class AskModel(msgspec.Struct, frozen=True, kw_only=True):
    """Process to engine, request: start a generation under the task's reservation. The answer is its number."""

    method: ClassVar[str] = "generate"
    request: GenerateRequest


class StopModel(msgspec.Struct, frozen=True, kw_only=True):
    """Process to engine, request: stop a generation."""

    method: ClassVar[str] = "cancel"
    generation: int


class WriteText(msgspec.Struct, frozen=True, kw_only=True):
    """Process to engine, notification: text for the task's stream."""

    method: ClassVar[str] = "write"
    text: str


class ModelSaid(msgspec.Struct, frozen=True, kw_only=True):
    """Engine to process, notification: a piece of a generation, or its end (an outcome or an error)."""

    method: ClassVar[str] = "said"
    generation: int
    text: str = ""
    tokens: int = 0
    outcome: Outcome | None = None
    error: ErrorInfo | None = None
