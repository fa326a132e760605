"""Records of operations, failures and batches."""

from __future__ import annotations

from engine.contract.records.core import Record


class OperationRow(Record, frozen=True, kw_only=True):
    """A change that somebody asked for. `state` is waiting (due later, can be undone), running, canary (the first ones run, the rest
    wait), done, held (the first ones failed, the rest stay as they were), failed or undone. `count` things it is about, of which
    `done` were changed and `refused` were not."""

    request: str
    state: str
    by: str
    at_ms: int
    due_ms: int | None = None
    ended_ms: int | None = None
    count: int = 0
    done: int = 0
    refused: int = 0
    reason: str = ""
    text: str = ""


class FailureRow(Record, frozen=True, kw_only=True):
    """Failures alike, folded: the id is their fingerprint. `fix` is a command. `task` is the last task that failed so."""

    code: str
    message: str
    count: int
    first_ms: int
    last_ms: int
    definition: str | None = None
    queue: str | None = None
    task: str | None = None
    retryable: bool = False
    fix: str | None = None


class BatchRow(Record, frozen=True, kw_only=True):
    """Tasks that belong together. `eta_ms` is when the last one should end at the pace of the last minutes, None when nothing tells."""

    state: str
    queue: str
    by: str
    at_ms: int
    total: int
    waiting: int
    running: int
    completed: int
    failed: int
    cancelled: int
    per_min: float = 0.0
    eta_ms: int | None = None
    template: str | None = None


ROWS: dict[str, type[Record]] = {"operations": OperationRow, "failures": FailureRow, "batches": BatchRow}
