"""Requests about operations: changes that are done now or later, what became of them, and taking them back."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.contract.records.operations import OperationRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class OperationDetail(msgspec.Struct, frozen=True, kw_only=True):
    """An operation whole: the ids that it was fixed to, its settings, and which of them were refused, why."""

    row: OperationRow
    ids: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    done: tuple[str, ...] = ()
    refused: dict[str, str] = {}


class OperationList(Request[list[OperationRow]], frozen=True, kw_only=True):
    """Operations, the newest first."""

    method: ClassVar[str] = "operation.list"
    effect: ClassVar[Effect] = Effect.read

    limit: int = 100


class OperationShow(Request[OperationDetail], frozen=True, kw_only=True):
    """An operation whole: what it is about and what became of it."""

    method: ClassVar[str] = "operation.show"
    effect: ClassVar[Effect] = Effect.read

    id: str


class Undone(msgspec.Struct, frozen=True, kw_only=True):
    """What an undo took back. `refused` says of each of the others what has happened to it."""

    id: str
    state: str
    taken_back: list[str] = []
    refused: dict[str, str] = {}


class OperationUndo(Request[Undone], frozen=True, kw_only=True):
    """Take an operation back: one that waits is never done; of one that was done, what has not gone further since is put back."""

    method: ClassVar[str] = "operation.undo"
    effect: ClassVar[Effect] = Effect.write

    id: str


class OperationDefer(Request[OperationRow], frozen=True, kw_only=True):
    """Do a request later: it is stored as an operation, done when it is due (after a restart too) unless it is undone before."""

    method: ClassVar[str] = "operation.defer"
    effect: ClassVar[Effect] = Effect.write

    request: str
    params: dict[str, Any] = {}
    delay_ms: int = 5_000
