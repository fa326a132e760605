"""Records of logs: files that the engine and its processes write."""

from __future__ import annotations

from engine.contract.records.core import Record


class LogRow(Record, frozen=True, kw_only=True):
    """A log: `id` is `engine` or a process. `kind` says what writes it: engine, model, worker or supervisor; `lives` counts those before
    the current one that are kept, `changed_ms` is when it was last written to, `last` the end of it."""

    kind: str
    size_bytes: int
    changed_ms: int
    lives: int = 0
    last: str = ""


ROWS: dict[str, type[Record]] = {"logs": LogRow}
