"""The facts of one task, as lines: what its row says, what it was asked, what was learned about it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, Span, clean, clean_lines
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.states import state_span
from engine.contract.records import TaskDetail, TaskNotes, TaskRow
from engine.contract.states import TaskState


def fact(label: str, *spans: Span) -> Line:
    return ((f"{label:<12}", "dim"), *spans)


def row_facts(row: TaskRow, detail: TaskDetail | None, now: int) -> list[Line]:
    """What a task's row says, and what else is known of it in one line each."""
    facts = [
        *_standing(row, now),
        *_asked_for(row, detail, now),
        *_came_out(row, detail),
        *(_learned(detail.notes) if detail is not None else ()),
    ]
    return [fact(label, *spans) for label, *spans in facts]


def _standing(row: TaskRow, now: int) -> list[tuple[Any, ...]]:
    """Where it is."""
    ran = (row.ended_ms or now) - row.started_ms if row.started_ms and row.state != "pending" else None
    on = " · ".join(part for part in (row.instance, row.pool, row.definition) if part) or form.NONE
    waited = (
        row.started_ms - row.submitted_ms if row.started_ms is not None else (row.ended_ms or now) - row.submitted_ms
    )
    return [
        (
            "state",
            state_span("tasks", row.state),
            (f"  {form.age(ran)}" if ran is not None else "", "dim"),
            (f"  waited {form.span(waited)}", "dim"),
        ),
        ("try", (f"{row.attempt} of {row.max_attempts}", "text")),
        ("on", (clean(on), "text")),
        ("queue", (clean(row.queue), "text"), (f"  prio {row.priority}", "dim")),
        ("submitted", (form.moment(row.submitted_ms, now), "text"), (f"  by {clean(row.by, 40)}", "dim")),
    ]


def _asked_for(row: TaskRow, detail: TaskDetail | None, now: int) -> list[tuple[Any, ...]]:
    """What was asked for."""
    facts: list[tuple[Any, ...]] = []
    if row.due_ms is not None and not TaskState(row.state).ended:
        facts.append(("due", (form.moment(row.due_ms, now), "text")))
    if row.template:
        facts.append(("template", (clean(row.template), "text")))
    if row.after:
        facts.append(("after", (f"waits for {form.plural(row.after, 'other task')}", "held")))
    if row.batch:
        facts.append(("batch", (clean(row.batch), "text")))
    if detail is None:
        return facts
    if detail.deadline_ms is not None:
        facts.append(("deadline", (form.moment(detail.deadline_ms, now), "text")))
    if detail.capabilities:
        facts.append(("needs", (clean(" ".join(detail.capabilities)), "text")))
    if detail.idempotency_key:
        facts.append(("key", (clean(detail.idempotency_key, 60), "text")))
    schema = detail.payload.get("schema") if isinstance(detail.payload, dict) else None
    if isinstance(schema, dict):
        facts.append(("answer in", (_schema_words(schema), "text")))
    return facts


def _came_out(row: TaskRow, detail: TaskDetail | None) -> list[tuple[Any, ...]]:
    """What it took and what made it."""
    cost = "" if row.cost_usd is None else f"  ${row.cost_usd:.4f}"
    facts: list[tuple[Any, ...]] = [
        ("tokens", (f"{form.count(row.tokens_in)} in  {form.count(row.tokens_out)} out", "text"), (cost, "strong"))
    ]
    if row.fail and row.state == "failed":
        facts.append(("failure", (clean(row.fail, 40), "text"), ("  :failures", "dim")))
    result = detail.result if detail is not None and isinstance(detail.result, dict) else {}
    adapters = result.get("adapters")
    for use in adapters if isinstance(adapters, list) else ():
        facts.append(("adapter", (_adapter(use), "text")))
    route = result.get("route")
    if isinstance(route, list) and route:
        facts.append(("route", (clean(" → ".join(map(str, route)), 200), "text")))
    calls = result.get("tool_calls")
    if isinstance(calls, list) and isinstance(result.get("steps"), int):
        said = f"{form.plural(len(calls), 'tool call')} in {form.plural(result['steps'], 'model call')}"
        facts.append(("tools", (said, "text")))
    return facts


def _learned(notes: TaskNotes) -> list[tuple[Any, ...]]:
    """The lessons that a task was given, the last of what its worker noted, and what was said of it."""
    facts: list[tuple[Any, ...]] = [
        ("lesson", (clean(it.id, 12), "text"), (f"  {clean(it.title, 60)}", "dim")) for it in notes.lessons
    ]
    facts += [("insight", (clean(it.message, 80), "text")) for it in notes.insights[-3:]]
    for said in notes.feedback[:2]:
        rating = "no rating" if said.rating is None else f"{said.rating:.0%}"
        facts.append(("feedback", (rating, "text"), (f"  {clean(said.by, 24)}: {clean(said.comments, 80)}", "dim")))
    return facts


def _schema_words(schema: dict[str, Any]) -> str:
    """A schema in a few words: its title, else the properties of what it describes."""
    title, properties = schema.get("title"), schema.get("properties")
    if isinstance(title, str) and title:
        return f"schema {clean(title, 60)}"
    named = ", ".join(clean(name, 20) for name in list(properties)[:6]) if isinstance(properties, dict) else ""
    return f"JSON: {named}" if named else "JSON by a schema"


def _adapter(use: Any) -> str:
    if not isinstance(use, dict):
        return clean(str(use), 80)
    return clean(f"{use.get('name', '')} {str(use.get('digest', ''))[:8]} w {use.get('weight', 1)}", 80)


def tool_lines(detail: TaskDetail, cells: int) -> list[Line]:
    """The tools that its model called, in order, with what they were given."""
    result = detail.result if isinstance(detail.result, dict) else {}
    calls = result.get("tool_calls")
    if not isinstance(calls, list) or not calls:
        return []
    lines: list[Line] = [(), (("TOOL CALLS", "title"),)]
    for number, call in enumerate(calls[:50], 1):
        named = call if isinstance(call, dict) else {"name": call}
        ok = named.get("ok", True)
        told = msgspec.json.encode(named.get("arguments", {})).decode()
        took = named.get("ms")
        verdict = named.get("verdict", "allowed")
        refused = "" if verdict == "allowed" else f"{verdict} ({named.get('gate', '')}) "
        head: Line = (
            (f"{number:>3} ", "faint"),
            ("✓ " if ok else "✗ ", "done" if ok else "broken"),
            (clean(str(named.get("tool") or named.get("name") or ""), 60) + " ", "text"),
            (clean(refused, 80), "wrong"),
            (clean(told, 300), "dim"),
            (f"  {form.span(took)}" if isinstance(took, (int, float)) and took else "", "text"),
        )
        lines += wrapped(head, cells)
    return lines


def asked_lines(payload: Any, cells: int) -> list[Line]:
    """The payload: a prompt as its text, the rest as JSON."""
    lines: list[Line] = []
    if isinstance(payload, dict) and isinstance(payload.get("prompt"), str):
        lines += _text_lines(payload["prompt"], cells)
        payload = {name: value for name, value in payload.items() if name != "prompt"}
        if not payload:
            return lines
        lines.append(())
    return [*lines, *_text_lines(msgspec.json.format(msgspec.json.encode(payload), indent=2).decode(), cells)]


def _text_lines(text: str, cells: int) -> list[Line]:
    return [part for each in clean_lines(text[:20_000])[:200] for part in wrapped(((each, "text"),), cells, 0)]
