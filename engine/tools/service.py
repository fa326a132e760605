"""Calling tools: every call passes the gate, becomes an event, and is made on behalf of whoever it is for, with no right of ours."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from engine.contract.errors import AiwmError
from engine.contract.ids import task_seq
from engine.contract.requests.tools import ToolRow
from engine.ports import EventSink, ToolAnswer, ToolDeclaration
from engine.requests.approvals import Approvals
from engine.requests.caller import Caller
from engine.requests.grants import Grant
from engine.requests.table import RequestTable
from engine.tools.catalogue import all_tools, canonical
from engine.tools.files import FileTools, View
from engine.tools.gate import Decision, Lists, Tool, Verdict, decide, permitted

_ARGUMENTS_SHOWN = 300


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, and what it may. `principal` is `task:…` or `worker:…`; `lists` are its definition's and, for a task that another
    started, those of every task above it; `sources` the data sources in force, in order; `area` its own folder beneath files/."""

    principal: str
    lists: tuple[Lists, ...]
    sources: tuple[str, ...]
    area: str
    task: str | None = None


class ToolService:
    """The one way to call a tool. `max_chars` cuts answers, `timeout_ms` bounds a call."""

    def __init__(
        self,
        files: FileTools,
        table: RequestTable,
        approvals: Approvals,
        events: EventSink,
        *,
        max_chars: int,
        timeout_ms: int,
    ) -> None:
        self._files = files
        self._table = table
        self._approvals = approvals
        self._events = events
        self._under_way: set[asyncio.Future[bytes]] = set()
        self._max_chars = max_chars
        self._timeout_ms = timeout_ms

    def declared(self, rights: Rights) -> tuple[ToolDeclaration, ...]:
        """What a model is told of: what it may call, the destructive left out."""
        lists = _canonical(rights.lists)
        return tuple(
            ToolDeclaration(name=tool.name, description=tool.description, parameters=tool.schema)
            for tool in all_tools().values()
            if permitted(tool.name, lists, all_tools()).allowed
        )

    def survey(self, rights: Rights) -> list[ToolRow]:
        """Every tool, whether it may be called, and which gate says so; names on a list that no tool has come last."""
        registry, lists = all_tools(), _canonical(rights.lists)
        named = {name for each in lists for name in (*each.allow, *each.deny) if not set("*?[") & set(name)}
        names = [*registry, *sorted(named - registry.keys())]
        return [_row(permitted(name, lists, registry), registry.get(name)) for name in names]

    async def read(self, rights: Rights, path: str) -> str:
        """A file context of a definition or an instance: named by an operator, read with the rights of what it is for."""
        view = View(sources=rights.sources, area=rights.area)
        return await asyncio.to_thread(self._files.read, view, path)

    async def call(self, rights: Rights, name: str, arguments: Any) -> ToolAnswer:
        """Decide and, if allowed, do. Everything that can go wrong is in the answer, and in the events."""
        begun = time.monotonic()
        decision, made = decide(canonical(name), arguments, _canonical(rights.lists), all_tools())
        self._tell(rights, decision, arguments)
        if decision.verdict is Verdict.approval:
            return await self._parked(rights, decision, made)
        if not decision.allowed:
            return _answer(decision, ok=False, text=f"refused: {decision.why}")
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                text = await self._perform(rights, all_tools()[decision.tool], made)
        except TimeoutError:
            return self._failed(rights, decision, f"{decision.tool} took longer than {self._timeout_ms} ms", begun)
        except AiwmError as error:
            return self._failed(rights, decision, str(error), begun)
        return _answer(decision, ok=True, text=self._cut(text), begun=begun)

    async def _perform(self, rights: Rights, tool: Tool, arguments: msgspec.Struct) -> str:
        if not tool.method:
            view = View(sources=rights.sources, area=rights.area)
            return await asyncio.to_thread(self._files.perform, view, arguments)
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        caller = Caller(
            id=0,
            principal=rights.principal,
            client="tool",
            read_only=False,
            send=lambda _: False,
            grant=Grant(sources=frozenset(rights.sources)),
            gone=gone,
        )
        made = asyncio.ensure_future(
            self._table.handle(tool.method, msgspec.Raw(msgspec.json.encode(arguments)), caller)
        )
        self._under_way.add(made)
        made.add_done_callback(self._made)
        try:
            return (await asyncio.shield(made)).decode()
        except asyncio.CancelledError:
            # As at the doors: what only looks ends with its asker, what changes something is done whole.
            gone.set_result(None)
            if self._table.only_reads(tool.method):
                made.cancel()
            raise

    def _made(self, made: asyncio.Future[bytes]) -> None:
        self._under_way.discard(made)
        if not made.cancelled():
            made.exception()  # its asker may be gone; then nobody else looks at it

    async def _parked(self, rights: Rights, decision: Decision, arguments: msgspec.Struct) -> ToolAnswer:
        tool = all_tools()[decision.tool]
        try:
            row = await self._approvals.park(
                tool.method, msgspec.to_builtins(arguments), rights.principal, rights.sources, decision.why, rights.task
            )
        except AiwmError as error:
            return _answer(decision, ok=False, text=f"refused: {error}")
        return _answer(
            decision,
            ok=False,
            text=f"not done: {decision.tool} waits for a person's approval as {row.id}. Do not wait for it.",
        )

    def _failed(self, rights: Rights, decision: Decision, why: str, begun: float) -> ToolAnswer:
        self._emit(rights, "warn", "tool.failed", decision.tool, why)
        return _answer(decision, ok=False, text=f"failed: {self._cut(why)}", begun=begun)

    def _tell(self, rights: Rights, decision: Decision, arguments: Any) -> None:
        shown = _shown(arguments)
        if decision.allowed:
            self._emit(rights, "info", "tool.allowed", decision.tool, shown)
        elif decision.verdict is Verdict.approval:
            self._emit(rights, "warn", "tool.parked", decision.tool, f"{shown}: {decision.why}")
        else:
            self._emit(rights, "warn", "tool.denied", decision.tool, f"{shown}: {decision.why} (gate {decision.gate})")

    def _emit(self, rights: Rights, level: str, type_: str, tool: str, text: str) -> None:
        seq = task_seq(rights.task) if rights.task else None
        self._events.emit(
            level, type_, rights.task or rights.principal, f"{tool} {text}", who=rights.principal, task_seq=seq
        )

    def _cut(self, text: str) -> str:
        if len(text) <= self._max_chars:
            return text
        return f"{text[: self._max_chars]}\n… cut: {len(text)} characters in all"


class TaskTools:
    """The tools of one task (`ports.ToolBox`)."""

    def __init__(self, service: ToolService, rights: Rights) -> None:
        self._service = service
        self._rights = rights
        self._declared: tuple[ToolDeclaration, ...] | None = None

    @property
    def declared(self) -> tuple[ToolDeclaration, ...]:
        if self._declared is None:
            self._declared = self._service.declared(self._rights)
        return self._declared

    async def call(self, name: str, arguments: Any) -> ToolAnswer:
        return await self._service.call(self._rights, name, arguments)


def _canonical(lists: tuple[Lists, ...]) -> tuple[Lists, ...]:
    return tuple(
        Lists(whose=each.whose, allow=tuple(map(canonical, each.allow)), deny=tuple(map(canonical, each.deny)))
        for each in lists
    )


def _row(decision: Decision, tool: Tool | None) -> ToolRow:
    return ToolRow(
        id=decision.tool,
        allowed=decision.verdict.value,
        gate=decision.gate,
        why=decision.why,
        effect=tool.effect.value if tool is not None else "",
        request=tool.method if tool is not None else "",
        description=tool.description if tool is not None else "",
    )


def _answer(decision: Decision, *, ok: bool, text: str, begun: float | None = None) -> ToolAnswer:
    ms = 0.0 if begun is None else round((time.monotonic() - begun) * 1000, 1)
    return ToolAnswer(tool=decision.tool, verdict=decision.verdict.value, gate=decision.gate, ok=ok, text=text, ms=ms)


def _shown(arguments: Any) -> str:
    """Arguments as one short line of an event. They come from a model: anything at all."""
    try:
        text = msgspec.json.encode(arguments).decode()
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):
        text = f"({type(arguments).__name__})"
    return text if len(text) <= _ARGUMENTS_SHOWN else f"{text[:_ARGUMENTS_SHOWN]}…"
