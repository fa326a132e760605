"""The screen of failures: equal ones are one line with a count; ↵ shows the tasks."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, clean, clean_lines
from aiwm_tui.screens.cells import number, since, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, hints, para
from engine.contract.records import FailureRow
from engine.contract.requests.failures import FailureShow


async def explain(link: Link, row: FailureRow, now: int) -> Explained:
    detail = await link.call(FailureShow(id=row.id))
    often = "once, at" if row.count == 1 else f"{form.count(row.count)} times since"
    still = f"{form.plural(detail.failed_now, 'task')} {'is' if detail.failed_now == 1 else 'are'} failed with it now."
    alike = f"{often} {form.moment(row.first_ms, now)}; {still}"
    lines: list[Line] = [
        ((" ✗ ", "broken"), (clean(row.code, 40), "broken"), ("  " + clean(row.message, 1000), "text")),
        para(alike),
    ]
    if row.fix:
        lines.append(((" To do: ", "dim"), (clean(row.fix, 400), "key")))
    if detail.common:
        lines.append(facts([(each.field, f"{each.value} ({each.count} of them)") for each in detail.common]))
    lines += [((" │ " + line, "dim"),) for part in detail.stderr[-8:] for line in clean_lines(part[:2000])]
    lines.append(hints((" ↵", "its tasks"), ("then * R", "retries them all, first one if you like")))
    return Explained("failure", tuple(lines))


COLUMNS: tuple[Column, ...] = (
    Column("id", "failure", text("id", "strong"), most=14),
    Column("count", "×", number("count"), right=True, most=8),
    Column("code", "code", text("code", "broken"), most=22),
    Column("queue", "queue", text("queue"), most=16, priority=2),
    Column("definition", "worker", text("definition"), most=18, priority=3),
    Column("first", "since", since("first_ms"), right=True, least=5, priority=4),
    Column("last", "last", since("last_ms", "text"), right=True, least=5, priority=1),
    Column("message", "what", text("message", "text", 400), flex=True),
)

SCREEN = TableScreen(
    table="failures",
    columns=COLUMNS,
    empty=((("nothing has failed", "done"),),),
    opens=lambda row: f":tasks fail:{row.id}",
    explain=explain,
)
