"""Requests about task templates."""

from __future__ import annotations

from engine.contract.records.definitions import TemplateDetail, TemplateRow
from engine.contract.requests import definitions as requests
from engine.control.catalogue import Catalogue
from engine.control.definer import Definer
from engine.control.definitions import Kind, stable_id
from engine.control.rows import template_row
from engine.requests.caller import Caller
from engine.requests.table import RequestTable


class TemplateOperations:
    """Lists and changes of task templates. What was submitted from one stays as it is."""

    def __init__(self, catalogue: Catalogue, definer: Definer) -> None:
        self._catalogue = catalogue
        self._definer = definer

    def register(self, table: RequestTable) -> None:
        table.register(requests.TemplateList, self.list)
        table.register(requests.TemplateShow, self.show)
        table.register(requests.TemplateCreate, self.create)
        table.register(requests.TemplateUpdate, self.update)
        table.register(requests.TemplateDelete, self.delete)

    async def list(self, _: requests.TemplateList, __: Caller) -> list[TemplateRow]:
        return [template_row(template) for template in self._catalogue.templates.values()]

    async def show(self, request: requests.TemplateShow, _: Caller) -> TemplateDetail:
        return self._detail(request.name)

    async def create(self, request: requests.TemplateCreate, _: Caller) -> TemplateDetail:
        await self._definer.create(request.definition)
        return self._detail(request.definition.name)

    async def update(self, request: requests.TemplateUpdate, _: Caller) -> TemplateDetail:
        await self._definer.update(Kind.template, request.name, request.changes, request.clear)
        return self._detail(request.name)

    async def delete(self, request: requests.TemplateDelete, _: Caller) -> requests.Deleted:
        name = self._catalogue.template(request.name).name
        await self._definer.delete(Kind.template, name)
        return requests.Deleted(kind="template", name=name)

    def _detail(self, name: str) -> TemplateDetail:
        template = self._catalogue.template(name)
        return TemplateDetail(
            row=template_row(template), definition=template, uuid=stable_id(Kind.template, template.name)
        )
