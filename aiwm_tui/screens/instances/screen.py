"""The screen of all live instances."""

from __future__ import annotations

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean, clean_lines
from aiwm_tui.screens.cells import alarming, number, since, state_column, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, gates, para
from engine.contract.query import Location, Op, Term
from engine.contract.records import InstanceRow, QueueRow, TaskRow
from engine.contract.requests.context import EffectiveContext, TaskContextShow
from engine.contract.requests.fleet import QueueShow
from engine.contract.requests.instances import InstanceShow
from engine.contract.requests.session import ViewRead
from engine.contract.requests.tasks import TaskExplain

_TURNS = 20


async def explain(link: Link, row: InstanceRow, now: int) -> Explained:
    # It is stuck for a part of the time only that it has been at its work.
    state, style = ("busy", "wrong") if row.state == "stuck" else (row.state, "text")
    lines: list[Line] = [
        para(f"{state} {form.since(row.since_ms, now)}." + (f" {row.note}" if row.note else ""), style)
    ]
    lines.append(
        facts(
            [
                ("pool", row.pool),
                ("definition", row.definition),
                ("kind", row.kind),
                ("done", form.count(row.done)),
                ("failed", form.count(row.failed)),
                ("tokens", form.count(row.tokens)),
                ("age", form.since(row.spawned_ms, now)),
            ]
        )
    )
    if row.until_ms is not None:
        lines.append(para(f"Its limit opens {form.moment(row.until_ms, now)}, in {form.age(row.until_ms - now)}."))
    if not row.pool:
        detail = await link.call(InstanceShow(id=row.id))
        for turn in detail.turns[-_TURNS:]:
            lines += [((" › " + said, "dim"),) for said in clean_lines(turn.message[:2000])]
            lines += [((" " + said, "text"),) for said in clean_lines(turn.text[:2000])]
    if row.task:
        lines += await _at_work(link, row, row.task, now)
    return Explained("why", tuple(lines), counts=row.task is not None)


async def _at_work(link: Link, row: InstanceRow, task: str, now: int) -> list[Line]:
    """What it does, whether that takes longer than usual, what it may use, and what becomes of it if nothing is done."""
    lines = gates(await link.call(TaskExplain(id=task)), now)
    at = await link.call(ViewRead(location=str(Location("tasks", None, (Term(Op.any_of, (task,), "id"),))), size=1))
    if at.rows:
        running = msgspec.convert(at.rows[0], TaskRow)
        queue = (await link.call(QueueShow(name=running.queue))).row
        lines.append(pace_line(running, queue, now))
    context = await link.call(TaskContextShow(id=task))
    lines.append(_rights(context))
    if row.context_max and row.context * 10 >= row.context_max * 9:
        lines.append(para(f"Its context is nearly full: {row.context:,} of {row.context_max:,} tokens.", "wrong"))
    lines.append(
        ((" ↵", "key"), (f" {task}, its text as it is written   ", "dim"), ("X", "key"), (" retires it", "dim"))
    )
    return lines


def pace_line(task: TaskRow, queue: QueueRow, now: int) -> Line:
    """How far a running task is, beside what is usual in its queue."""
    ran = max(0, now - (task.started_ms or now))
    out = task.tokens_out or 0
    line: list[Span] = [(f" {form.count(out)} tokens in {form.age(ran)}", "text")]
    if out and ran > 200:
        line.append((f" ({form.speed(out * 1000 / ran)} tok/s)", "dim"))
    if queue.p95_ms is not None:
        line.append((f"; p95 in {clean(queue.id, 40)} is {form.span(queue.p95_ms)}", "dim"))
        if ran > 2 * queue.p95_ms and ran > 10_000:
            line.append((f": it takes {ran / max(1.0, queue.p95_ms):.0f} times as long", "wrong"))
    return tuple(line)


def _rights(context: EffectiveContext) -> Line:
    """What its task may use."""
    return facts(
        [
            ("tools", ", ".join(context.tools) or "none"),
            ("sources", ", ".join(f"{it.source} ({it.level})" for it in context.sources) or "none"),
            ("supervisor", f"{it.supervisor} ({it.level})" if (it := context.supervisor) is not None else "none"),
        ]
    )


def _done(row: InstanceRow, _: int) -> Span:
    """`212/500`: after how many tasks it retires; of one that is talked to, its turns."""
    if not row.pool:
        return f"turn {row.done}", "text"
    return f"{row.done}/{row.max_tasks or form.NONE}", "text" if row.done else "faint"


def _context(row: InstanceRow, _: int) -> Span:
    """`9.1k/16k`, and a warning when it is nearly full."""
    if not row.context_max:
        return form.NONE, "faint"
    nearly = row.context * 10 >= row.context_max * 9
    most = row.context_max
    return (
        f"{form.short(row.context)}/{form.short(most) if most < 1000 else f'{most // 1000}k'}",
        "wrong" if nearly else "text",
    )


def _note(row: InstanceRow, now: int) -> Span:
    """What comes next or went wrong last; of one that a limit holds, the time left until it opens."""
    if row.until_ms is None:
        return (clean(row.note, 240), "wrong" if row.state == "stuck" else "dim") if row.note else (form.NONE, "faint")
    return f"opens in {form.age(row.until_ms - now)}: {clean(row.note, 200)}", "held"


COLUMNS: tuple[Column, ...] = (
    state_column("instances"),
    Column("id", "id", text("id", "strong"), most=10),
    Column("pool", "pool", text("pool"), most=20, priority=2),
    Column("definition", "definition", text("definition"), most=24, priority=3),
    Column("kind", "kind", text("kind", "dim"), most=14, priority=8),
    Column("task", "task", text("task"), least=7, most=12),
    Column("age", "for", since("since_ms", "text"), right=True, least=5),
    Column("done", "done", _done, right=True, most=9, priority=4),
    Column("failed", "failed", alarming("failed"), right=True, most=8, priority=1),
    Column("context", "context", _context, right=True, most=11, priority=4),
    Column("tokens", "tokens", number("tokens", form.short), right=True, most=7, priority=6),
    Column("spawned", "age", since("spawned_ms"), right=True, most=6, priority=7),
    Column("note", "next or last error", _note, flex=True),
)

SCREEN = TableScreen(
    table="instances",
    columns=COLUMNS,
    empty=(
        (("no instances: pools start them when work waits", "dim"),),
        (
            ("4", "key"),
            (" pools   ", "dim"),
            ("3", "key"),
            (" queues, ", "dim"),
            ("N", "key"),
            (" there submits a task", "dim"),
        ),
    ),
    opens=lambda row: f":tasks/{row.task}" if row.task else f":instances/{row.id}",
    explain=explain,
)
