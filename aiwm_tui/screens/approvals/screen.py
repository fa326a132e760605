"""The screen of approvals: the request as it will be sent, who asks, and what happens if nobody answers."""

from __future__ import annotations

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean, clean_lines
from aiwm_tui.screens.cells import since, state_column, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, failure, hints, para
from engine.contract.records.approvals import ApprovalRow


async def explain(link: Link, row: ApprovalRow, now: int) -> Explained:  # noqa: ARG001
    shown = msgspec.json.format(msgspec.json.encode(row.params), indent=2).decode()
    lines: list[Line] = [para(row.why or "it says no why", "strong"), ((f" {clean(row.method, 80)}", "key"),)]
    lines += [((" " + each, "text"),) for each in clean_lines(shown[:8000])[:40]]
    lines.append(
        facts(
            [("asked by", row.by), ("in", row.task or form.NONE), ("may read", " ".join(row.sources) or "nothing more")]
        )
    )
    if row.state == "pending":
        gone = form.age(row.expires_ms - now)
        lines.append(para(f"If you do nothing it is refused {form.moment(row.expires_ms, now)}, in {gone}.", "dim"))
        lines.append(hints((" A", "approve: it is made once, now"), ("B", "refuse, with a reason")))
        return Explained(f"{row.by} asks for {row.method}", tuple(lines))
    if row.decided_by:
        said = f": {row.reason}" if row.reason else ""
        lines.append(para(f"{row.state} {form.moment(row.decided_ms, now)} by {row.decided_by}{said}"))
    if row.error is not None:
        lines += failure(row.error)
    elif row.result is not None:
        result = msgspec.json.format(msgspec.json.encode(row.result), indent=2).decode()
        lines += [((" " + each, "dim"),) for each in clean_lines(result[:4000])[:20]]
    return Explained(f"{row.by} asked for {row.method}", tuple(lines))


def _wants(row: ApprovalRow, _: int) -> Span:
    """The request as it will be sent, on one line: of long texts their beginning, so that a megabyte costs nothing at every repaint."""
    params = {name: value[:300] if isinstance(value, str) else value for name, value in row.params.items()}
    return clean(f"{row.method} {msgspec.json.encode(params).decode()}", 300), "text"


def _left(row: ApprovalRow, now: int) -> Span:
    if row.state != "pending":
        return clean(row.decided_by, 20) or form.NONE, "dim"
    return f"refused in {form.age(row.expires_ms - now)}", "held"


COLUMNS: tuple[Column, ...] = (
    state_column("approvals"),
    Column("id", "id", text("id", "strong"), most=8),
    Column("age", "asked", since("asked_ms", "text"), right=True, least=5),
    Column("by", "who", text("by"), most=20),
    Column("method", "wants", _wants, flex=True),
    Column("task", "task", text("task", "dim"), most=10, priority=2),
    Column("expires", "if you do nothing", _left, most=18, priority=1),
)

SCREEN = TableScreen(
    table="approvals",
    columns=COLUMNS,
    empty=(
        (("nobody asks for anything", "done"),),
        (("tasks ask here before they call a tool of high risk or change what they may not", "dim"),),
    ),
    opens=lambda row: f":tasks/{row.task}" if row.task else f":approvals/{row.id}",
    explain=explain,
)
