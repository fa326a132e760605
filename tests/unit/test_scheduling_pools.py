"""Pools, slots and classes: who may work, how many, and what is parked, paged and rotated."""

from __future__ import annotations

import pytest

from engine.scheduling.decisions import (
    LoadClasses,
    LoadPage,
    ParkClass,
    RetireInstance,
    SpawnInstance,
    StartTask,
    UnparkClass,
    WakeAt,
)
from engine.scheduling.gates import serves
from engine.scheduling.inputs import (
    ClassesLoaded,
    ClassKey,
    ClassSummary,
    Criteria,
    InstanceGone,
    InstanceReady,
    Key,
    PageLoaded,
    PoolRemoved,
    QueueChanged,
    QueueRemoved,
    ReplicaChanged,
    RetireRequested,
    SpawnFailed,
    StorageRecovered,
    TaskEnded,
    TaskRef,
)
from tests.support.scheduling import Bench, pool

# -- instances ---------------------------------------------------------------------------------------------------------------


def test_instances_are_spawned_on_demand_up_to_the_maximum() -> None:
    made = Bench()
    made.serve(pool(max_total=3))
    assert made.took(SpawnInstance) == []
    made.submit(1)
    assert len(made.took(SpawnInstance)) == 1
    for seq in range(2, 8):
        made.submit(seq)
    assert len(made.took(SpawnInstance)) == 2
    for name in "abc":
        made.do(InstanceReady(name, "p"))
    assert made.started() == [1, 2, 3]
    assert made.took(SpawnInstance) == []


def test_the_minimum_is_kept_idle_below_the_maximum() -> None:
    made = Bench()
    made.serve(pool(min_idle=2, max_total=4))
    made.staff()
    assert len(made.scheduler.fleet.pools["p"].idle) == 2
    for seq, total in [(1, 3), (2, 4), (3, 4)]:
        made.submit(seq)
        made.staff()
        assert made.scheduler.fleet.pools["p"].total == total


def test_a_smaller_maximum_retires_idle_instances_now_and_busy_ones_at_their_end() -> None:
    made = Bench()
    made.serve(pool(min_idle=4, max_total=4))
    made.staff()
    for seq in (1, 2, 3):
        made.submit(seq)
    starts = made.took(StartTask)
    made.do(pool(max_total=1))
    assert len(made.took(RetireInstance)) == 1
    made.end(starts[0])
    made.end(starts[1])
    assert [gone.id for gone in made.took(RetireInstance)] == [starts[0].instance, starts[1].instance]
    made.end(starts[2])
    assert made.took(RetireInstance) == []


@pytest.mark.parametrize("change", [{"definition": "echo"}, {"revision": "2"}])
def test_instances_of_a_changed_definition_drain(change: dict[str, str]) -> None:
    made = Bench()
    made.serve(pool(min_idle=1, max_total=2))
    made.staff()
    made.submit(1)
    made.staff()
    (start,) = made.took(StartTask)
    made.do(pool(min_idle=1, max_total=2, **change))
    assert len(made.took(RetireInstance)) == 1, "the idle one"
    made.end(start)
    assert [gone.id for gone in made.took(RetireInstance)] == [start.instance]
    made.do(InstanceGone("i-1"), InstanceGone("i-2"))
    assert len(made.took(SpawnInstance)) == 1


def test_an_instance_made_from_an_older_definition_is_retired_when_it_comes() -> None:
    made = Bench()
    made.serve(pool(min_idle=1, revision="1"))
    made.do(pool(min_idle=1, revision="2"))
    made.do(InstanceReady("a", "p", revision="1"))
    assert [gone.id for gone in made.took(RetireInstance)] == ["a"]


def test_a_removed_pool_lets_its_task_end_and_comes_back_within_its_maximum() -> None:
    made = Bench()
    made.serve(pool())
    made.submit(1)
    made.submit(2)
    made.staff()
    (start,) = made.took(StartTask)
    made.do(PoolRemoved("p"))
    made.do(pool())
    assert made.took(SpawnInstance) == [], "the old instance still counts"
    made.end(start)
    made.do(InstanceGone(start.instance))
    (load,) = made.took(LoadPage)
    made.do(PageLoaded(load.load, load.key, (TaskRef(2, "q", 2),), more=False))
    made.staff()
    assert made.started() == [2]


def test_an_instance_of_no_pool_is_sent_away() -> None:
    made = Bench()
    made.do(InstanceReady("a", "nowhere"))
    assert [gone.id for gone in made.took(RetireInstance)] == ["a"]


def test_failed_spawns_pause_longer_and_longer_and_success_ends_it() -> None:
    made = Bench()
    made.serve(pool())
    made.submit(1)
    made.took(SpawnInstance)
    made.decided.clear()
    for pause_ms in (500, 1_000, 2_000):
        made.do(SpawnFailed("p", "no memory"))
        assert made.took(WakeAt)[-1].mono_ns == made.mono_ns + pause_ms * 1_000_000
        made.wait(pause_ms - 1)
        assert made.took(SpawnInstance) == []
        made.wait(1)
        assert len(made.took(SpawnInstance)) == 1
    made.do(InstanceReady("a", "p"))
    (start,) = made.took(StartTask)
    made.end(start)
    assert made.scheduler.fleet.pools["p"].failures == 0


def test_a_pool_that_was_removed_while_it_paused_does_not_pause_for_ever() -> None:
    made = Bench()
    made.serve(pool())
    made.do(InstanceReady("a", "p", answers_spawn=False), RetireRequested("a"))
    made.submit(1)
    made.took(SpawnInstance)
    made.do(SpawnFailed("p", "no memory"))
    made.do(PoolRemoved("p"), pool(min_idle=1))
    made.do(InstanceGone("a"))
    assert len(made.took(SpawnInstance)) == 1


def test_an_instance_that_crashes_before_its_first_task_ends_counts_as_a_failed_spawn() -> None:
    made = Bench()
    made.serve(pool(min_idle=1))
    made.staff()
    made.do(InstanceGone("i-1", crashed=True))
    assert made.took(SpawnInstance) == []
    made.wait(500)
    assert len(made.took(SpawnInstance)) == 1


def test_an_operator_may_start_and_retire_instances() -> None:
    made = Bench()
    made.serve(pool(max_total=1))
    made.do(InstanceReady("a", "p", answers_spawn=False))
    made.submit(1)
    (start,) = made.took(StartTask)
    made.do(RetireRequested("a"))
    assert made.took(RetireInstance) == []
    made.end(start)
    assert [gone.id for gone in made.took(RetireInstance)] == ["a"]
    made.do(InstanceReady("b", "p", answers_spawn=False))
    assert [gone.id for gone in made.took(RetireInstance)] == [], "a is leaving, so b is the one"


def test_a_paused_pool_starts_and_spawns_nothing() -> None:
    made = Bench()
    made.serve(pool(min_idle=1, paused=True))
    made.submit(1)
    assert made.took(SpawnInstance) == []
    made.do(pool(min_idle=1))
    made.staff()
    assert made.started() == [1]


def test_a_queue_prefers_its_first_pool_and_uses_the_others() -> None:
    made = Bench()
    made.do(pool("a", min_idle=1), pool("b", min_idle=1), QueueChanged("q", ("b", "a")))
    made.staff()
    for seq in (1, 2, 3):
        made.submit(seq)
    assert [start.pool for start in made.took(StartTask)] == ["b", "a"]


# -- slots -------------------------------------------------------------------------------------------------------------------


def test_a_task_starts_only_with_a_slot_of_its_model() -> None:
    made = Bench()
    made.do(ReplicaChanged("nano", "nano.0", 2, outside=1))
    made.serve(pool(min_idle=3, max_total=3, model="nano"))
    made.staff()
    for seq in (1, 2, 3):
        made.submit(seq)
    (first,) = made.took(StartTask)
    made.do(ReplicaChanged("nano", "nano.0", 2, outside=0))
    (second,) = made.took(StartTask)
    made.do(ReplicaChanged("nano", "nano.0", 1))
    made.end(first)
    assert made.started() == []
    made.end(second)
    assert made.started() == [3]


def test_pools_that_share_slots_take_turns_by_rank() -> None:
    made = Bench()
    made.do(ReplicaChanged("nano", "nano.0", 1))
    made.do(pool("a", min_idle=2, max_total=2, model="nano"), pool("b", min_idle=2, max_total=2, model="nano"))
    made.do(QueueChanged("qa", ("a",)), QueueChanged("qb", ("b",)))
    made.staff()
    for seq, rank in [(1, 0), (2, 40), (3, 20)]:
        made.submit(seq, rank, queue="qa")
    for seq, rank in [(4, 30), (5, 10)]:
        made.submit(seq, rank, queue="qb")
    assert made.run_all() == [1, 5, 3, 4, 2]


def test_a_model_that_is_not_ready_starts_nothing_and_no_instances_for_it() -> None:
    made = Bench()
    made.do(ReplicaChanged("nano", "nano.0", 0))
    made.serve(pool(max_total=4, model="nano"))
    made.submit(1)
    assert made.took(SpawnInstance) == []
    made.do(ReplicaChanged("nano", "nano.0", None))
    made.staff()
    assert made.started() == [1]


def test_slots_follow_the_model_that_the_task_started_with() -> None:
    made = Bench()
    made.do(ReplicaChanged("old", "old.0", 1), ReplicaChanged("new", "new.0", 1))
    made.serve(pool(min_idle=1, max_total=2, model="old"))
    made.staff()
    made.submit(1)
    (start,) = made.took(StartTask)
    made.do(pool(min_idle=1, max_total=2, model="new"))
    models = made.scheduler.fleet.models
    assert (start.replica, models["old"].taken) == ("old.0", 1)
    made.end(start)
    assert (models["old"].taken, models["new"].taken) == (0, 0)


# -- criteria and classes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        (Criteria(), True),
        (Criteria("goat"), True),
        (Criteria("echo"), False),
        (Criteria(None, frozenset({"json"})), True),
        (Criteria("goat", frozenset({"json", "vision"})), True),
        (Criteria("goat", frozenset({"json", "tools"})), False),
    ],
)
def test_criteria(criteria: Criteria, expected: bool) -> None:
    assert serves(pool(capabilities=frozenset({"json", "vision"})), criteria) == expected
    assert Criteria.parse(criteria.key) == criteria


def test_criteria_have_one_text_whatever_is_in_their_names() -> None:
    odd = Criteria('a "b"', frozenset({"ü,", "[", "x"}))
    assert Criteria.parse(odd.key) == odd
    assert Criteria("", frozenset()).key != Criteria().key


def test_a_class_that_nobody_serves_is_parked_once_holds_nothing_and_comes_back() -> None:
    made = Bench()
    made.serve(pool(min_idle=1))
    made.staff()
    vision = Criteria(None, frozenset({"vision"})).key
    for seq in range(1, 6):
        made.submit(seq, criteria=vision)
    (parked,) = made.took(ParkClass)
    assert parked.key == ClassKey("q", "", vision)
    assert 'no pool of queue "q" has capability "vision"' in parked.reason
    assert made.scheduler.backlog.tasks == {}
    made.do(pool(min_idle=1, capabilities=frozenset({"vision"})))
    assert made.took(UnparkClass) == [UnparkClass(parked.key)]
    (load,) = made.took(LoadPage)
    made.do(
        PageLoaded(
            load.load, load.key, tuple(TaskRef(seq, "q", seq, criteria=vision) for seq in range(1, 6)), more=False
        )
    )
    assert made.run_all() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("gone", [QueueRemoved("q"), QueueChanged("q", ()), PoolRemoved("p")])
def test_tasks_wait_when_their_queue_or_pool_goes(gone: QueueRemoved) -> None:
    made = Bench()
    made.serve(pool(min_idle=1))
    made.staff()
    made.submit(1)
    made.submit(2)
    made.do(gone)
    assert len(made.took(ParkClass)) == 1
    assert made.started() == [1]


def test_a_paused_queue_keeps_its_tasks_in_order() -> None:
    made = Bench()
    made.serve(pool(min_idle=1), paused=True)
    made.staff()
    for seq in (3, 1, 2):
        made.submit(seq)
    assert made.run_all() == []
    made.do(QueueChanged("q", ("p",)))
    assert made.run_all() == [1, 2, 3]


class Disk:
    """Rows by class, for benches whose tasks do not all fit in memory."""

    def __init__(self, made: Bench) -> None:
        self.made = made
        self.rows: dict[ClassKey, dict[Key, TaskRef]] = {}

    def submit(self, seq: int, rank: int, **more: str) -> None:
        ref = TaskRef(seq, "q", rank, **more)  # type: ignore[arg-type]
        self.rows.setdefault(ClassKey("q", ref.tenant, ref.criteria), {})[rank, seq] = ref
        self.made.submit(seq, rank, **more)

    def drain(self, rounds: int = 400) -> list[int]:
        """Answer every page and complete every task; the order of starts."""
        made, order = self.made, []
        for _ in range(rounds):
            made.staff()
            for load in made.took(LoadPage):
                left = sorted(key for key in self.rows.get(load.key, {}) if key > load.after)
                refs = tuple(self.rows[load.key][key] for key in left[: load.limit])
                made.do(PageLoaded(load.load, load.key, refs, len(left) > load.limit))
            for look in made.took(LoadClasses):
                keys = sorted(
                    key for key, rows in self.rows.items() if rows and (look.after is None or key > look.after)
                )
                found = tuple(ClassSummary(key, len(self.rows[key])) for key in keys[: look.limit])
                made.do(ClassesLoaded(look.load, found, len(keys) > look.limit))
            for start in made.took(StartTask):
                order.append(start.seq)
                for rows in self.rows.values():
                    for key in [key for key in rows if key[1] == start.seq]:
                        del rows[key]
                made.do(TaskEnded(start.seq, start.attempt, "completed"))
            made.wait(100)
        return order


@pytest.mark.parametrize("window", [1, 2, 7, 64])
def test_a_long_class_is_read_page_by_page_in_order(window: int) -> None:
    made = Bench(window=window)
    disk = Disk(made)
    made.serve(pool(min_idle=1), paused=True)
    made.staff()
    ranks = [(seq * 37) % 50 for seq in range(60)]
    for seq, rank in enumerate(ranks):
        disk.submit(seq, rank)
        assert len(made.scheduler.backlog.tasks) <= window
    made.do(QueueChanged("q", ("p",)))
    assert disk.drain() == [seq for _, seq in sorted((rank, seq) for seq, rank in enumerate(ranks))]
    assert made.scheduler.backlog.tasks == {}


def test_more_classes_than_fit_all_get_their_turn() -> None:
    made = Bench(window=4, classes=3, rotate_ms=100)
    disk = Disk(made)
    made.serve(pool(min_idle=1))
    made.staff()
    for seq in range(60):
        disk.submit(seq, seq, tenant=f"tenant {seq % 12:02}")
        assert len(made.scheduler.backlog.ready.table.by_key) <= 3
    assert sorted(disk.drain()) == list(range(60))


def test_classes_that_nothing_can_start_from_make_room_for_others() -> None:
    made = Bench(window=4, classes=2, rotate_ms=100)
    disk = Disk(made)
    made.do(pool("busy"), pool("free", min_idle=1, definition="echo"), QueueChanged("q", ("busy", "free")))
    made.staff()
    for seq in range(6):
        disk.submit(seq, 0, tenant=f"t{seq}", criteria='["goat"]')
    made.staff()
    made.took(StartTask)
    for seq in range(6, 10):
        disk.submit(seq, 100, tenant=f"t{seq}", criteria='["echo"]')
    assert set(disk.drain(40)) >= {6, 7, 8, 9}, "the pool that is stuck must not keep the other one from its work"


def test_a_stale_or_unasked_page_is_ignored() -> None:
    made = Bench(window=2)
    made.serve(pool(min_idle=1), paused=True)
    key = ClassKey("q", "", "")
    for seq in range(5):
        made.submit(seq)
    assert made.do(PageLoaded(99, key, (TaskRef(9, "q", 9),), more=False)) == []
    assert made.do(PageLoaded(0, key, (TaskRef(9, "q", 9),), more=False)) == []
    assert 9 not in made.scheduler.backlog.tasks


def test_a_page_that_never_came_is_asked_for_again_after_a_storage_failure() -> None:
    made = Bench(window=2)
    disk = Disk(made)
    made.serve(pool(min_idle=1))
    made.staff()
    for seq in range(8):
        disk.submit(seq, seq)
    starts = made.took(StartTask)
    while starts and not made.took(LoadPage):
        made.end(starts[0])
        starts = made.took(StartTask)
    made.do(StorageRecovered())
    assert len(made.took(LoadPage)) == 1
