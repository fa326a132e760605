"""The models that lie in the directories found, as rows: a verdict each, and what the strip says of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.text import Line, Span, clean, clean_lines
from aiwm_tui.screens.wording import facts, para
from engine.contract.records import Record

if TYPE_CHECKING:
    from engine.contract.requests.models import Verdict

_STYLES = {"usable": "works", "no room": "held", "refused": "dim", "damaged": "broken", "no model": "faint"}


class DiskRow(Record, frozen=True, kw_only=True):
    """A model on disk; its id is its path."""

    verdict: Verdict


def disk_rows(verdicts: tuple[Verdict, ...]) -> list[DiskRow]:
    """What can be used first, then what has no room now, then the rest; equal ones by name. What is no model is left out."""
    order = ["usable", "no room", "refused", "damaged"]
    real = [it for it in verdicts if it.state in order]
    return [
        DiskRow(id=it.path, verdict=it) for it in sorted(real, key=lambda it: (order.index(it.state), it.name.lower()))
    ]


def _fits(row: DiskRow, _: int) -> Span:
    it = row.verdict
    if it.fits:
        return " ".join(clean(device, 12) for device in it.fits), "works"
    return (it.state, _STYLES.get(it.state, "text"))


def _with(row: DiskRow, _: int) -> Span:
    it = row.verdict
    if it.known_as:
        return f"in use as {clean(it.known_as, 64)}", "done"
    if it.state == "usable":
        return clean(it.runs_with, 40), "text"
    return clean(f"{it.why}{f': {it.fix}' if it.fix else ''}", 300), _STYLES.get(it.state, "text")


def _kind(row: DiskRow, _: int) -> Span:
    return clean(f"{row.verdict.kind} {row.verdict.quant}".strip(), 24), "text"


COLUMNS: tuple[Column, ...] = (
    Column("", "directory", lambda row, _: (clean(row.verdict.name, 64), "strong"), most=36),
    Column("", "kind", _kind, most=14),
    Column(
        "",
        "needs",
        lambda row, _: (form.size(row.verdict.needs_bytes) if row.verdict.needs_bytes else form.NONE, "text"),
        right=True,
        most=7,
    ),
    Column("", "fits", _fits, most=16),
    Column("", "runs with", _with, flex=True),
)


def explained(it: Verdict) -> tuple[Line, ...]:
    """The verdict whole: what it is, what it needs, what runs it and what does not, its chat template."""
    lines: list[Line] = [para(it.path, "dim")]
    about = [("kind", f"{it.kind} {it.quant}".strip())]
    about += [("architecture", it.architecture)] if it.architecture else []
    about += [("parameters", form.short(it.parameters))] if it.parameters else []
    about += [("made for", f"{it.max_context:,} tokens")] if it.max_context else []
    lines.append(facts(about))
    if it.needs_bytes:
        sized = f"{form.plural(it.slots, 'request')} of {it.context:,} tokens"
        parts = [("needs", f"{form.size(it.needs_bytes)} for {sized}"), ("weights", form.size(it.weights_bytes))]
        lines.append(facts([*parts, ("KV", form.size(it.kv_bytes)), ("the rest", form.size(it.scratch_bytes))]))
    lines += _runs(it)
    lines += [para(f"note: {note}", "dim") for note in it.notes[:3]]
    lines.append(
        para("chat template: " + ("none, so it takes bare prompts only" if it.template == "none" else it.template))
    )
    lines += [((" │ " + line, "dim"),) for line in clean_lines(it.sample[:2000])[:6]] if it.sample else []
    return tuple(lines)


def _runs(it: Verdict) -> list[Line]:
    if it.known_as:
        return [para(f"It is in use as {it.known_as}: :models shows it.", "done")]
    if it.state == "usable":
        fits = " or ".join(it.fits)
        return [((" ↵ ", "key"), ("adds and loads it: ", "text"), (clean(f"{it.runs_with} on {fits}", 100), "works"))]
    lines: list[Line] = [((f" {it.state}: ", _STYLES.get(it.state, "text")), (clean(it.why, 400), "text"))]
    if it.fix:
        lines.append(((" To do: ", "dim"), (clean(it.fix, 300), "key")))
    if it.state == "no room":
        lines.append(((" ↵ ", "key"), ("adds it and shows the ways to make room", "text")))
    return lines
