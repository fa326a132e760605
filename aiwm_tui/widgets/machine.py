"""The first line: the machine and the mode. Pure functions over records; the app shows what they return.

Numbers that need someone are the only coloured ones. On a narrow terminal the parts that matter least go first."""

from __future__ import annotations

from collections.abc import Sequence

from aiwm_tui.live import format as form
from aiwm_tui.live.link import Phase
from aiwm_tui.live.text import Line, Span, clean, line_width
from aiwm_tui.states import glyph
from engine.contract.records import MachineRow

GAP: Line = (("   ", ""),)


def machine_line(row: MachineRow | None, phase: Phase, now: int, cells: int, mode: Line) -> tuple[Line, Line]:
    """Left and right part of the machine line in `cells` cells."""
    right: Line = (*mode, (" ", ""))
    room = cells - line_width(right) - 1
    parts = _parts(row, phase, now)
    while len(parts) > 1 and sum(line_width(part) for _, part in parts) + 3 * (len(parts) - 1) + 1 > room:
        parts.remove(max(parts, key=lambda part: part[0]))
    line: list[Span] = [(" ", "")]
    for place, (_, part) in enumerate(parts):
        line += [*(GAP if place else ()), *part]
    return tuple(line), right


def _parts(row: MachineRow | None, phase: Phase, now: int) -> list[tuple[int, Line]]:
    """(what goes first: the highest number, the part)."""
    if row is None:
        word = {
            Phase.connecting: ("coming", "starting the engine"),
            Phase.failed: ("broken", "the engine did not start"),
            Phase.lost: ("broken", "the engine is gone"),
        }.get(phase, ("coming", "connected"))
        return [(0, (("aiwm ", "strong"), (f"{glyph(word[0])} {word[1]}", word[0])))]
    style = {"storage-failed": "broken", "stopping": "coming"}.get(row.mode, "works")
    style = style if phase is Phase.live else "broken"
    numbers = [("run", row.running, ""), ("wait", row.waiting, ""), ("fail", row.fail_today, "alert")]
    if row.asks:
        numbers.append(("ask", row.asks, "alert"))
    up = f" up {form.since(row.started_ms, now)}"
    parts: list[tuple[int, Line]] = [
        (3, ((clean(row.host, 24) + " ", "strong"), (glyph(style), style), (up, "dim"))),
        (0, _numbers(numbers)),
        (1, ((f"{form.speed(row.tokens_per_s)} tok/s", "text" if row.tokens_per_s else "dim"),)),
    ]
    if row.cpu_percent is not None:
        parts.append((5, ((f"cpu {row.cpu_percent:.0f} %", "dim"),)))
    parts += [(4, ((clean(gpu, 24), "dim"),)) for gpu in row.gpus]
    return parts


def _numbers(values: Sequence[tuple[str, int, str]]) -> Line:
    line: list[Span] = []
    for place, (word, value, alarm) in enumerate(values):
        line.append(("  " + word if place else word, "dim"))
        line.append((f" {value:,}", (alarm if value else "") or "text"))
    return tuple(line)


def location_line(location: str, trail: Sequence[str], room: int) -> Line:
    """Where one is, and as far as there is room where one came from: ` :tasks queue:etl  ‹ queues ‹ overview`."""
    line: Line = ((" ", ""), (clean(location), "strong"))
    for place, name in enumerate(trail):
        longer: Line = (*line, (("  ‹ " if not place else " ‹ ") + clean(name, 40), "faint"))
        if line_width(longer) > room:
            break
        line = longer
    return line


def mode_line(
    row: MachineRow | None,
    phase: Phase,
    held: int | None,
    stale_ms: int,
    changed_ms: int,
    read_only: bool,
    replay: str = "",
) -> Line:
    """The right end: `live`, `held +312`, `stale 3s`, `read-only`, and the time of the last change; of a recording, where it stands."""
    clock: Span = ("  " + form.clock(changed_ms), "dim") if changed_ms else ("", "")
    if phase is Phase.connecting:
        return (("connecting", "held_mode"),)
    if phase is not Phase.live:
        return ((f"stale {form.age(stale_ms)}" if changed_ms else "not connected", "alert"), clock)
    if replay:
        return ((replay, "alert"),)
    if held is not None:
        return ((f"held +{held}", "held_mode"), clock)
    if row is not None and row.mode not in ("live", "read-only"):
        return ((clean(row.mode, 20), "alert"), clock)
    if read_only:
        return (("read-only", "held_mode"), clock)
    return (("live", "mode"), clock)
