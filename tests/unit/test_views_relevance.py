"""What a batch means for a window: never less than what really changed, and nothing for what is out of sight."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.ids import task_id
from engine.contract.query import parse
from engine.contract.records import TaskRow
from engine.store.ops import ChangedTask
from engine.views.diff import Shown
from engine.views.memory import memory_window
from engine.views.relevance import Interest, Stale, appended_stale, depends_on_time, frame, tasks_stale

NOW = 1_790_000_000_000
STATES = ("pending", "processing", "completed", "failed")
LOCATIONS = (
    ":tasks", ":tasks sort:id", ":tasks state:failed", ":tasks queue:a", ":tasks !state:completed queue:a sort:submitted",
    ":tasks by:x", ":tasks is:fault sort:-id", ":tasks sort:-ended", ":tasks prio>0 sort:age", ":tasks state:pending sort:queue",
)  # fmt: skip


def _row(seq: int, queue: str, state: str, by: str) -> TaskRow:
    return TaskRow(
        id=task_id(seq), queue=queue, state=state, priority=seq % 2, attempt=1, max_attempts=1, by=by, submitted_ms=NOW + seq,
        ended_ms=NOW - seq if state in ("completed", "failed") else None,
    )  # fmt: skip


def _window(location: str, tasks: dict[int, TaskRow], top: int, size: int) -> Shown:
    return memory_window(parse(location), list(tasks.values()), top, size, NOW)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(location=st.sampled_from(LOCATIONS), seed=st.integers(0, 10**6), top=st.integers(0, 12), size=st.integers(0, 8))
def test_a_batch_is_never_taken_too_lightly(location: str, seed: int, top: int, size: int) -> None:
    rng = random.Random(seed)
    tasks = {
        seq: _row(seq, rng.choice("ab"), rng.choice(STATES), rng.choice("xy"))
        for seq in range(1, 21)
        if rng.random() < 0.9
    }
    before = _window(location, tasks, top, size)
    changed: list[ChangedTask] = []
    for _ in range(rng.randrange(1, 4)):
        if rng.random() < 0.4 or not tasks:
            seq, old = max(tasks, default=0) + 1, None
        else:
            seq = rng.choice(list(tasks))
            old = tasks[seq]
        queue = rng.choice("ab") if old is None else old.queue
        tasks[seq] = _row(seq, queue, rng.choice(STATES), rng.choice("xy") if old is None else old.by)
        changed.append(ChangedTask(seq, queue, None if old is None else old.state, tasks[seq].state))
    after = _window(location, tasks, before.top, size)
    interest = Interest.of(parse(location))
    stale = tasks_stale(interest, frame(before.rows, "tasks", size), changed)
    if (list(before.rows.items()), before.top) != (list(after.rows.items()), after.top):
        assert stale is Stale.rows
    elif (before.matched, before.total, before.faults) != (after.matched, after.total, after.faults):
        assert stale >= Stale.counts


def _task_batch(*changes: tuple[int, str | None, str]) -> list[ChangedTask]:
    return [ChangedTask(seq, "a", before, after) for seq, before, after in changes]


@pytest.mark.parametrize(
    ("location", "seqs", "size", "changes", "expected"),
    [
        # The newest tasks are shown while the oldest are worked off: nothing to read.
        (":tasks", [100, 99, 98], 3, [(5, "pending", "processing"), (5, "processing", "completed")], Stale.counts),
        (":tasks", [100, 99, 98], 3, [(99, "pending", "processing")], Stale.rows),
        (":tasks", [100, 99, 98], 3, [(101, None, "pending")], Stale.rows),
        (":tasks sort:submitted", [1, 2, 3], 3, [(101, None, "pending")], Stale.counts),
        (":tasks sort:submitted", [1, 2], 3, [(3, None, "pending")], Stale.rows),
        (":tasks state:failed", [9, 8], 2, [(5, "pending", "processing")], Stale.fresh),
        (":tasks state:failed", [9, 8], 2, [(5, "processing", "failed")], Stale.counts),
        (":tasks state:failed", [], 2, [(5, "processing", "failed")], Stale.rows),
        (":tasks state:failed", [9, 8], 2, [(10, None, "pending")], Stale.counts),
        (":tasks queue:b", [], 2, [(5, "pending", "failed")], Stale.fresh),
        (":tasks by:x", [100, 99], 2, [(5, "pending", "failed")], Stale.rows),
    ],
)
def test_what_is_out_of_sight_is_not_read(
    location: str, seqs: list[int], size: int, changes: list[tuple[int, str | None, str]], expected: Stale
) -> None:
    shown = frame(map(task_id, seqs), "tasks", size)
    assert tasks_stale(Interest.of(parse(location)), shown, _task_batch(*changes)) is expected


@pytest.mark.parametrize(
    ("location", "seqs", "levels", "expected"),
    [
        (":events", ["3", "2"], ["info"], Stale.rows),
        (":events", ["3", "2"], [], Stale.fresh),
        (":events sort:id", ["1", "2"], ["info"], Stale.counts),
        (":events sort:id", ["1"], ["info"], Stale.rows),
        (":events is:fault", ["1", "2"], ["info", "warn"], Stale.counts),
        (":events is:fault", ["1", "2"], ["info", "error"], Stale.rows),
        (":events text:x sort:id", ["1", "2"], ["info"], Stale.rows),
    ],
)
def test_new_events(location: str, seqs: list[str], levels: list[str], expected: Stale) -> None:
    assert appended_stale(Interest.of(parse(location)), frame(seqs, "events", 2), levels) is expected


@pytest.mark.parametrize(
    ("location", "depends"),
    [(":tasks", False), (":tasks age>5m", True), (":tasks ended>today", True), (":tasks is:fault prio>3", False)],
)
def test_filters_by_time_depend_on_the_clock(location: str, depends: bool) -> None:
    assert depends_on_time(parse(location)) is depends
