"""Records of definitions that do nothing by themselves (task templates, data sources), and of what pools did."""

from __future__ import annotations

import msgspec

from engine.contract.definitions import DataSource, TaskTemplate
from engine.contract.records.core import Record


class TemplateRow(Record, frozen=True, kw_only=True):
    """A task template as a row. `fields` are those that its payload schema names, `digest` names its exact content."""

    queue: str
    definition: str
    capabilities: tuple[str, ...]
    priority: int | None
    fields: tuple[str, ...]
    digest: str
    description: str


class SourceRow(Record, frozen=True, kw_only=True):
    """A data source as a row. `state` is usable, or missing, or denied (config.toml does not allow its directory), and `note` says
    why. `used_by` are the definitions that name it, such as `pool demo`."""

    state: str
    type: str
    path: str
    external: bool
    read_only: bool
    filters: tuple[str, ...]
    target: str
    used_by: tuple[str, ...]
    note: str
    description: str


class TemplateDetail(msgspec.Struct, frozen=True, kw_only=True):
    row: TemplateRow
    definition: TaskTemplate
    uuid: str = ""


class SourceDetail(msgspec.Struct, frozen=True, kw_only=True):
    row: SourceRow
    definition: DataSource
    uuid: str = ""


class ScaleStep(Record, frozen=True, kw_only=True):
    """One step of a pool's scaling. `change` is +1 (spawned), -1 (retired) or 0 (a spawn that failed); `reason` why; the numbers are what
    the pool had after it, and `waiting` the tasks that waited for it. `id` is the pool's name and the step's number. `out_before` is how
    many tasks ended in the pool in the minute before, `out_after` in the minute after it (None: not over yet, not known, or another
    step followed within it)."""

    at_ms: int
    pool: str
    change: int
    instance: str
    reason: str
    total: int
    idle: int
    busy: int
    waiting: int
    out_before: float | None = None
    out_after: float | None = None


ROWS: dict[str, type[Record]] = {"templates": TemplateRow, "sources": SourceRow}
