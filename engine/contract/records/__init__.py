"""Records: rows of tables and pages of things, as they cross the pipe. Times are Unix ms; a `_ms` span is a duration in ms.

One module a subject; each says in `ROWS` which of its records are rows of a table that a location may name."""

from __future__ import annotations

from engine.contract.records import (
    approvals,
    core,
    definitions,
    instances,
    knowledge,
    logs,
    models,
    operations,
    performance,
)
from engine.contract.records.core import (
    EventRow,
    InstanceRow,
    MachineRow,
    NeedRow,
    PoolDetail,
    PoolRow,
    QueueDetail,
    QueueRow,
    Record,
    TaskDetail,
    TaskRow,
    TimelineStep,
    WorkerDetail,
    WorkerRow,
)
from engine.contract.records.instances import ChatTurn, InstanceDetail, Overrides, RetiredRow
from engine.contract.records.knowledge import LessonDetail, LessonRow, ReviewRow
from engine.contract.records.models import AdapterRow, DeviceRow, ModelRow
from engine.contract.records.notes import Feedback, TaskNotes
from engine.contract.records.operations import BatchRow, FailureRow, OperationRow
from engine.contract.records.performance import RecordRow, SummaryRow

TABLES: dict[str, type[Record]] = {
    **core.ROWS,
    **approvals.ROWS,
    **definitions.ROWS,
    **instances.ROWS,
    **knowledge.ROWS,
    **logs.ROWS,
    **models.ROWS,
    **operations.ROWS,
    **performance.ROWS,
}
"""Every table that a location may name, and the record its rows are."""

__all__ = [
    "TABLES",
    "AdapterRow",
    "BatchRow",
    "ChatTurn",
    "DeviceRow",
    "EventRow",
    "FailureRow",
    "Feedback",
    "InstanceDetail",
    "InstanceRow",
    "LessonDetail",
    "LessonRow",
    "MachineRow",
    "ModelRow",
    "NeedRow",
    "OperationRow",
    "Overrides",
    "PoolDetail",
    "PoolRow",
    "QueueDetail",
    "QueueRow",
    "Record",
    "RecordRow",
    "RetiredRow",
    "ReviewRow",
    "SummaryRow",
    "TaskDetail",
    "TaskNotes",
    "TaskRow",
    "TimelineStep",
    "WorkerDetail",
    "WorkerRow",
]
