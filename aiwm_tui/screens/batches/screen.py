"""The screen of batches: how far each is, and when it should be done."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span
from aiwm_tui.screens.cells import alarming, number, since, state_column, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, para
from engine.contract.records import BatchRow


async def explain(link: Link, row: BatchRow, now: int) -> Explained:  # noqa: ARG001
    ended = row.completed + row.failed + row.cancelled
    eta = f"; done about {form.moment(row.eta_ms, now)}" if row.eta_ms is not None else ""
    pace = f", {form.rate(row.per_min)} a minute{eta}" if ended < row.total else ""
    lines: list[Line] = [para(f"{ended:,} of {row.total:,} ended{pace}.")]
    lines.append(facts([("by", row.by), ("queue", row.queue), ("template", row.template or form.NONE)]))
    shell: Line = ((" Results in order: ", "dim"), (f"aiwm batch export {row.id} --out results.jsonl", "text"))
    keys: Line = ((" ↵", "key"), (" its latest answers, ↵ there its tasks", "dim"))
    return Explained("batch", (*lines, shell, keys))


def _share(row: BatchRow, _: int) -> Span:
    ended = row.completed + row.failed + row.cancelled
    return (f"{ended * 100 // row.total} %" if row.total else form.NONE), "text"


def _eta(row: BatchRow, now: int) -> Span:
    return (form.NONE, "faint") if row.eta_ms is None else (form.age(row.eta_ms - now), "text")


COLUMNS: tuple[Column, ...] = (
    state_column("batches"),
    Column("id", "name", text("id", "strong"), most=24),
    Column("queue", "queue", text("queue"), most=16, priority=1),
    Column("total", "tasks", number("total"), right=True, most=9),
    Column("completed", "ended", _share, right=True, most=6),
    Column("waiting", "wait", number("waiting"), right=True, most=9, priority=3),
    Column("running", "run", number("running"), right=True, most=6, priority=2),
    Column("failed", "failed", alarming("failed"), right=True, most=8),
    Column("per_min", "/min", number("per_min", form.rate), right=True, most=7, priority=4),
    Column("eta", "to go", _eta, right=True, least=6, most=8),
    Column("template", "template", text("template", "dim"), most=16, priority=6),
    Column("at", "begun", since("at_ms"), right=True, least=5, priority=5),
    Column("by", "by", text("by", "dim"), flex=True),
)

SCREEN = TableScreen(
    table="batches",
    columns=COLUMNS,
    empty=(
        (("no batches here", "dim"),),
        (
            ("N", "key"),
            (" puts a file of prompts through a model   from a shell: ", "dim"),
            ("aiwm task submit demo --file in.jsonl --batch NAME", "text"),
        ),
    ),
    opens=lambda row: f":batches/{row.id}",
    explain=explain,
)
