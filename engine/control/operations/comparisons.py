"""Requests about prompts under several adapters. Whoever asked may leave: what is under way for it is stopped."""

from __future__ import annotations

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
        return await self._comparing.task(request, caller.principal)

    async def adapters(self, request: AdapterCompare, caller: Caller) -> Comparison:
        return await self._comparing.given(request, caller.principal)
