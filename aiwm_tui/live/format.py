"""How values are written: ages, sizes, counts, times. Pure; `–` = does not apply, `0` = none."""

from __future__ import annotations

from datetime import datetime

NONE = "–"


def age(ms: float | None) -> str:
    """A duration in at most five cells: `9s`, `6m41s`, `41m`, `1h52m`, `3d04h`, `214d`."""
    if ms is None:
        return NONE
    seconds = max(0, int(ms // 1000))
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 10:
        return f"{minutes}m{seconds:02d}s"
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02d}h" if days < 100 else f"{days}d"


def since(at_ms: int | None, now_ms: int) -> str:
    """How long ago that was."""
    return NONE if at_ms is None else age(now_ms - at_ms)


def span(ms: float | None) -> str:
    """A measured duration: `8ms`, `410ms`, `1.2s`, then as an age."""
    if ms is None:
        return NONE
    if ms < 1000:
        return f"{round(ms)}ms"
    return f"{ms / 1000:.1f}s" if ms < 60_000 else age(ms)


def exact(ms: int) -> str:
    """Exactly that long, in the largest unit that divides it, as one would type it: `5m`, `90s`, `1500ms`, `0`."""
    for factor, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")):
        if ms and ms % factor == 0:
            return f"{ms // factor}{unit}"
    return f"{ms}ms" if ms else "0"


def size(count: int | None) -> str:
    """Bytes with one binary unit: `148k`, `5M`, `16.8G`."""
    if count is None:
        return NONE
    if count < 1024:
        return f"{count}B" if count else "0"
    value = float(count)
    for unit in "kMGT":
        value /= 1024
        if value < 1000 or unit == "T":
            return f"{value:.1f}{unit}" if unit in "GT" or value < 10 else f"{value:.0f}{unit}"
    raise AssertionError("the loop returns")


def count(value: int | None) -> str:
    """A whole number with thousands separated."""
    return NONE if value is None else f"{value:,}"


def short(value: int | None) -> str:
    """A whole number in at most five cells: `977`, `7.2k`, `402k`, `1.9M`."""
    if value is None:
        return NONE
    if value < 1000:
        return str(value)
    for factor, unit in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        scaled = value / factor
        if scaled < 999.5:
            return f"{scaled:.1f}{unit}" if scaled < 99.95 else f"{scaled:.0f}{unit}"
    return f"{value / 1e12:.1f}T"


def rate(value: float | None) -> str:
    """A rate: one decimal below a hundred."""
    if value is None:
        return NONE
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def speed(value: float | None) -> str:
    """Tokens or steps a second: whole from ten up, 0 for none."""
    if not value:
        return NONE if value is None else "0"
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def clock(ms: int | None) -> str:
    """Local time of day `03:07:41`."""
    return NONE if ms is None else datetime.fromtimestamp(ms / 1000).strftime("%H:%M:%S")


def clock_ms(ms: int | None) -> str:
    """Local time of day with milliseconds."""
    return NONE if ms is None else f"{clock(ms)}.{ms % 1000:03d}"


def moment(ms: int | None, now_ms: int) -> str:
    """A point in time: the time of day, with the date in front when it is another day."""
    if ms is None:
        return NONE
    at, now = datetime.fromtimestamp(ms / 1000), datetime.fromtimestamp(now_ms / 1000)
    if at.date() == now.date():
        return at.strftime("%H:%M:%S")
    return at.strftime("%d %b %H:%M") if at.year == now.year else at.strftime("%Y-%m-%d %H:%M")


def countdown(ms: int, now_ms: int) -> str:
    """A point in time and how long until then, never less than is left: `15:28:13, in 42s`; the time alone when it has passed."""
    return moment(ms, now_ms) if ms <= now_ms else f"{moment(ms, now_ms)}, in {age(ms - now_ms + 999)}"


def plural(number: int, word: str) -> str:
    """`1 task`, `1,284 tasks`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
