"""Bars of letters and rows of blocks: shares of a whole, and values over time, readable without colour. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"


def shares(parts: Sequence[int], total: int, cells: int) -> list[int]:
    """How many of `cells` each part of `total` takes. What there is has at least one cell; the parts together never more than the whole.

    What is left over by rounding down goes to the parts that lose most by it."""
    if total <= 0 or cells <= 0:
        return [0] * len(parts)
    exact = [max(0, part) * cells / max(total, sum(parts)) for part in parts]
    found = [max(int(share), 1 if share > 0 else 0) for share in exact]
    order = sorted(range(len(parts)), key=lambda place: found[place] - exact[place])
    missing = min(cells, round(sum(exact))) - sum(found)
    for place in order:
        if missing > 0 and exact[place] > found[place]:
            found[place] += 1
            missing -= 1
    while sum(found) > cells:
        found[max(range(len(found)), key=found.__getitem__)] -= 1
    return found


def sparkline(values: Sequence[float], cells: int) -> str:
    """The last values as blocks, `cells` of them at most; several values share a cell by their largest. Empty for none."""
    if not values or cells <= 0:
        return ""
    step = -(-len(values) // cells)
    start = len(values) % step
    groups = ([values[:start]] if start else []) + [values[at : at + step] for at in range(start, len(values), step)]
    tops = [max(group) for group in groups]
    most = max(tops)
    return "".join(_BLOCKS[min(7, round(top / most * 7))] if most > 0 else _BLOCKS[0] for top in tops)
