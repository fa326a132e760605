"""Requests about tools: what a definition may call and why not, and a call with a definition's rights."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.contract.records import Record
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class ToolRow(Record, frozen=True, kw_only=True):
    """A tool by name. `allowed` is the gate's word: allowed, approval (a person must approve each call), denied, not_allowed, blocked,
    unknown; `gate` the question that decided. `request` is the request behind it ("" for a file tool)."""

    allowed: str
    gate: str
    why: str
    effect: str
    request: str
    description: str


class ToolList(Request[list[ToolRow]], frozen=True, kw_only=True):
    """Every tool, and whether a worker definition may call it. Without a definition: what there is, and what needs approval."""

    method: ClassVar[str] = "tool.list"
    effect: ClassVar[Effect] = Effect.read

    definition: str = ""


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call: `verdict` and `gate` as in ToolRow, `ok` whether the tool did its work, `text` its answer."""

    tool: str
    verdict: str
    gate: str
    ok: bool
    text: str
    ms: float


class ToolCall(Request[ToolResult], frozen=True, kw_only=True):
    """Call a tool with the rights of a worker definition, through the same gate as its tasks: to see what they would get."""

    method: ClassVar[str] = "tool.call"
    effect: ClassVar[Effect] = Effect.write

    name: str
    definition: str
    arguments: dict[str, Any] = {}
