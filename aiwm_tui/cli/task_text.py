"""A task's page as plain text."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.records import TaskDetail, TaskNotes


def result_text(result: Any) -> str:
    """What a person wants to see of a result: a language model's text, else JSON."""
    if isinstance(result, dict) and isinstance(result.get("text"), str):
        return str(result["text"])
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()


def detail_text(detail: TaskDetail) -> str:
    """What was asked, what came out, what happened, in this order."""
    from aiwm_tui.cli.output import fields_text
    from aiwm_tui.live.format import clock_ms
    from aiwm_tui.live.text import clean, clean_lines

    row = {name: value for name, value in msgspec.structs.asdict(detail.row).items() if value not in (None, "", ())}
    lines = [fields_text(row)]
    for title, value in (("asked", detail.payload), ("result", detail.result)):
        if value is not None:
            lines += [title, *(f"  {line}" for line in clean_lines(_pretty(value)))]
    if detail.error is not None:
        fix = f" ({detail.error.fix})" if detail.error.fix else ""
        lines += ["error", clean(f"  {detail.error.code}: {detail.error.message}{fix}")]
        lines += [f"  | {clean(line)}" for line in detail.error.stderr]
    lines += notes_lines(detail.notes)
    if detail.timeline:
        lines.append("timeline")
        lines += [clean(f"  {clock_ms(step.at_ms)}  {step.type}  {step.text}").rstrip() for step in detail.timeline]
    return "\n".join(lines)


def notes_lines(notes: TaskNotes) -> list[str]:
    """What was learned about a task: the lessons it was given, what its worker noted, what was said of it."""
    from aiwm_tui.live.text import clean

    lines = []
    if notes.lessons:
        lines += ["lessons", *(clean(f"  {it.id} (version {it.version})  {it.title}") for it in notes.lessons)]
    if notes.insights:
        lines += ["insights", *(clean(f"  {it.level:<5}  {it.message}") for it in notes.insights)]
    for said in notes.feedback:
        rating = "no rating" if said.rating is None else f"{said.rating:.0%}"
        lines += [clean(f"feedback  {rating} by {said.by}: {said.comments}")]
        if said.corrections:
            lines.append(clean(f"  should: {said.corrections}"))
    return lines


def _pretty(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"prompt"} and isinstance(value["prompt"], str):
        return value["prompt"]
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
