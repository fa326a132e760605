"""Requests about prompts under several adapters. Whoever asked may leave: what is under way for it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from engine.contract.errors import AiwmError, Code
from engine.contract.requests.comparisons import AdapterCompare, Comparison, PromptText, TaskCompare, TaskPrompt
from engine.control.adapters.comparing import Comparing
from engine.requests.caller import Caller
from engine.requests.table import RequestTable


class ComparisonOperations:
    def __init__(self, comparing: Comparing) -> None:
        self._comparing = comparing

    def register(self, table: RequestTable) -> None:
        table.register(TaskPrompt, self.prompt)
        table.register(TaskCompare, self.task)
        table.register(AdapterCompare, self.adapters)

    async def prompt(self, request: TaskPrompt, _: Caller) -> PromptText:
        return self._comparing.prompt(request.id)

    async def task(self, request: TaskCompare, caller: Caller) -> Comparison:
        return await _while_there(self._comparing.task(request, caller.principal), caller)

    async def adapters(self, request: AdapterCompare, caller: Caller) -> Comparison:
        return await _while_there(self._comparing.given(request, caller.principal), caller)


async def _while_there(work: Coroutine[Any, Any, Comparison], caller: Caller) -> Comparison:
    """Do it for as long as the one who asked is connected."""
    task = asyncio.ensure_future(work)
    waits: set[asyncio.Future[Any]] = {task}
    if caller.gone is not None:
        waits.add(caller.gone)
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise AiwmError(Code.connection_lost, "the one who asked is gone")
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})
