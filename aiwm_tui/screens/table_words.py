"""What a page says about its table: how many rows, and why there are none. Pure."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.marks import Marks
from aiwm_tui.live.table import TableState
from aiwm_tui.live.text import Line, Span, clean
from aiwm_tui.states import known_states
from engine.contract.query import Location


def status_line(location: Location, state: TableState | None, index: int, marks: Marks, *, narrow: bool) -> Line:
    """Rows, the one under the cursor, marks and faults; where it is `narrow` only what the location leaves room for."""
    if state is None:
        return ()
    matched = form.count(state.matched) if state.exact else f"≥ {state.matched:,}"
    spans: list[Span] = []
    if location.terms:
        spans.append((f"{matched} match" + ("" if narrow else f" of {form.count(state.total)}"), "dim"))
    else:
        spans.append((f"{matched} {'row' if state.matched == 1 else 'rows'}", "dim"))
    if state.matched and not narrow:
        spans.append((f" · at {form.count(index + 1)}", "dim"))
    marked = marks.count(state.matched)
    if marked:
        spans.append((f" · {marked:,} marked", "mark"))
    if state.faults:
        spans.append((f" · {form.plural(state.faults, 'fault')}", "broken"))
    return tuple(spans)


def none_match(location: Location, total: int) -> tuple[Line, ...]:
    """There are rows, but the filter passes none of them; a state that no row ever has is named, with those that there are."""
    asked = [value for term in location.terms if term.field == "state" for value in term.values]
    known = known_states(location.table)
    odd = next((value for value in asked if known and "*" not in value and value not in known), None)
    states: tuple[Line, ...] = ()
    if odd is not None:
        states = (((f"there is no state {clean(odd, 40)} here: ", "alert"), (" ".join(known), "text")),)
    return (
        ((f"none of {form.plural(total, 'row')} matches ", "dim"), (clean(location.filter_text(), 400), "text")),
        *states,
        (("esc", "key"), (" back   ", "dim"), ("/", "key"), (" another filter", "dim")),
    )
