"""Where a task's settings come from, level by level, and what was learned about it. Pure."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, clean, fit
from aiwm_tui.live.wrapping import wrapped
from engine.contract.records.notes import TaskNotes
from engine.contract.requests.context import EffectiveContext


def origin_lines(context: EffectiveContext, cells: int) -> list[Line]:
    """Each source, the supervisor and the tools with the level that gave it; nothing when no level gives anything."""
    rows: list[tuple[str, str, str, str]] = []
    for given in context.sources:
        also = f" also {', '.join(given.also)}" if given.also else ""
        problem = f" ✗ {given.problem}" if given.problem else ""
        rows.append(
            ("source", given.source, f"{given.level} {given.name}{also}{problem}", "broken" if problem else "dim")
        )
    if context.supervisor is not None:
        said = context.supervisor
        over = f" before {', '.join(said.over)}" if said.over else ""
        rows.append(("supervisor", said.supervisor, f"{said.level} {said.name}{over}", "dim"))
    if context.tools:
        tools = " ".join(f"{tool}?" if tool in context.needs_approval else tool for tool in context.tools)
        rows.append(("tools", tools, ", ".join(context.tools_from), "dim"))
    if context.tools_deny:
        rows.append(("denied", " ".join(context.tools_deny), "deny list", "dim"))
    if not rows:
        return []
    lines: list[Line] = []
    for label, value, origin, style in rows:
        line: Line = (
            (f"{label:<12}", "dim"),
            (fit(clean(value, 200), max(16, min(24, len(value)))), "text"),
            (f"  {clean(origin, 200)}", style),
        )
        lines += wrapped(line, cells)
    if context.bounded_by:
        lines += wrapped((("bounded by ", "dim"), (clean(" ".join(context.bounded_by), 200), "text")), cells)
    if context.note:
        lines += wrapped(((clean(context.note, 300), "faint"),), cells)
    return lines


def note_lines(notes: TaskNotes, now_ms: int, cells: int) -> list[Line]:
    """The lessons it was given, what its worker noted, and what was said of it."""
    lines: list[Line] = []
    if notes.lessons:
        lines += [(), (("LESSONS IT WAS GIVEN", "title"),)]
        for lesson in notes.lessons:
            lines += wrapped(
                ((f"{clean(lesson.id, 20)} v{lesson.version}  ", "dim"), (clean(lesson.title, 200), "text")), cells
            )
    if notes.insights:
        lines += [(), (("WHAT ITS WORKER NOTED", "title"),)]
        for insight in notes.insights:
            style = "wrong" if insight.level in ("warn", "error") else "text"
            at = f"{form.clock(insight.at_ms)}  "
            lines += wrapped(((at, "dim"), (clean(insight.message, 400), style)), cells)
    if notes.feedback:
        lines += [(), (("WHAT WAS SAID OF IT", "title"),)]
        for said in notes.feedback:
            rating = "" if said.rating is None else f"{said.rating * 100:.0f} %  "
            lines += wrapped(
                (
                    (rating, "strong"),
                    (clean(said.comments, 400), "text"),
                    (f"  {clean(said.by, 60)}, {form.since(said.at_ms, now_ms)} ago", "dim"),
                ),
                cells,
            )
            if said.corrections:
                lines += wrapped((("better: ", "dim"), (clean(said.corrections, 400), "text")), cells)
    return lines
