"""How answers are shown: the `kind` of each result type, and its words for people. `plain` registers a request whose command is
nothing but itself."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any, get_args, get_origin

import msgspec
import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.output import Output, fields_text, hanging
from engine.contract import records
from engine.contract.records import definitions as rows
from engine.contract.records.approvals import ApprovalRow
from engine.contract.requests import (
    adapters,
    batches,
    bundles,
    comparisons,
    context,
    definitions,
    failures,
    fleet,
    keys,
    lessons,
    limits,
    maintenance,
    operations,
    session,
    sources,
    supervisors,
    tasks,
    tools,
    usage,
)
from engine.contract.requests.base import Request, result_type
from engine.contract.states import Effect
from engine.contract.why import Gate, Why

_LISTS: dict[Any, tuple[str, str, str]] = {
    records.QueueRow: ("queue", "queues", "no queues (aiwm queue create NAME --pools POOL)"),
    records.PoolRow: ("pool", "pools", "no pools (aiwm pool create NAME WORKER)"),
    records.InstanceRow: ("instance", "instances", "no instances: pools start them when there is work"),
    records.RetiredRow: ("retired", "retired", "no instance was retired yet"),
    records.RecordRow: ("record", "records", "no task has ended yet"),
    records.SummaryRow: ("summary", "summaries", "nothing to sum up"),
    limits.LimitRow: ("limit", "limits", "no definition has limits (limits in ai_worker_definitions.json)"),
    records.ModelRow: ("model", "models", "no model processes: they start with the first task that needs one"),
    records.DeviceRow: ("device", "devices", "no devices"),
    records.AdapterRow: (
        "adapter",
        "adapters",
        "no adapters (aiwm adapter add PATH, or put it into the home's adapters/)",
    ),
    records.WorkerRow: ("worker", "workers", "no worker definitions (ai_worker_definitions.json in the home)"),
    rows.TemplateRow: ("template", "templates", "no task templates (aiwm template create NAME)"),
    rows.SourceRow: ("source", "sources", "no data sources (aiwm source create NAME PATH)"),
    rows.ScaleStep: ("step", "steps", "the pool was not scaled yet"),
    records.OperationRow: ("operation", "operations", "nothing was changed by hand"),
    records.FailureRow: ("failure", "failures", "nothing failed"),
    records.BatchRow: ("batch", "batches", "no batches (aiwm task submit QUEUE --file in.jsonl --batch NAME)"),
    keys.KeyRow: ("key", "keys", "config.toml names no API keys ([keys.NAME], read when the engine starts)"),
    ApprovalRow: ("approval", "approvals", "nothing waits for approval"),
    tools.ToolRow: ("tool", "tools", "no tools"),
    records.LessonRow: ("lesson", "lessons", "no lessons (aiwm lesson submit TITLE INSIGHT --queue QUEUE)"),
    records.ReviewRow: ("review", "reviews", "no review is due"),
    records.Feedback: ("feedback", "feedback", "nothing was said"),
    supervisors.Supervisor: (
        "supervisor",
        "supervisors",
        "nobody looks after anything (a queue's --supervisor rules/default)",
    ),
    session.Finding: ("finding", "findings", "nothing to say"),
    session.Setting: ("setting", "settings", "no settings"),
}
"""Row type of a list → kind of one, name of the table, what an empty one says."""

_ONES: dict[Any, str] = {
    records.QueueDetail: "queue",
    records.PoolDetail: "pool",
    records.WorkerDetail: "worker",
    records.TaskDetail: "task",
    records.InstanceDetail: "instance",
    records.ChatTurn: "turn",
    limits.LimitRow: "limit",
    records.BatchRow: "batch",
    records.OperationRow: "operation",
    operations.OperationDetail: "operation",
    operations.Undone: "undone",
    failures.FailureDetail: "failure",
    usage.Report: "report",
    batches.BatchAdded: "batch",
    batches.BatchPage: "results",
    keys.KeyRow: "key",
    adapters.AdapterDetail: "adapter",
    adapters.AdapterUsed: "used",
    adapters.AdapterPinned: "pinned",
    adapters.AdapterRemoved: "removed",
    comparisons.Comparison: "comparison",
    comparisons.PromptText: "prompt",
    ApprovalRow: "approval",
    tools.ToolResult: "tool",
    context.EffectiveContext: "context",
    sources.SourceListing: "files",
    sources.FileContent: "file",
    sources.SyncResult: "synced",
    records.LessonDetail: "lesson",
    records.ReviewRow: "review",
    records.Feedback: "feedback",
    records.TaskNotes: "notes",
    lessons.Taught: "lesson",
    lessons.Forgotten: "deleted",
    tasks.TaskAck: "task",
    tasks.Cancelled: "cancelled",
    tasks.Retried: "retried",
    tasks.Changed: "changed",
    rows.TemplateDetail: "template",
    rows.SourceDetail: "source",
    definitions.Deleted: "deleted",
    bundles.BundleReport: "bundle",
    bundles.Policy: "policy",
    maintenance.Drained: "drained",
    maintenance.Resumed: "resumed",
    fleet.Reloaded: "reloaded",
    session.Stopping: "stopping",
    session.EngineStatusResult: "engine",
    session.Welcome: "welcome",
    session.ViewRows: "view",
    Why: "why",
}

_CHANGED: dict[Any, str] = {
    records.QueueDetail: "queues",
    records.PoolDetail: "pools",
    rows.TemplateDetail: "templates",
    rows.SourceDetail: "sources",
}
"""What people see of a definition that they changed: its line of the list. All of it is for `show`."""


def kind_of(result: Any) -> str:
    """The `kind` of a result type that is one object; `result` for types without a name of their own."""
    return _ONES.get(result, "result")


def show(output: Output, hint: Any, result: Any) -> None:
    """Print a result of the type `hint`."""
    if get_origin(hint) is list and get_args(hint)[0] in _LISTS:
        kind, table, empty = _LISTS[get_args(hint)[0]]
        output.many(kind, table, result, len(result), empty=empty)
    elif hint is Why:
        output.one("why", result, lambda: why_text(result))
    else:
        output.one(kind_of(hint), result, lambda: fields_text(result))


def plain(app: typer.Typer, request: type[Request[Any]], name: str | None = None) -> None:
    """Register a request as a command that sends it and prints the answer."""
    hint = result_type(request)

    changed = _CHANGED.get(hint) if request.effect is not Effect.read else None

    def body(cli: Cli, made: Request[Any]) -> None:
        result = cli.call(made)
        if changed is not None and cli.output.for_people:
            cli.output.table(changed, [msgspec.structs.asdict(result.row)])
        else:
            show(cli.output, hint, result)

    body.__doc__ = inspect.getdoc(request)
    command(app, name or request.method.rpartition(".")[2], request)(body)


def why_text(why: Why) -> str:
    """The answer to "why not now?" for people: the summary, then the gates in the order in which they are tested. What is too long for the
    terminal goes on below itself."""
    from aiwm_tui.live.text import clean, width

    mark = "moves" if why.moving else "stands still"
    about = f"{why.scope} {why.about}: " if why.about not in ("", why.scope) else ""
    lines = hanging(clean(about + why.summary) or mark, 2)
    for gate in why.gates:
        state = "closed" if gate.closed else "open"
        words = [gate.why, f"{gate.count:,} waiting" if gate.count > 1 else "", _opens(gate), gate.fix or ""]
        head = clean(f"  {state:<6}  {gate.name}  ")
        lines += hanging(clean(head + " · ".join(word for word in words if word)).rstrip(), width(head))
    for note in why.notes:
        lines += hanging(clean(f"  note    {note}"), 10)
    return "\n".join(lines)


def _opens(gate: Gate) -> str:
    """When a gate opens: `opens 15:28:13, in 42s` where that is known, else in words."""
    if gate.opens_ms is None:
        return f"opens {gate.opens}" if gate.opens else ""
    from aiwm_tui.live.format import countdown

    return f"opens {countdown(gate.opens_ms, time.time_ns() // 1_000_000)}"


Explain = Callable[[str], Request[Why]]
