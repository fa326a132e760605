"""The columns of each table on the command line, by what the table is about."""

from __future__ import annotations

from aiwm_tui.cli.columns.cells import Column, text
from aiwm_tui.cli.columns.definitions import DEFINITIONS
from aiwm_tui.cli.columns.models import MODELS
from aiwm_tui.cli.columns.work import WORK

__all__ = ["COLUMNS", "Column", "columns_of"]

COLUMNS: dict[str, tuple[Column, ...]] = WORK | MODELS | DEFINITIONS


def columns_of(table: str) -> tuple[Column, ...]:
    """The columns of a table; one without any here shows all fields of its record."""
    if table in COLUMNS:
        return COLUMNS[table]
    from engine.contract.records import TABLES

    fields = TABLES[table].__struct_fields__
    return tuple(text(name.upper(), name, priority=place, whole=not place) for place, name in enumerate(fields))
