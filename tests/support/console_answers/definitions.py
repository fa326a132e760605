"""Answers about definitions that are made and changed by form, and about what is scaled."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.definitions import DataSource, PoolDefinition, QueueDefinition, TaskTemplate
from engine.contract.errors import AiwmError, Code
from engine.contract.partial import merged
from engine.contract.records import PoolDetail, QueueDetail
from engine.contract.records.definitions import ScaleStep, SourceDetail, SourceRow, TemplateDetail, TemplateRow
from engine.contract.requests import definitions as crud
from engine.contract.requests import fleet, sources
from tests.support.console_engine import ConsoleEngine, answers
from tests.support.rows import pool_row, queue_row

TEMPLATE = TaskTemplate(
    name="invoice",
    description="Reads an invoice.",
    queue="demo",
    defaults={"prompt": "Who sent this invoice?"},
    payload_schema={"type": "object", "required": ["prompt", "text"], "properties": {"text": {"type": "string"}}},
)
SOURCE = DataSource(name="inv-2026", path="invoices", filters=("*.txt",))


def template_row(template: TaskTemplate) -> TemplateRow:
    return TemplateRow(
        id=template.name,
        queue=template.queue,
        definition=template.definition,
        capabilities=template.capabilities,
        priority=template.priority,
        fields=tuple(template.payload_schema.get("properties", ())),
        digest="41ac9f00d1",
        description=template.description,
    )


def source_row(source: DataSource) -> SourceRow:
    return SourceRow(
        id=source.name,
        state="usable",
        type=source.type.value,
        path=source.path,
        external=source.external,
        read_only=source.read_only,
        filters=source.filters,
        target=source.target,
        used_by=("pool demo",),
        note="",
        description=source.description,
    )


def _detail(engine: ConsoleEngine, table: str, definition: Any) -> Any:
    """Put a definition and its row in place; what the engine answers."""
    engine.definitions[table, definition.name] = definition
    if table == "queues":
        known = engine.tables[table].get(definition.name) or queue_row(definition.name, waiting=0, running=0)
        row: Any = msgspec.structs.replace(known, pools=definition.pools)
    elif table == "pools":
        known = engine.tables[table].get(definition.name) or pool_row(definition.name)
        limits = {"min_idle": definition.min_idle, "max_total": definition.max_total}
        row = msgspec.structs.replace(known, definition=definition.definition, **limits)
    else:
        row = template_row(definition) if table == "templates" else source_row(definition)
    engine.put(table, row)
    kinds: dict[str, Any] = {
        "queues": QueueDetail,
        "pools": PoolDetail,
        "templates": TemplateDetail,
        "sources": SourceDetail,
    }
    return kinds[table](row=row, definition=definition)


def definition_of(engine: ConsoleEngine, table: str, name: str) -> Any:
    """What is in force under a name."""
    row = engine.row(table, name)
    known = engine.definitions.get((table, name))
    if known is not None:
        return known
    if table == "queues":
        return QueueDefinition(name=name, pools=row.pools)
    if table == "templates":
        return TaskTemplate(name=name, queue=row.queue, description=row.description)
    if table == "sources":
        return DataSource(name=name, path=row.path, description=row.description)
    return PoolDefinition(name=name, definition=row.definition, min_idle=row.min_idle, max_total=row.max_total)


_TABLES: dict[type, str] = {
    **dict.fromkeys((fleet.QueueCreate, fleet.QueueShow, crud.QueueUpdate, crud.QueueDelete), "queues"),
    **dict.fromkeys((fleet.PoolCreate, fleet.PoolShow, crud.PoolUpdate, crud.PoolDelete), "pools"),
    **dict.fromkeys((crud.TemplateCreate, crud.TemplateShow, crud.TemplateUpdate, crud.TemplateDelete), "templates"),
    **dict.fromkeys((crud.SourceCreate, crud.SourceShow, crud.SourceUpdate, crud.SourceDelete), "sources"),
}


@answers(fleet.QueueCreate, fleet.PoolCreate, crud.TemplateCreate, crud.SourceCreate)
def _create(engine: ConsoleEngine, request: Any) -> Any:
    table = _TABLES[type(request)]
    if request.definition.name in engine.tables[table]:
        raise AiwmError(
            Code.conflict, f'"{request.definition.name}" exists', field="definition.name", fix="another name"
        )
    return _detail(engine, table, request.definition)


@answers(fleet.QueueShow, fleet.PoolShow, crud.TemplateShow, crud.SourceShow)
def show(engine: ConsoleEngine, request: Any) -> Any:
    table = _TABLES[type(request)]
    return _detail(engine, table, definition_of(engine, table, request.name))


@answers(crud.QueueUpdate, crud.PoolUpdate, crud.TemplateUpdate, crud.SourceUpdate)
def _update(engine: ConsoleEngine, request: Any) -> Any:
    table = _TABLES[type(request)]
    return _detail(engine, table, merged(definition_of(engine, table, request.name), request.changes, request.clear))


@answers(crud.QueueDelete, crud.PoolDelete, crud.TemplateDelete, crud.SourceDelete)
def _delete(engine: ConsoleEngine, request: Any) -> crud.Deleted:
    engine.remove(_TABLES[type(request)], request.name)
    return crud.Deleted(kind=request.method.partition(".")[0], name=request.name)


@answers(crud.QueueDrain)
def _drain(engine: ConsoleEngine, request: crud.QueueDrain) -> QueueDetail:
    engine.change("queues", request.name, state="draining")
    return QueueDetail(row=engine.row("queues", request.name), definition=definition_of(engine, "queues", request.name))


@answers(sources.SourceFiles)
def _files(engine: ConsoleEngine, request: sources.SourceFiles) -> sources.SourceListing:
    file = sources.SourceFile(id="0431.txt", size_bytes=2_148, modified_ms=engine.now() - 60_000)
    return sources.SourceListing(source=request.name, files=[file])


@answers(crud.PoolHistory)
def _history(engine: ConsoleEngine, request: crud.PoolHistory) -> list[ScaleStep]:
    return engine.steps.get(request.name, [])
