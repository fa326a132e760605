"""The screen of lessons: what was learned, from which tasks, and which tasks are given it."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean
from aiwm_tui.screens.cells import number, since, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, para
from engine.contract.records.knowledge import LessonRow
from engine.contract.requests.lessons import LessonShow


async def explain(link: Link, row: LessonRow, now: int) -> Explained:
    detail = await link.call(LessonShow(id=row.id))
    lines: list[Line] = [para(row.insight)]
    lines += [((f" {place} ", "dim"), (clean(step, 400), "text")) for place, step in enumerate(row.steps, 1)]
    context = [
        (name, str(value)) for name in ("template", "queue", "definition", "error") if (value := getattr(row, name))
    ]
    context += [("needs", " ".join(row.capabilities))] if row.capabilities else []
    context += [(f"payload {key}", value) for key, value in row.payload.items()]
    lines.append(facts(context or [("given to", "every task")]))
    lines.append(facts([("learned from", " ".join(row.evidence) or "nothing that is named"), ("by", row.by)]))
    for old in detail.earlier[:5]:
        lines.append(
            ((f" v{old.version}  {form.moment(old.updated_ms, now)}  ", "dim"), (clean(old.title, 200), "dim"))
        )
    return Explained(f"v{row.version}: {row.title}", tuple(lines))


def _sure(row: LessonRow, _: int) -> Span:
    return f"{row.confidence * 100:.0f} %", "text"


def _for(row: LessonRow, _: int) -> Span:
    said = " ".join(
        f"{name}:{value[:120]}"
        for name in ("template", "queue", "definition", "error")
        if (value := getattr(row, name))
    )
    return (clean(said, 120), "text") if said else ("every task", "dim")


COLUMNS: tuple[Column, ...] = (
    Column("id", "id", text("id", "strong"), most=10),
    Column("version", "ver", number("version"), right=True, most=4),
    Column("confidence", "sure", _sure, right=True, most=6),
    Column("queue", "given to", _for, most=30, priority=1, value=lambda row: str(row.queue)),
    Column("evidence", "tasks", lambda row, _: (str(len(row.evidence)), "dim"), right=True, most=6, priority=3),
    Column("updated", "changed", since("updated_ms"), right=True, least=5, priority=2),
    Column("by", "by", text("by", "dim"), most=18, priority=4),
    Column("title", "lesson", text("title"), flex=True),
)

SCREEN = TableScreen(
    table="lessons",
    columns=COLUMNS,
    empty=(
        (("nothing was learned yet", "dim"),),
        (("from a shell: ", "dim"), ("aiwm lesson submit --title … --insight …", "text")),
    ),
    opens=lambda row: f":lessons/{row.id}",
    explain=explain,
)
