"""Words for numbers in reasons."""

from __future__ import annotations


def span(ms: int) -> str:
    """A duration: 0.4 s, 12 s, 41 min, 1 h 52 min."""
    if ms < 10_000:
        return f"{max(0, ms) / 1000:.1f} s"
    seconds = ms // 1000
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def many(count: int, one: str, more: str) -> str:
    """1 task waits, 7 tasks wait."""
    return f"{count:,} {one if count == 1 else more}"
