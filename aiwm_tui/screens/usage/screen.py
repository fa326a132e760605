"""Who used what: `:usage by:definition since:1h sort:-tokens`. ↵ opens the tasks of a row, Tab sums otherwise, z looks further back."""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args

from aiwm_tui.live import format as form
from aiwm_tui.live.charts import Zoom
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean
from aiwm_tui.screens.asking import AskedScreen, Zoomed, said_in, with_term
from aiwm_tui.screens.cells import alarming, number
from aiwm_tui.screens.wording import para
from engine.contract.errors import AiwmError, Code
from engine.contract.query import Location, Op, SortKey, Term, span_ms, time_ms
from engine.contract.records import Record
from engine.contract.requests.usage import UsageBy, UsageRead

_BY: tuple[str, ...] = get_args(UsageBy)
_SINCE = Zoomed(
    (Zoom("all", 0, 0), Zoom("1h", 3_600_000, 0), Zoom("24h", 86_400_000, 0), Zoom("7d", 604_800_000, 0)),
    Zoom("all", 0, 0),
)
_TASK_FIELDS = {"submitter": "by", "agent": "by"}
"""Fields of tasks that are called otherwise than what is summed by."""
NOBODY = "-"


class UsageLine(Record, frozen=True, kw_only=True):
    """One sum as a row; its id is the name of what was summed."""

    tasks: int
    completed: int
    failed: int
    turns: int
    tokens_in: int
    tokens_out: int
    tokens: int
    cost_usd: float
    spent_ms: int


def by_of(location: Location) -> str:
    """What a location sums by; `bad_location` for what there is not."""
    by = said_in(location).get("by", "submitter")
    if by not in _BY:
        raise AiwmError(
            Code.bad_location,
            f'usage cannot be summed by "{by[:40]}"',
            field="by",
            fix="one of " + ", ".join(_BY),
        )
    return by


def since_of(location: Location, now: int) -> int | None:
    """Since when (Unix ms): `1h` is an hour ago, `22:00` the last time it was that late; None for all that is kept."""
    text = said_in(location).get("since", "all")
    if text == "all":
        return None
    try:
        return now - round(span_ms(text))
    except ValueError:
        try:
            return round(time_ms(text, now))
        except ValueError as error:
            raise AiwmError(
                Code.bad_location, f"since: {error}", field="since", fix="1h, 22:00, yesterday, all"
            ) from None


async def _ask(link: Link, location: Location, now: int) -> list[Record]:
    by: Any = by_of(location)
    rows = await link.call(UsageRead(by=by, since_ms=since_of(location, now), limit=1_000))
    return [
        UsageLine(
            id=row.name,
            tasks=row.tasks,
            completed=row.completed,
            failed=row.failed,
            turns=row.turns,
            tokens_in=row.tokens_in,
            tokens_out=row.tokens_out,
            tokens=row.tokens_in + row.tokens_out,
            cost_usd=row.cost_usd,
            spent_ms=row.spent_ms,
        )
        for row in rows
    ]


def _head(location: Location, now: int) -> list[Line]:
    try:
        by, since = by_of(location), since_of(location, now)
    except AiwmError:
        return []
    when = f"since {form.moment(since, now)}" if since is not None else "of all that is kept"
    said = f" What was used {when}, by "
    spans: list[Span] = [(said, "dim"), (by, "mark"), ("   Tab", "key")]
    spans += [(f" {each}", "faint") for each in _BY if each != by]
    return [tuple(spans), ()]


def _opens(location: Location, row: UsageLine, now: int) -> str | None:
    """The tasks that a row sums; of models, which tasks do not name, the records."""
    if row.id == NOBODY:
        return None
    by, since = by_of(location), since_of(location, now)
    name = f"agent/{row.id}" if by == "agent" else row.id
    terms = [Term(Op.any_of, (name.replace('"', "?"),), _TASK_FIELDS.get(by, by))]
    if since is not None:
        at = datetime.fromtimestamp(since / 1000).isoformat(timespec="seconds")
        terms.append(Term(Op.at_least, (at,), "ended"))
    return str(Location("records" if by in ("model", "pool") else "tasks", None, tuple(terms)))


def _next_by(location: Location) -> Location:
    try:
        place = _BY.index(by_of(location))
    except AiwmError:
        place = -1
    return with_term(location, "by", _BY[(place + 1) % len(_BY)])


def _cost(row: UsageLine, _: int) -> Span:
    return (f"{row.cost_usd:.4f}", "text") if row.cost_usd else ("0", "faint")


def _name(row: UsageLine, _: int) -> Span:
    return ("nobody", "faint") if row.id == NOBODY else (clean(row.id, 120), "strong")


COLUMNS: tuple[Column, ...] = (
    Column("id", "name", _name, flex=True, most=40),
    Column("tasks", "tasks", number("tasks"), right=True, most=9),
    Column("completed", "done", number("completed"), right=True, most=9, priority=3),
    Column("failed", "failed", alarming("failed"), right=True, most=9, priority=1),
    Column("turns", "turns", number("turns"), right=True, most=7, priority=5),
    Column("tokens_in", "in", number("tokens_in", form.short), right=True, least=5, most=6, priority=2),
    Column("tokens_out", "out", number("tokens_out", form.short), right=True, least=5, most=6, priority=2),
    Column("tokens", "tokens", number("tokens", form.count), right=True, most=13),
    Column("cost_usd", "$", _cost, right=True, most=10, priority=1),
    Column("spent_ms", "spent", number("spent_ms", form.age), right=True, least=5, most=7, priority=4),
)

SCREEN = AskedScreen(
    columns=COLUMNS,
    ask=_ask,
    head=_head,
    empty=(para("nothing was used", "done"), (("z", "key"), (" looks further back", "dim"))),
    opens=_opens,
    further=_SINCE.further,
    order=(SortKey("tokens", True),),
    next_part=_next_by,
)
