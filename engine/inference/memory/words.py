"""Sizes and spans as people read them."""

from __future__ import annotations


def size_text(count: float) -> str:
    """Bytes with one binary unit: `148k`, `5.2M`, `16.8G`."""
    value = abs(count)
    sign = "-" if count < 0 else ""
    if value < 1024:
        return f"{sign}{value:.0f}B"
    for unit in "kMGT":
        value /= 1024
        if value < 1000 or unit == "T":
            return f"{sign}{value:.1f}{unit}" if unit in "GT" or value < 10 else f"{sign}{value:.0f}{unit}"
    raise AssertionError("the loop returns")


def span_text(ms: int) -> str:
    """`19s`, `4m`, `2h05m`."""
    seconds = max(0, ms) // 1000
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 7200:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
