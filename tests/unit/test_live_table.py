"""The reducer of views: rows, order and counts after each notification; gaps are seen; columns share a width."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from aiwm_tui.live.columns import Column, Slot, arrange, heading
from aiwm_tui.live.follow import Followed, chunk, started
from aiwm_tui.live.history import History, Place
from aiwm_tui.live.table import changed, differences, opened
from aiwm_tui.live.text import Span
from engine.contract.notifications import StreamChunk, ViewChanged
from engine.contract.requests.session import ViewRows
from engine.contract.requests.tasks import StreamState
from tests.support.console_machine import task


def _rows(*numbers: int, **changes: Any) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(task(number, **changes)) for number in numbers]


def _ids(*numbers: int) -> tuple[str, ...]:
    return tuple(task(number).id for number in numbers)


def _opened() -> Any:
    return opened(
        ViewRows(view="v", seq=4, location=":tasks", table="tasks", rows=_rows(1, 2, 3), top=10, matched=40, total=90)
    )


def test_an_opened_view_knows_its_window() -> None:
    state = _opened()
    assert state.ids == _ids(1, 2, 3)
    assert state.find(task(2).id) == 11
    assert state.find(task(9).id) is None
    assert state.at(12).id == task(3).id
    assert state.at(9) is None
    assert state.at(13) is None


def test_a_change_brings_rows_order_and_counts() -> None:
    state = _opened()
    change = ViewChanged(
        view="v",
        seq=5,
        rows=_rows(4, state="failed"),
        removed=[task(1).id],
        order=list(_ids(4, 2, 3)),
        top=10,
        matched=41,
        total=91,
    )
    after = changed(state, change)
    assert after is not None
    assert after.ids == _ids(4, 2, 3)
    assert after.rows[task(4).id].state == "failed"  # type: ignore[attr-defined]
    assert (after.matched, after.total, after.seq) == (41, 91, 5)
    assert after.rows[task(2).id] is state.rows[task(2).id], "rows that did not change stay the same objects"
    assert differences(state, after) == 2
    assert state.ids == _ids(1, 2, 3), "the state before is untouched"


def test_a_change_without_order_keeps_it() -> None:
    after = changed(
        _opened(), ViewChanged(view="v", seq=5, rows=_rows(2, state="failed"), top=10, matched=40, total=90)
    )
    assert after is not None
    assert after.ids == _ids(1, 2, 3)


def test_a_gap_is_seen_and_old_news_is_not() -> None:
    state = _opened()
    assert changed(state, ViewChanged(view="v", seq=6)) is None
    assert changed(state, ViewChanged(view="v", seq=4)) is state


@pytest.mark.parametrize(
    "change",
    [
        ViewChanged(view="v", seq=5, rows=_rows(7)),
        ViewChanged(view="v", seq=5, order=["t-unknown"]),
        ViewChanged(view="v", seq=5, order=list(_ids(1, 2))),
    ],
)
def test_a_change_that_does_not_fit_together_is_a_gap(change: ViewChanged) -> None:
    assert changed(_opened(), change) is None


def test_history_goes_back_and_forth_and_restores_places() -> None:
    history = History().go(":overview").go(":tasks")
    history = history.mark(Place(":tasks", "t-10004", 3, 1)).go(":tasks/t-10004")
    assert history.back().here == Place(":tasks", "t-10004", 3, 1)
    assert history.back().forward().here == Place(":tasks/t-10004")
    assert history.back().toggle().here == Place(":tasks/t-10004")
    assert history.go(":tasks/t-10004") is history
    branched = history.back().go(":queues")
    assert branched.forward() is branched
    assert [place.location for place in branched.places] == [":overview", ":tasks", ":queues"]
    assert branched.instead(":queues sort:-wait").back().forward().here == Place(":queues sort:-wait")
    assert History().go(":tasks").back().here == Place(":tasks")


def test_history_is_bounded() -> None:
    history = History()
    for number in range(1000):
        history = history.go(f":tasks queue:q{number}")
    assert len(history.places) <= 200
    assert history.here == Place(":tasks queue:q999")


def test_followed_text_grows_and_sees_gaps() -> None:
    state = started(StreamState(stream="s", task="t", attempt=1, offset=0, text="Hel", ended=False))

    def news(offset: int, text: str, **more: Any) -> StreamChunk:
        return StreamChunk(stream="s", task="t", attempt=more.pop("attempt", 1), offset=offset, text=text, **more)

    after = chunk(state, news(3, "lo"))
    assert after is not None
    assert after.text == "Hello"
    assert chunk(after, news(9, "!")) is None
    again = chunk(after, news(3, "lo!"))
    assert again is not None
    assert again.text == "Hello!", "an overlapping chunk after a resend says the same"
    fresh = chunk(after, news(0, "New", attempt=2))
    assert fresh is not None
    assert fresh.text == "New"
    assert chunk(fresh, news(5, "late", attempt=1)) is fresh
    done = chunk(fresh, news(3, "", attempt=2, ended=True, state="completed"))
    assert done is not None
    assert (done.text, done.ended, done.state) == ("New", True, "completed")
    resumed = started(StreamState(stream="s2", task="t", attempt=2, offset=3, text="er", ended=False), done)
    assert resumed.text == "Newer"
    assert Followed().text == ""


def _column(title: str, **options: Any) -> Column:
    def cell(row: Any, now: int) -> Span:
        return "", ""

    return Column(title, title, cell, **options)


COLUMNS = (
    _column("state"),
    _column("id"),
    _column("queue", priority=1),
    _column("tokens", priority=2, right=True),
    _column("reason", flex=True),
)
CONTENT = {"state": 12, "id": 7, "queue": 12, "tokens": 6, "reason": 30}


def _shown(slots: list[Slot]) -> list[str]:
    return [slot.column.title for slot in slots]


def test_everything_is_shown_where_there_is_room_and_the_reason_takes_the_rest() -> None:
    slots = arrange(COLUMNS, CONTENT, 118, {})
    assert _shown(slots) == ["state", "id", "queue", "tokens", "reason"]
    assert slots[-1].start + slots[-1].cells == 118


@pytest.mark.parametrize("total", range(12, 120))
def test_columns_never_overlap_nor_leave_the_table(total: int) -> None:
    slots = arrange(COLUMNS, CONTENT, total, {"id": "1▲"})
    for left, right in pairwise(slots):
        assert left.start + left.cells < right.start
    assert slots[-1].start + slots[-1].cells <= total


def test_ids_states_and_reasons_survive() -> None:
    assert _shown(arrange(COLUMNS, CONTENT, 58, {})) == ["state", "id", "queue", "reason"]
    assert _shown(arrange(COLUMNS, CONTENT, 38, {})) == ["state", "id", "reason"]


def test_headings_carry_the_sort_mark_and_align_as_cells_do() -> None:
    slot = Slot(COLUMNS[3], 3, 0, 9)
    assert heading(slot, {"tokens": "1▼"}) == " tokens1▼"
    assert heading(Slot(COLUMNS[0], 0, 0, 7), {}) == "state  "
