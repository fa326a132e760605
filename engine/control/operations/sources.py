"""Requests that define data sources. Reading from them is the tools' business."""

from __future__ import annotations

from engine.contract.records.definitions import SourceDetail, SourceRow
from engine.contract.requests import definitions as requests
from engine.control.catalogue import Catalogue
from engine.control.definer import Definer
from engine.control.definitions import Kind, stable_id
from engine.control.tables import Tables
from engine.requests.caller import Caller
from engine.requests.table import RequestTable


class SourceOperations:
    """Lists and changes of data sources."""

    def __init__(self, catalogue: Catalogue, definer: Definer, tables: Tables) -> None:
        self._catalogue = catalogue
        self._definer = definer
        self._tables = tables

    def register(self, table: RequestTable) -> None:
        table.register(requests.SourceList, self.list)
        table.register(requests.SourceShow, self.show)
        table.register(requests.SourceCreate, self.create)
        table.register(requests.SourceUpdate, self.update)
        table.register(requests.SourceDelete, self.delete)

    async def list(self, _: requests.SourceList, __: Caller) -> list[SourceRow]:
        return self._tables.sources()

    async def show(self, request: requests.SourceShow, _: Caller) -> SourceDetail:
        return self._detail(request.name)

    async def create(self, request: requests.SourceCreate, _: Caller) -> SourceDetail:
        await self._definer.create(request.definition)
        return self._detail(request.definition.name)

    async def update(self, request: requests.SourceUpdate, _: Caller) -> SourceDetail:
        await self._definer.update(Kind.source, request.name, request.changes, request.clear)
        return self._detail(request.name)

    async def delete(self, request: requests.SourceDelete, _: Caller) -> requests.Deleted:
        name = self._catalogue.source(request.name).name
        await self._definer.delete(Kind.source, name)
        return requests.Deleted(kind="source", name=name)

    def _detail(self, name: str) -> SourceDetail:
        source = self._catalogue.source(name)
        return SourceDetail(
            row=self._tables.source(source), definition=source, uuid=stable_id(Kind.source, source.name)
        )
