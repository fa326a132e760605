"""What the dialog for a change to several tasks says: which tasks, what it costs, what comes after, the same for the shell. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, clean, fit, width
from aiwm_tui.states import state_span
from engine.contract.requests.tasks import Plan

UNDO_MS = 5_000
"""How long a change that destroys something waits before it is done."""
TYPED_FROM = 20
"""So many and more must be typed."""
AT_ONCE, CANARY = "all at once", "try 1, then the rest"
END, FRONT = "end of its queue", "front"
_IDS_IN_SHELL = 12


def chosen(plan: Plan, rows: Mapping[str, Any], source: str, most: int, now: int) -> list[Line]:
    """The first tasks of the set, `most` of them, from the ids that the change is fixed to and nothing else. `source` is the location
    that they were chosen from, `now` when (Unix ms)."""
    these = "These and no others" if plan.count > 1 else "This one and no other"
    late = "; what matches later is not in it" if plan.count > 1 else ""
    lines: list[Line] = [
        ((f"{these}: ", "text"), (f"fixed {form.clock(now)} from ", "dim"), (clean(source, 200), "text"), (late, "dim"))
    ]
    shown = plan.ids[:most]
    known = [rows[each] for each in shown if each in rows]
    queue = max([5, *(min(16, width(clean(row.queue, 40))) for row in known)])
    if known:
        titles = ("  " + fit("id", 12), fit("state", 14), fit("queue", queue), fit("try", 6, right=True))
        numbers = (fit("in", 8, right=True), fit("out", 8, right=True), "  why")
        lines.append(tuple((text + " ", "head") for text in (*titles, *numbers)))
    for identifier in shown:
        lines.append(_row(identifier, rows.get(identifier), queue))
    if plan.count > len(shown):
        lines.append(((f"  … {plan.count - len(shown):,} more ", "dim"), ("ctrl+o", "key"), (" lists them all", "dim")))
    return lines


def _row(identifier: str, row: Any, queue: int) -> Line:
    line: Line = (("  " + fit(identifier, 12) + " ", "strong"),)
    if row is None:
        return line
    state = state_span("tasks", row.state)
    return (
        *line,
        (fit(state[0], 14) + " ", state[1]),
        (fit(clean(row.queue, 40), queue) + " ", "text"),
        (fit(f"{row.attempt}/{row.max_attempts}", 6, right=True) + " ", "dim"),
        (fit(form.count(row.tokens_in), 8, right=True) + " ", "dim"),
        (fit(form.count(row.tokens_out), 8, right=True) + " ", "dim"),
        ("  " + clean(row.reason or row.error or "", 60), "dim"),
    )


def effect(verb: str, plan: Plan, about: Mapping[str, Any], texts: Mapping[str, str]) -> list[Line]:
    """Costs, what comes after, and the command, as far as the fields say by now."""
    lines: list[Line] = [(), _labelled("Costs", _cost(verb, plan)), _labelled("Afterwards", _after(verb, plan, texts))]
    if plan.count >= TYPED_FROM:
        asked = f"asked from {TYPED_FROM} up" + (
            ", and it ends what runs" if verb == "cancel" and plan.cost.running else ""
        )
        lines.append(_labelled("Type", f"{plan.count} to go on ({asked})"))
    return [*lines, _labelled("From the shell", shell(verb, plan, about, texts), "text")]


def _labelled(label: str, text: str, style: str = "dim") -> Line:
    return ((f"{label:<15}", "faint"), (clean(text, 4000), style))


def _cost(verb: str, plan: Plan) -> str:
    cost = plan.cost
    used = f"{form.count(cost.tokens_in)} tokens in, {form.count(cost.tokens_out)} out" + (
        f", ${cost.cost_usd:.4f}" if cost.cost_usd else ""
    )
    spent = bool(cost.tokens_in or cost.tokens_out)
    if verb == "retry":
        return f"about what they used so far: {used}" if spent else "nothing is known of what they will use"
    if verb == "move":
        return "nothing: they wait elsewhere"
    those = "it runs now and is" if plan.count == 1 else f"{form.plural(cost.running, 'task')} of these run now and are"
    stops = f"{those} told to stop; what was written is kept" if cost.running else "nothing runs yet"
    return f"{stops}; used so far: {used}" if spent else stops


def _after(verb: str, plan: Plan, texts: Mapping[str, str]) -> str:
    if verb == "cancel":
        return f"it is done {UNDO_MS // 1000} s after you say so; until then Z takes it back"
    back = "it stands in :operations; Z takes back those that have not started by then"
    if verb == "retry" and texts.get("first") == CANARY and plan.count > 1:
        return f"1 is tried, {plan.count - 1:,} follow when it has completed and stay failed if it fails; {back}"
    return back


def shell(verb: str, plan: Plan, about: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    """The command that does the same, with what is typed by now. A filter is looked up again by the shell: it says so itself."""
    parts = ["aiwm", "task", verb]
    where = about.get("where")
    if where:
        parts += ["--where", shlex.quote(str(where))]
    else:
        parts += list(plan.ids[:_IDS_IN_SHELL])
        if plan.count > _IDS_IN_SHELL:
            parts.append(f"… ({plan.count - _IDS_IN_SHELL:,} more ids)")
    for name in ("adapter", "queue", "priority"):
        if texts.get(name, "").strip():
            parts += [f"--{name}", shlex.quote(texts[name].strip())]
    if texts.get("place") == FRONT:
        parts.append("--front")
    if texts.get("first") == CANARY:
        parts += ["--canary", "1"]
    if texts.get("reason", "").strip():
        parts += ["--reason", shlex.quote(texts["reason"].strip())]
    if verb == "cancel":
        parts += ["--delay", f"{UNDO_MS // 1000}s"]
    return " ".join([*parts, *(["--yes"] if plan.count >= TYPED_FROM else [])])


def missing(ids: Sequence[str], rows: Mapping[str, Any]) -> list[str]:
    """Of which tasks only the id is known."""
    return [each for each in ids if each not in rows]
