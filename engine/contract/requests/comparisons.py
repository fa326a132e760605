"""Requests about what a model read, and what it would have written under other adapters."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.definitions import AdapterUse
from engine.contract.errors import ErrorInfo
from engine.contract.requests.base import Request
from engine.contract.states import Effect

BASE = "base"
"""Stands for no adapter at all."""


class PromptText(msgspec.Struct, frozen=True, kw_only=True):
    """What a task's model read. `kept`: `text` is the rendered prompt as it was read in the last call, special tokens and all. Otherwise it
    is not known any more (or only the model's server knows it) and `text` are the messages that would be sent now."""

    id: str
    text: str
    kept: bool
    note: str = ""


class TaskPrompt(Request[PromptText], frozen=True, kw_only=True):
    """The prompt of a task as its model read it. It is kept as long as the task, unless it is longer than models.keep_prompt_chars (0 keeps
    none)."""

    method: ClassVar[str] = "task.prompt"
    effect: ClassVar[Effect] = Effect.read

    id: str


class AppliedAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter as it was applied: its exact name, the hex SHA-256 of its content."""

    name: str
    digest: str
    weight: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one variant: its text, or its error. Times in ms. `same_prompt`: the model read exactly the prompt that is compared."""

    label: str
    asked: tuple[AdapterUse, ...]
    adapters: tuple[AppliedAdapter, ...] = ()
    text: str = ""
    reason: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    first_token_ms: float = 0.0
    total_ms: float = 0.0
    process: str = ""
    same_prompt: bool = True
    error: ErrorInfo | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt under several sets of adapters, drawn with one seed. `about` is the task that it is of ("" for a prompt that was given),
    `original` what that one wrote. `kept`: the prompt is the one that was read then, not made anew."""

    about: str
    model: str
    definition: str
    prompt: str
    kept: bool
    seed: int
    answers: list[Answer]
    original: str = ""


class TaskCompare(Request[Comparison], frozen=True, kw_only=True):
    """Put a task's prompt to its model again, under several adapters, and show the answers side by side. The task itself stays as it is.

    `adapters` are `base`, `invoice-de`, `invoice-de@v3`, `invoice-de@v3:0.5` or several blended `a@v1+b@v2:0.5`. With `weights` each of
    them but base is tried with each weight. `seed` None takes the task's own, or one for all. It costs tokens of the task's definition."""

    method: ClassVar[str] = "task.compare"
    effect: ClassVar[Effect] = Effect.write
    withdrawable: ClassVar[bool] = True

    id: str
    adapters: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    seed: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None


class AdapterCompare(Request[Comparison], frozen=True, kw_only=True):
    """Put one prompt to a model under several adapters, written as in task.compare, and show the answers side by side; a single one is
    compared with base.

    `definition` is the worker whose model, instruction, sampling and limits are used; without one the model is the adapters' base."""

    method: ClassVar[str] = "adapter.compare"
    effect: ClassVar[Effect] = Effect.write
    unlogged: ClassVar[tuple[str, ...]] = ("prompt",)
    withdrawable: ClassVar[bool] = True

    names: tuple[str, ...]
    prompt: str = ""
    definition: str = ""
    weights: tuple[float, ...] = ()
    seed: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
