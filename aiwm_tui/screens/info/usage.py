"""Who used what: `:usage by:definition since:1h`. Most tokens first."""

from __future__ import annotations

from typing import Any, get_args

from aiwm_tui.live import format as form
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, clean, fit
from aiwm_tui.screens.info.page import InfoScreen
from aiwm_tui.screens.wording import para
from engine.contract.errors import AiwmError, Code
from engine.contract.query import Location, span_ms, time_ms
from engine.contract.requests.usage import UsageBy, UsageRead, UsageRow

Answer = tuple[str, int | None, list[UsageRow]]
_HEADS = ("tasks", "done", "failed", "in", "out", "$", "spent")


async def _ask(link: Link, location: Location, now: int) -> Answer:
    said = {term.field: term.values[0] for term in location.terms if term.field}
    by: Any = said.get("by", "submitter")
    if by not in get_args(UsageBy):
        raise AiwmError(
            Code.bad_location,
            f'usage cannot be summed by "{by[:40]}"',
            field="by",
            fix="one of " + ", ".join(get_args(UsageBy)),
        )
    since = _since(said["since"], now) if "since" in said else None
    return by, since, await link.call(UsageRead(by=by, since_ms=since))


def _since(text: str, now: int) -> int:
    """`1h` is an hour ago, `22:00` the last time it was that late."""
    try:
        return now - round(span_ms(text))
    except ValueError:
        try:
            return round(time_ms(text, now))
        except ValueError as error:
            raise AiwmError(Code.bad_location, f"since: {error}", field="since", fix="1h, 22:00, yesterday") from None


def _lines(answer: Answer, now: int) -> list[Line]:
    by, since, rows = answer
    when = f"since {form.moment(since, now)}" if since is not None else "of all that is kept"
    lines: list[Line] = [para(f"What was used, {when}, by {by}. Others: :usage by:definition since:1h", "dim"), ()]
    if not rows:
        return [*lines, para("nothing was used", "done")]
    cells = [
        (
            form.count(row.tasks),
            form.count(row.completed),
            form.count(row.failed),
            form.short(row.tokens_in),
            form.short(row.tokens_out),
            f"{row.cost_usd:.4f}",
            form.age(row.spent_ms),
        )
        for row in rows
    ]
    wide = [max(len(head), *(len(each[place]) for each in cells)) for place, head in enumerate(_HEADS)]
    head = "".join("  " + fit(text, wide[place], right=True) for place, text in enumerate(_HEADS))
    lines.append(((f" {fit(by, 28)}{head}", "head"),))
    for row, each in zip(rows, cells, strict=True):
        line: Line = ((f" {fit(clean(row.name or 'nobody', 60), 28)}", "strong"),)
        for place, text in enumerate(each):
            style = "broken" if place == 2 and row.failed else "faint" if text in ("0", "0.0000", "0s") else "text"
            line = (*line, ("  " + fit(text, wide[place], right=True), style))
        lines.append(line)
    return lines


def _status(answer: Answer) -> Line:
    return ((form.plural(len(answer[2]), "row"), "dim"),)


SCREEN = InfoScreen(_ask, _lines, _status)
