"""What the charts of several screens share: their series, their heading, the look of a rate and of a scaling step."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.charts import ZOOMS, Points, Zoom
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean, fit
from engine.contract.records.definitions import ScaleStep
from engine.contract.requests.usage import SamplesRead

_MINUTE_MS = 60_000
_MOMENT_MS = 1_000


async def series(link: Link, names: Sequence[str], now_ms: int, zoom: Zoom) -> dict[str, Points]:
    """The points of these series as far back as a chart looks, and the last one before that; those without any are not there."""
    request = SamplesRead(names=tuple(names), since_ms=now_ms - zoom.span_ms, step_ms=zoom.step_ms, before=True)
    return {one.name: one.points for one in await link.call(request)}


def heading(title: str, zoom: Zoom) -> Line:
    """`── waiting tasks  z 10m 1h 24h 7d`, the zoom in use marked."""
    spans: list[Span] = [(" ── ", "rule"), (clean(title, 100), "title"), ("  z", "key")]
    for each in ZOOMS:
        spans.append((f" {each.name}", "mark" if each is zoom else "faint"))
    return tuple(spans)


def whole(value: float) -> str:
    """A count of tasks or instances at a scale."""
    return form.short(round(value)) if value >= 1 or value == 0 else f"{value:.1f}"


def effects(steps: Sequence[ScaleStep], now_ms: int) -> list[Span]:
    """What each step (the latest first) did to the throughput, in words; one without effect is seen as such."""
    found: list[Span] = []
    newer: int | None = None
    for step in steps:
        found.append(_effect(step, newer, now_ms))
        newer = step.at_ms
    return found


def _effect(step: ScaleStep, newer_ms: int | None, now_ms: int) -> Span:
    if not step.change:
        return "failed", "broken"
    if step.out_after is None:
        if newer_ms is not None and newer_ms - step.at_ms < _MINUTE_MS:
            return "with the next", "faint"
        return ("in a minute" if now_ms - step.at_ms < _MINUTE_MS else form.NONE), "faint"
    before, after = step.out_before, step.out_after
    if before is None:
        return f"out/m {form.rate(after)}", "text"
    if abs(after - before) <= max(1.0, before / 10):
        return "none", "wrong" if step.change > 0 and step.waiting else "dim"
    return f"out/m {form.rate(before)} → {form.rate(after)}", "text"


class Step(msgspec.Struct, frozen=True):
    """Scaling steps of one moment in one direction, told as one: what it was before, and the last of them."""

    before: int
    last: ScaleStep
    count: int
    effect: Span


def folded(steps: Sequence[ScaleStep], now_ms: int) -> list[Step]:
    """The latest first. Steps belong together that came within a second of each other and went the same way."""
    found: list[Step] = []
    for step, effect in zip(steps, effects(steps, now_ms), strict=True):
        before = step.total - step.change
        latest = found[-1] if found else None
        if latest is not None and _together(step, latest):
            found[-1] = msgspec.structs.replace(latest, before=before, count=latest.count + 1)
        else:
            found.append(Step(before, step, 1, effect))
    return found


def _together(earlier: ScaleStep, later: Step) -> bool:
    same_way = earlier.change * later.last.change > 0
    return same_way and later.last.at_ms - earlier.at_ms <= _MOMENT_MS and earlier.total == later.before


def step_lines(steps: Sequence[ScaleStep], now_ms: int) -> list[Line]:
    """How a pool was scaled: each step with its effect and its reason, the latest first."""
    told = folded(steps, now_ms)
    if not told:
        return []
    wide = max(len("effect"), *(len(it.effect[0]) for it in told))
    lines: list[Line] = [((f" {fit('at', 12)}  {fit('step', 7)} {fit('effect', wide)}  because", "head"),)]
    for it in told:
        step, (effect, style) = it.last, it.effect
        change = f"{it.before} → {step.total}" if step.change else "±0"
        waited = f"  {form.plural(step.waiting, 'task')} waited" if step.waiting else ""
        lines.append(
            (
                (f" {fit(form.moment(step.at_ms, now_ms), 12)}  ", "dim"),
                (fit(change, 7) + " ", "text" if step.change else "broken"),
                (fit(effect, wide) + "  ", style),
                (clean(step.reason, 300), "text"),
                (waited, "dim"),
            )
        )
    return lines


def step_marks(steps: Sequence[ScaleStep]) -> list[tuple[int, str, str]]:
    """Where the steps lie on a chart: up, down, failed."""
    looks = {True: ("▲", "works"), False: ("▼", "dim")}
    return [(step.at_ms, *(looks[step.change > 0] if step.change else ("✗", "broken"))) for step in reversed(steps)]
