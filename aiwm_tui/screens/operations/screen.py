"""The screen of operations: what was asked for, by whom, what became of it; `Z` takes one back."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean, fit
from aiwm_tui.screens.cells import alarming, number, since, state_column, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, para
from engine.contract.records import OperationRow
from engine.contract.requests.operations import OperationShow

_IDS = 30


async def explain(link: Link, row: OperationRow, now: int) -> Explained:
    detail = await link.call(OperationShow(id=row.id))
    lines: list[Line] = [para(row.text or row.request)]
    pairs = [("asked", f"{form.moment(row.at_ms, now)} by {row.by}"), ("due", form.moment(row.due_ms, now))]
    pairs += [
        (name, str(value)) for name, value in detail.settings.items() if value not in (None, "", False, 0, [], {})
    ]
    lines.append(facts([*pairs, ("reason", row.reason or form.NONE)]))
    if detail.ids:
        ids = " ".join(detail.ids[:_IDS]) + (f" … {len(detail.ids) - _IDS} more" if len(detail.ids) > _IDS else "")
        lines.append(((" these and no others  ", "faint"), (clean(ids, 1000), "text")))
    for identifier, why in list(detail.refused.items())[:_IDS]:
        lines.append(((" ✗ ", "broken"), (fit(clean(identifier, 20), 12), "strong"), (clean(why, 200), "text")))
    if row.state in ("waiting", "canary", "done", "running"):
        lines.append(((" Z", "key"), (" takes back what has not gone further", "dim")))
    return Explained(row.request, tuple(lines))


def _when(row: OperationRow, now: int) -> Span:
    if row.state == "waiting" and row.due_ms is not None:
        return f"in {form.age(row.due_ms - now)}", "coming"
    return form.since(row.ended_ms, now), "dim"


COLUMNS: tuple[Column, ...] = (
    state_column("operations"),
    Column("id", "id", text("id", "strong"), most=10),
    Column("request", "what", text("request"), most=20),
    Column("count", "of", number("count"), right=True, most=7),
    Column("done", "done", number("done"), right=True, most=7, priority=3),
    Column("refused", "refused", alarming("refused", "wrong"), right=True, most=7, priority=4),
    Column("by", "by", text("by", "dim"), most=20, priority=2),
    Column("at", "asked", since("at_ms"), right=True, least=5),
    Column("due", "ended", _when, right=True, least=6, most=8, priority=1),
    Column("text", "effect", text("text", "text"), flex=True),
)

SCREEN = TableScreen(
    table="operations",
    columns=COLUMNS,
    empty=(
        (("no set was changed in this home yet; every other change is in :audit", "dim"),),
        (("cancelling, retrying and moving tasks make operations: ", "dim"), ("Z", "key"), (" takes them back", "dim")),
    ),
    opens=lambda row: f":operations/{row.id}",
    explain=explain,
)
