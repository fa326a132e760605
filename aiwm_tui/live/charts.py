"""Values over time as block characters: areas, rows of numbers, steps, and the times below them. Pure; legible without colour.

A value stands for the time until the next one: samples are taken while something moves only, so a gap means that nothing did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from aiwm_tui.live.text import Line, fit

BLOCKS = " ▁▂▃▄▅▆▇█"
LABEL = 9
"""Cells at the left of every row: what it is, or the value at its height, and the axis."""
MARGIN = 9
"""Cells at its right: the value now."""
_LEAST = 8

Points = Sequence[tuple[int, float]]
Values = list[float | None]
Write = Callable[[float], str]


class Zoom(msgspec.Struct, frozen=True):
    """How far back a chart looks, and the step of the samples that it is drawn from, in ms."""

    name: str
    span_ms: int
    step_ms: int


ZOOMS = (
    Zoom("10m", 600_000, 1_000),
    Zoom("1h", 3_600_000, 10_000),
    Zoom("24h", 86_400_000, 300_000),
    Zoom("7d", 604_800_000, 300_000),
)
HOUR = ZOOMS[1]


def zoomed(zoom: Zoom) -> Zoom:
    """The next one: after the longest comes the shortest."""
    return ZOOMS[(ZOOMS.index(zoom) + 1) % len(ZOOMS)]


def room(cells: int) -> int:
    """How many of so many cells are left for values."""
    return max(_LEAST, cells - LABEL - MARGIN)


def over_time(
    points: Points, since_ms: int, until_ms: int, cells: int, *, held: bool = True, peak: bool = True
) -> Values:
    """One value a cell: the largest of its points, or their mean (`peak` False). Where there is none the value before it (`held`), or
    nothing. Points before `since_ms` say only what it was at the beginning."""
    groups: list[list[float]] = [[] for _ in range(cells)]
    before: float | None = None
    for at_ms, value in points:
        if at_ms < since_ms:
            before = value
        elif at_ms <= until_ms:
            groups[min(cells - 1, (at_ms - since_ms) * cells // max(1, until_ms - since_ms))].append(value)
    found: Values = []
    for group in groups:
        if group:
            found.append(max(group) if peak else sum(group) / len(group))
            before = group[-1]
        else:
            found.append(before if held else None)
    return found


def per_minute(points: Points, step_ms: int) -> list[tuple[int, float]]:
    """How much a counter grew in the minute (or the whole step, if that is longer) before each point, a minute. It only grows: where it
    is less than before it began anew. Between points nothing moved."""
    window = max(60_000, step_ms)
    found: list[tuple[int, float]] = []
    totals: list[float] = []
    start = 0
    for place, (at_ms, value) in enumerate(points):
        before = points[place - 1][1] if place else value
        totals.append((totals[-1] if totals else 0.0) + (value - before if value >= before else value))
        while start + 1 < place and points[start + 1][0] <= at_ms - window:
            start += 1
        if place:
            found.append((at_ms, (totals[place] - totals[start]) * 60_000 / window))
    return found


def largest(values: Iterable[float | None]) -> float:
    return max((value for value in values if value is not None), default=0.0)


def area(values: Values, rows: int, most: float, write: Write, *, style: str = "text", now: str = "") -> list[Line]:
    """`rows` lines of blocks under the values, the scale from 0 to `most` at the left, what it is now at the right of the first one."""
    scale = most if most > 0 else 1.0
    levels = [None if value is None else _eighths(value, scale, rows) for value in values]
    lines: list[Line] = []
    for row in range(rows):
        floor = (rows - 1 - row) * 8
        drawn = "".join(" " if level is None else BLOCKS[max(0, min(8, level - floor))] for level in levels)
        label = write(most * (rows - row) / rows) if row == 0 or (row == rows // 2 and most > 1) else ""
        right = f" {now}" if row == 0 and now else ""
        lines.append(((fit(label, LABEL - 2, right=True) + " ┤", "dim"), (drawn, style), (right, "strong")))
    return lines


def spark(label: str, values: Values, now: str, *, style: str = "text") -> Line:
    """One line of blocks with its name and what it is now."""
    most = largest(values)
    drawn = "".join(" " if value is None else BLOCKS[max(1, _eighths(value, most or 1.0, 1))] for value in values)
    return (*_named(label), (drawn, style), (f" {now}", "strong"))


def numbers(label: str, values: Values, cells: int, write: Write, *, style: str = "text") -> Line:
    """The means of equal parts of the time, written out; as many as there is room for."""
    texts = [write(value) for value in values if value is not None]
    wide = max(5, max((len(text) for text in texts), default=0) + 1)
    parts = max(1, cells // wide)
    found: list[str] = []
    for part in range(parts):
        group = values[part * len(values) // parts : (part + 1) * len(values) // parts]
        known = [value for value in group if value is not None]
        found.append(fit(write(sum(known) / len(known)) if known else "·", wide))
    return (*_named(label), ("".join(found).rstrip(), style))


def marks(label: str, steps: Iterable[tuple[int, str, str]], since_ms: int, until_ms: int, cells: int) -> Line:
    """A mark (glyph, style) at each time; of several in one cell the last."""
    found: dict[int, tuple[str, str]] = {}
    for at_ms, glyph, style in steps:
        if since_ms <= at_ms <= until_ms:
            found[min(cells - 1, (at_ms - since_ms) * cells // max(1, until_ms - since_ms))] = (glyph, style)
    spans = tuple(found.get(cell, (" ", "")) for cell in range(cells))
    return (*_named(label), *spans)


def axis(since_ms: int, until_ms: int, cells: int) -> Line:
    """The times below a plot: at its beginning, between, and at its end."""
    days = until_ms - since_ms > 2 * 86_400_000
    wide = 6 if days else 5
    count = max(1, min(4, cells // (wide + 7)))
    text, free = [" "] * (cells + wide), 0
    for part in range(count + 1):
        at = datetime.fromtimestamp((since_ms + (until_ms - since_ms) * part // count) / 1000)
        said = at.strftime("%d %b" if days else "%H:%M")
        start = max(0, min(cells - len(said), part * cells // count - (len(said) // 2 if 0 < part < count else 0)))
        if start >= free:
            text[start : start + len(said)] = said
            free = start + len(said) + 1
    return ((" " * LABEL, ""), ("".join(text).rstrip(), "faint"))


def _named(label: str) -> Line:
    return ((fit(label, LABEL - 2, right=True) + " ┤", "dim"),)


def _eighths(value: float, most: float, rows: int) -> int:
    """How high it stands, in eighths of a row; what there is shows."""
    return max(1 if value > 0 else 0, min(rows * 8, round(value / most * rows * 8)))
