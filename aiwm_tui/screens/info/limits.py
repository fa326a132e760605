"""Rate limits: what every definition has used of them, and the time left until the next call may be made."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean, fit
from aiwm_tui.screens.info.page import InfoScreen
from aiwm_tui.screens.wording import para
from aiwm_tui.states import glyph
from engine.contract.query import Location
from engine.contract.requests.limits import LimitRow, LimitsList, LimitWindow

_LOOKS = {"open": "works", "limited": "held"}


async def _ask(link: Link, location: Location, now: int) -> list[LimitRow]:  # noqa: ARG001
    return await link.call(LimitsList())


def _lines(rows: list[LimitRow], now: int) -> list[Line]:
    if not rows:
        return [para("no definition has limits", "dim")]
    lines: list[Line] = []
    for row in rows:
        style = _LOOKS.get(row.state, "paused")
        head: list[Span] = [
            (f" {fit(clean(row.id, 40), 24)} ", "strong"),
            (f"{glyph(style)} {clean(row.state, 20)}", style),
        ]
        if row.opens_ms is not None and row.opens_ms > now:
            head.append((f"  opens {form.countdown(row.opens_ms, now)}", "held"))
        head.append((f"  {row.under_way} under way, {row.waiting} wait", "dim"))
        lines += [tuple(head)]
        if row.why:
            lines.append(para(f"  {row.why}", "text"))
        windows = (row.requests_per_minute, row.tokens_per_minute, row.tokens_per_day, row.instances)
        lines += [_window(each, now) for each in windows if each.limit]
        lines.append(())
    return lines


def _window(window: LimitWindow, now: int) -> Line:
    share = window.used * 100 // window.limit
    used = f"{form.count(window.used)} of {form.count(window.limit)}"
    line: Line = ((f"   {fit(clean(window.name, 40), 24)} ", "dim"), (fit(used, 24, right=True), "text"))
    line = (*line, (f"  {share:>3} %", "wrong" if share >= 100 else "dim"))
    if window.opens_ms is not None and window.opens_ms > now:
        line = (*line, (f"  opens {form.countdown(window.opens_ms, now)}", "held"))
    return line


def _status(rows: list[LimitRow]) -> Line:
    held = sum(row.state == "limited" for row in rows)
    return ((f"{held} limited", "held"),) if held else ((f"{len(rows)} with limits", "dim"),)


SCREEN = InfoScreen(_ask, _lines, _status)
