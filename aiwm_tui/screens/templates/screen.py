"""The screen of all task templates."""

from __future__ import annotations

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, clean, clean_lines
from aiwm_tui.screens.cells import text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, hints, para
from engine.contract.records.definitions import TemplateRow
from engine.contract.requests.definitions import TemplateShow


async def explain(link: Link, row: TemplateRow, now: int) -> Explained:  # noqa: ARG001
    template = (await link.call(TemplateShow(name=row.id))).definition
    lines: list[Line] = [para(template.description)] if template.description else []
    lines.append(
        facts(
            [
                ("queue", template.queue or "the task says"),
                ("worker", template.definition or "any that fits"),
                ("prio", form.NONE if template.priority is None else str(template.priority)),
                ("sources", ", ".join(template.sources) or "none of its own"),
                ("supervisor", template.supervisor or "none of its own"),
            ]
        )
    )
    for title, data in (
        ("defaults", template.defaults),
        ("schema of the payload", template.payload_schema),
        ("schema of the answer", template.answer_schema),
    ):
        if data:
            lines.append(((f" {title}", "title"),))
            shown = msgspec.json.format(msgspec.json.encode(data), indent=2).decode()
            lines += [((" " + each, "text"),) for each in clean_lines(shown[:8000])[:60]]
    return Explained("template", tuple(lines))


COLUMNS: tuple[Column, ...] = (
    Column("id", "name", text("id", "strong"), most=24),
    Column("queue", "queue", text("queue"), most=16),
    Column("definition", "worker", text("definition"), most=20, priority=2),
    Column(
        "capabilities",
        "needs",
        text("capabilities", "dim"),
        most=20,
        priority=4,
        value=lambda row: ",".join(row.capabilities),
    ),
    Column("priority", "prio", lambda row, _: (form.count(row.priority), "dim"), right=True, most=6, priority=3),
    Column("fields", "payload", text("fields"), most=32, priority=1, value=lambda row: ",".join(row.fields)),
    Column("digest", "digest", lambda row, _: (clean(row.digest, 8), "faint"), most=8, priority=5),
    Column("description", "description", text("description", "dim"), flex=True),
)

SCREEN = TableScreen(
    table="templates",
    columns=COLUMNS,
    empty=((("no task templates here", "dim"),), hints(("ctrl+n", "makes one by form"))),
    opens=lambda row: f":templates/{row.id}",
    explain=explain,
)
