"""Requests about tools, data sources' files and effective contexts: who may use what, and trying it."""

from __future__ import annotations

import asyncio

from engine.contract.definitions import WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests import context as context_requests
from engine.contract.requests import sources as source_requests
from engine.contract.requests import tools as tool_requests
from engine.control.catalogue import Catalogue
from engine.control.contexts import Contexts
from engine.ports import EventSink
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.tools.gate import Lists, Verdict
from engine.tools.service import Rights, ToolService
from engine.tools.sources import Sources
from engine.tools.sync import sync

_MAX_FILES = 10_000


class ToolOperations:
    """Answers them. One sync of a source at a time."""

    def __init__(
        self,
        catalogue: Catalogue,
        contexts: Contexts,
        sources: Sources,
        tools: ToolService,
        events: EventSink,
        max_file_bytes: int,
    ) -> None:
        self._catalogue = catalogue
        self._contexts = contexts
        self._sources = sources
        self._tools = tools
        self._events = events
        self._max_file_bytes = max_file_bytes
        self._syncing = asyncio.Lock()

    def register(self, table: RequestTable) -> None:
        table.register(tool_requests.ToolList, self.tools)
        table.register(tool_requests.ToolCall, self.call)
        table.register(source_requests.SourceFiles, self.files)
        table.register(source_requests.SourceRead, self.read)
        table.register(source_requests.SourceSync, self.sync)
        table.register(context_requests.TaskContextShow, self.context)

    async def tools(self, request: tool_requests.ToolList, _: Caller) -> list[tool_requests.ToolRow]:
        if not request.definition:
            anything = Rights(principal="", lists=(Lists(whose="everyone", allow=("*",)),), sources=(), area="")
            return self._tools.survey(anything)
        return self._tools.survey(self._contexts.rights_as(self._worker(request.definition), ""))

    async def call(self, request: tool_requests.ToolCall, _: Caller) -> tool_requests.ToolResult:
        definition = self._worker(request.definition)
        rights = self._contexts.rights_as(definition, f"worker:{definition.name}")
        answer = await self._tools.call(rights, request.name, request.arguments)
        return tool_requests.ToolResult(
            tool=answer.tool, verdict=answer.verdict, gate=answer.gate, ok=answer.ok, text=answer.text, ms=answer.ms
        )

    async def files(self, request: source_requests.SourceFiles, _: Caller) -> source_requests.SourceListing:
        if not 1 <= request.limit <= _MAX_FILES:
            raise AiwmError(Code.bad_request, f"limit must lie between 1 and {_MAX_FILES}", field="limit")
        source = self._sources.find(request.name)
        files, more = await asyncio.to_thread(self._sources.files, source, request.limit)
        return source_requests.SourceListing(source=source.name, files=files, more=more)

    async def read(self, request: source_requests.SourceRead, _: Caller) -> source_requests.FileContent:
        source = self._sources.find(request.name)
        data = await asyncio.to_thread(self._sources.read, source, request.path, self._max_file_bytes)
        return source_requests.FileContent(
            source=source.name,
            path=request.path,
            size_bytes=len(data),
            text=data.decode("utf-8", "replace"),
            binary=b"\0" in data[:8192],
        )

    async def sync(self, request: source_requests.SourceSync, caller: Caller) -> source_requests.SyncResult:
        source = self._sources.find(request.name)
        async with self._syncing:
            done = await asyncio.to_thread(sync, self._sources, source, self._max_file_bytes)
        text = f"{len(done.copied)} copied, {len(done.skipped)} skipped, {len(done.failed)} failed to {done.target}"
        self._events.emit("warn" if done.failed else "info", "source.synced", source.name, text, who=caller.principal)
        return done

    async def context(self, request: context_requests.TaskContextShow, _: Caller) -> context_requests.EffectiveContext:
        return self._contexts.effective(request.id, self._sources.problem, self._permitted)

    def _permitted(self, rights: Rights) -> tuple[list[str], list[str]]:
        found: dict[str, list[str]] = {Verdict.allowed: [], Verdict.approval: []}
        for row in self._tools.survey(rights):
            found.get(row.allowed, []).append(row.id)
        return found[Verdict.allowed], found[Verdict.approval]

    def _worker(self, name: str) -> WorkerDefinition:
        try:
            return self._catalogue.worker(name)
        except AiwmError as error:
            raise AiwmError(error.code, error.info.message, field="definition", fix=error.info.fix) from None
