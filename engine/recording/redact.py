"""What a recording for others leaves out: payloads, results, prompts and error texts of tasks, and whatever may repeat them. Pure.

Names, states, times, numbers and definitions stay. Text is kept only where the engine itself wrote it about something else than what a
task says; of everything not known here it is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from engine.contract.errors import NOT_JSON
from engine.store import ops
from engine.store.image import Part
from engine.store.ops import Op

GONE: Final = "(redacted)"
_BODY: Final = b'{"redacted":true}'

_PLAIN_EVENTS: Final = frozenset(
    {
        "task.submitted",
        "task.started",
        "task.completed",
        "task.released",
        "task.requeued",
        "task.hastened",
        "task.moved",
    }
    | {"task.priority", "task.due", "task.undone", "task.revived"}
)
_PLAIN_ROOMS: Final = ("engine.", "model.", "pool.", "queue.", "storage.", "store.", "adapter.", "recording.", "batch.")
_PLAIN_DOCUMENTS: Final = frozenset(
    {"batch", "budget", "counter", "summary", "scale", "model", "model-wish", "load", "adapter"}
)
_TEXTS_OF_DOCUMENTS: Final[dict[str, dict[str, Any]]] = {
    "failure": {"message": GONE, "stderr": []},
    "operation": {"text": "", "reason": "", "settings": {}, "was": {}, "before": None, "refused": {}},
}
"""Documents that are kept without these fields; of other kinds nothing is kept but the plain ones."""
_WITHHELD_TABLES: Final = frozenset({"approvals", "lessons", "reviews"})
_TEXTS_OF_ROWS: Final[dict[str, tuple[str, ...]]] = {"instances": ("note",)}

_TASKS: Final[dict[str, str | None]] = {"reason": "", "metadata": None, "idempotency_key": None}
_RECORDS: Final[dict[str, str | None]] = {"summary": "", "reflection": None, "comments": None}


def redacted_op(op: Op) -> Op | None:
    """The operation without what it says of a task's content; None for one that is nothing else."""
    redact = _OPS.get(type(op))
    return op if redact is None else redact(op)


def _insert(op: ops.InsertTask) -> Op:
    return msgspec.structs.replace(op, payload=_BODY, metadata=None, idempotency_key=None)


def _end(op: ops.EndTask) -> Op:
    return msgspec.structs.replace(
        op,
        result=op.result and _BODY,
        error=_error(op.error),
        reason=GONE if op.reason else "",
        summary=GONE if op.summary else "",
        reflection=None,
        prompt=None,
    )


def _retry(op: ops.RetryTask) -> Op:
    return msgspec.structs.replace(op, error=_error(op.error), reason=GONE if op.reason else "", prompt=None)


def _release(op: ops.ReleaseTask) -> Op:
    return msgspec.structs.replace(op, reason=GONE if op.reason else "")


def _expire(op: ops.ExpireTask) -> Op:
    return msgspec.structs.replace(op, error=_error(op.error) or _BODY, reason=GONE if op.reason else "")


def _revive(op: ops.ReviveTask) -> Op:
    return msgspec.structs.replace(op, payload=op.payload and _BODY)


def _rate(op: ops.RateRecord) -> Op:
    return msgspec.structs.replace(op, comments="")


def _event(op: ops.AppendEvent) -> Op:
    return op if _plain_event(op.type, op.level, op.task_seq) else msgspec.structs.replace(op, text=GONE)


def _plain_event(type_: str, level: str, task: int | None) -> bool:
    if type_ in _PLAIN_EVENTS:
        return True
    return task is None and level != "audit" and type_.startswith(_PLAIN_ROOMS)


def _document(op: ops.PutDocument) -> Op | None:
    json = redacted_document(op.kind, op.json)
    return None if json is None else msgspec.structs.replace(op, json=json)


_OPS: dict[type[Op], Callable[[Any], Op | None]] = {
    ops.InsertTask: _insert,
    ops.EndTask: _end,
    ops.RetryTask: _retry,
    ops.ReleaseTask: _release,
    ops.ExpireTask: _expire,
    ops.ReviveTask: _revive,
    ops.RateRecord: _rate,
    ops.AppendEvent: _event,
    ops.PutDocument: _document,
}


def redacted_document(kind: str, json: bytes) -> bytes | None:
    """A document's JSON without texts of tasks; None for one that may be nothing else."""
    if kind in _PLAIN_DOCUMENTS:
        return json
    texts = _TEXTS_OF_DOCUMENTS.get(kind)
    said = msgspec.json.decode(json) if texts is not None else None
    if texts is None or not isinstance(said, dict):
        return None
    return msgspec.json.encode(said | {name: value for name, value in texts.items() if name in said})


def _error(error: bytes | None) -> bytes | None:
    """An error as JSON with its code alone."""
    if error is None:
        return None
    try:
        said = msgspec.json.decode(error)
        code = str(said.get("code", "failed"))
    except (*NOT_JSON, AttributeError):
        code = "failed"
    return msgspec.json.encode({"code": code, "message": GONE})


def redacted_part(part: Part) -> Part:
    """Rows of the store without texts of tasks."""
    place = {column: index for index, column in enumerate(part.columns)}
    rows = [redacted for row in part.rows if (redacted := _row(part.table, list(row), place)) is not None]
    return Part(part.table, part.columns, rows)


def _row(table: str, row: list[Any], place: dict[str, int]) -> Sequence[Any] | None:
    if table == "payloads":
        row[place["payload"]] = _BODY.decode()
    elif table == "results":
        error = row[place["error"]]
        row[place["result"]] = row[place["result"]] and _BODY.decode()
        row[place["error"]] = None if error is None else (_error(error.encode()) or b"").decode()
        row[place["prompt"]] = None
    elif table in ("tasks", "records"):
        for name, value in (_TASKS if table == "tasks" else _RECORDS).items():
            row[place[name]] = value
    elif table == "events":
        if not _plain_event(row[place["type"]], row[place["level"]], row[place["task"]]):
            row[place["text"]] = GONE
    elif table == "documents":
        json = redacted_document(row[place["kind"]], row[place["json"]].encode())
        if json is None:
            return None
        row[place["json"]] = json.decode()
    return row


def redacted_rows(table: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a table in memory without texts of tasks."""
    if table in _WITHHELD_TABLES:
        return []
    if table == "needs":
        return [_need(row) for row in rows]
    texts = _TEXTS_OF_ROWS.get(table, ())
    return [{**row, **{name: GONE for name in texts if row.get(name)}} for row in rows] if texts else rows


def _need(row: dict[str, Any]) -> dict[str, Any]:
    """Its id stays, by which it changes and goes: it names a queue, a model, an operation, an approval, or what tasks failed of (by its
    fingerprint or code)."""
    kind = str(row["id"]).partition(" ")[0]
    if kind in ("queue", "behind", "model", "storage"):
        return row
    return {**row, "why": GONE, "what": row["what"] if kind in ("failed", "operation", "maintenance") else GONE}
