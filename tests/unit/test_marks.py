"""Marks: some by id, or all that match but some; what names them in a request."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiwm_tui.live.marks import Marks
from engine.contract.query import parse, parse_filter

IDS = [f"t-{number}" for number in range(8)]


def test_a_row_can_be_taken_out_of_all() -> None:
    marks = Marks().all_or_none().toggled("t-2").toggled("t-1")
    assert marks.count(10) == 8
    assert "t-2" not in marks
    assert "t-3" in marks
    assert marks.named("state:failed") == {"where": "state:failed !id:t-1,t-2"}
    assert marks.named("") == {"where": "!id:t-1,t-2"}
    assert Marks(everything=True).named("") == {"where": "id:*"}
    assert Marks().named("state:failed") == {}
    assert not marks.all_or_none().ids
    assert not Marks(everything=True).all_or_none()


def test_a_range_adds_and_goes_on_from_where_it_ended() -> None:
    marks = Marks().toggled("t-1").through(["t-1", "t-2", "t-3"], "t-3")
    assert marks.named("x") == {"ids": ("t-1", "t-2", "t-3")}
    assert marks.last == "t-3"
    assert Marks(frozenset({"t-1"}), everything=True).through(["t-1"], "t-1").ids == frozenset()


@given(st.lists(st.one_of(st.sampled_from(IDS), st.just("*"))))
def test_what_is_named_is_what_is_marked(steps: list[str]) -> None:
    from engine.contract.query import matches
    from tests.support.rows import task_row

    marks = Marks()
    for step in steps:
        marks = marks.all_or_none() if step == "*" else marks.toggled(step)
    named = marks.named("")
    rows = [task_row(id=identifier) for identifier in IDS]
    meant = {row.id for row in rows if row.id in marks}
    if "where" in named:
        assert parse_filter("tasks", named["where"])
        found = {row.id for row in rows if matches(parse(f":tasks {named['where']}"), row, 0)}
    else:
        found = set(named.get("ids", ()))
    assert found == meant
    assert marks.count(len(IDS)) == len(meant)
    assert bool(marks) == bool(named)
