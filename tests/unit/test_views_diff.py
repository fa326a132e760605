"""Diffs of windows: whoever applies them has the new window."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.notifications import ViewChanged
from engine.views.diff import Row, Shown, difference
from engine.views.pace import SHARE, SHORTEST_S, Pace

ROWS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 2), max_size=8)


def _shown(values: dict[str, int], top: int = 0, matched: int = 9) -> Shown:
    return Shown({key: {"id": key, "n": n} for key, n in values.items()}, top, matched, True, 10, None)


def apply(before: Shown, change: ViewChanged) -> tuple[list[Row], dict[str, Any]]:
    """What a client does with a notification."""
    rows = {key: row for key, row in before.rows.items() if key not in change.removed}
    rows |= {row["id"]: row for row in change.rows}
    order = list(rows) if change.order is None else change.order
    counts = {"top": change.top, "matched": change.matched, "exact": change.matched_exact, "total": change.total}
    return [rows[key] for key in order], counts


@given(before=ROWS, after=ROWS, tops=st.tuples(st.integers(0, 1), st.integers(0, 1)))
def test_a_client_that_applies_the_difference_has_the_window(
    before: dict[str, int], after: dict[str, int], tops: tuple[int, int]
) -> None:
    old, new = _shown(before, tops[0]), _shown(after, tops[1])
    change = difference("v1", 4, old, new)
    if change is None:
        assert list(old.rows.items()) == list(new.rows.items())
        assert tops[0] == tops[1]
        return
    assert (change.view, change.seq) == ("v1", 4)
    rows, counts = apply(old, change)
    assert rows == list(new.rows.values())
    assert counts == {"top": new.top, "matched": new.matched, "exact": new.exact, "total": new.total}


def test_only_what_changed_is_said() -> None:
    old = _shown({"a": 1, "b": 1, "c": 1})
    change = difference("v1", 1, old, _shown({"a": 1, "b": 2, "c": 1}))
    assert change is not None
    assert (change.rows, change.removed, change.order) == ([{"id": "b", "n": 2}], [], None)
    change = difference("v1", 1, old, _shown({"c": 1, "a": 1}))
    assert change is not None
    assert (change.rows, change.removed, change.order) == ([], ["b"], ["c", "a"])
    change = difference("v1", 1, old, _shown({"a": 1, "b": 1, "c": 1}, matched=10))
    assert change is not None
    assert (change.rows, change.order, change.matched) == ([], None, 10)


def test_cheap_views_are_looked_at_ten_times_a_second() -> None:
    pace = Pace()
    assert pace.spent("a", 0.0001, 0.0) == SHORTEST_S
    assert pace.spent("b", 0.001, 0.0) == SHORTEST_S


@pytest.mark.parametrize("costs", [[0.5], [0.2, 0.0001, 0.03], [1.0, 1.0, 1.0]])
def test_all_views_together_stay_below_their_share_of_a_core(costs: list[float]) -> None:
    pace, spent, now = Pace(), 0.0, 0.0
    due = dict.fromkeys(range(len(costs)), 0.0)
    while now < 1000:
        view = min(due, key=lambda name: due[name])
        now = max(now, due[view])
        spent += costs[view]
        due[view] = now + costs[view] + pace.spent(str(view), costs[view], now)
    assert spent / now <= SHARE * 1.1
    assert spent / now >= SHARE * 0.2
