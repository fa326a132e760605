"""Requests about views."""

from __future__ import annotations

from engine.contract.requests.session import ViewClose, ViewMove, ViewOpen, ViewRead, ViewRows
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.views.service import ViewService


class ViewOperations:
    """Views belong to the connection that opened them."""

    def __init__(self, views: ViewService) -> None:
        self._views = views

    def register(self, table: RequestTable) -> None:
        table.register(ViewOpen, self.open)
        table.register(ViewMove, self.move)
        table.register(ViewClose, self.close)
        table.register(ViewRead, self.read)

    async def open(self, request: ViewOpen, caller: Caller) -> ViewRows:
        return await self._views.open(caller.id, caller.send, request)

    async def move(self, request: ViewMove, caller: Caller) -> ViewRows:
        return await self._views.move(caller.id, request)

    async def close(self, request: ViewClose, caller: Caller) -> None:
        self._views.shut(caller.id, request.view)

    async def read(self, request: ViewRead, _: Caller) -> ViewRows:
        return await self._views.read(request)
