"""Moments of a recording, as people type and read them. Pure."""

from __future__ import annotations

from aiwm_tui.live import format as form
from engine.contract.errors import AiwmError, Code
from engine.contract.query import span_ms, time_ms
from engine.contract.requests.recordings import ReplayState

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)
_LONG_MS = 600_000


def moment_ms(text: str, state: ReplayState) -> int:
    """The moment that is meant (Unix ms): `02:40` (the last one before the end), `2026-11-20T02:40`, `+5m` and `-30s` from where it stands,
    `start`, `end`. Raises `bad_request` for what is none, or lies outside of the recording."""
    typed = text.strip()
    named = {"start": state.from_ms, "end": state.to_ms, "": state.at_ms}
    if typed in named:
        return named[typed]
    try:
        if typed[0] in "+-":
            at = state.at_ms + (1 if typed[0] == "+" else -1) * span_ms(typed[1:])
            return round(min(max(at, state.from_ms), state.to_ms))
        at = time_ms(typed, state.to_ms)
    except (ValueError, OverflowError):
        message = f'"{typed[:40]}" is no moment'
        raise AiwmError(Code.bad_request, message, field="at", fix="02:40, +5m, -30s, start or end") from None
    if not state.from_ms - 1000 < at < state.to_ms + 1000:
        raise AiwmError(
            Code.bad_request,
            f"{form.moment(round(at), state.to_ms)} is not in the recording",
            field="at",
            fix=f"{form.moment(state.from_ms, state.to_ms)} to {form.clock(state.to_ms)}",
        )
    return round(min(max(at, state.from_ms), state.to_ms))


def scrub_ms(state: ReplayState) -> int:
    """How far one step of scrubbing goes: a minute, in short recordings ten seconds."""
    return 60_000 if state.to_ms - state.from_ms >= _LONG_MS else 10_000


def next_speed(speed: float, up: bool) -> float:
    """The next faster or slower speed; the last one stays."""
    others = [each for each in SPEEDS if (each > speed if up else each < speed)]
    return (min(others) if up else max(others)) if others else speed


def mode_words(state: ReplayState) -> str:
    """What the machine line says: `replay 02:10:11`, and how fast while it goes on."""
    return f"replay {form.clock(state.at_ms)}" + (f" {state.speed:g}x" if state.playing else "")


def place_words(state: ReplayState) -> str:
    """Where it stands, for the last line."""
    parts = [
        f"change {state.change:,} of {state.changes:,}",
        f"{form.moment(state.from_ms, state.at_ms)} to {form.moment(state.to_ms, state.at_ms)}",
    ]
    if state.at_ms >= state.to_ms:
        parts.append(f"it ends {state.ends}" if state.cut else f"the end: {state.ends}")
    if state.redacted:
        parts.append("texts of tasks are left out")
    if state.left_out:
        parts.append(f"not recorded: {state.left_out}")
    if state.skipped:
        parts.append(f"{state.skipped:,} changes of what is not recorded")
    return " · ".join(parts)
