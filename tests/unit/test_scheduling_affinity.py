"""Tasks for which nothing must be loaded go before others of equal standing: when, which, and for how long at most."""

from __future__ import annotations

from bisect import insort
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.scheduling.affinity import CANDIDATES
from engine.scheduling.decisions import Prefetch, StartTask
from engine.scheduling.inputs import QueueChanged, ReplicaChanged
from tests.support.scheduling import Bench, pool

WAIT_MS = 2_000
DE, FR, IT = ("de",), ("fr",), ("it",)


def bench(*resident: str, slots: int = 1, **more: Any) -> Bench:
    """A pool of many instances over one replica, all of whose slots are taken by somebody's chats."""
    made = Bench(affinity_wait_ms=WAIT_MS)
    made.do(taken(slots, *resident))
    made.serve(pool(min_idle=8, max_total=8, model="nano", **more))
    made.staff()
    return made


def taken(slots: int, *resident: str) -> ReplicaChanged:
    return ReplicaChanged("nano", "nano.0", slots, outside=slots, resident=frozenset(resident))


def free(slots: int, *resident: str) -> ReplicaChanged:
    return ReplicaChanged("nano", "nano.0", slots, resident=frozenset(resident))


def line(made: Bench, *adapters: tuple[str, ...] | None) -> None:
    for seq, wanted in enumerate(adapters, 1):
        made.submit(seq, adapters=wanted)


def order(made: Bench) -> list[int]:
    """Complete what starts, one by one, in no time."""
    found = []
    while starts := made.took(StartTask):
        for start in starts:
            found.append(start.seq)
            made.end(start)
    return found


# -- examples ----------------------------------------------------------------------------------------------------------------


def test_among_equals_those_with_their_adapters_at_hand_go_first() -> None:
    made = bench("de")
    line(made, FR, DE, IT, DE, ())
    made.do(free(1, "de"))
    assert order(made) == [2, 4, 5, 1, 3]


def test_a_task_whose_adapters_are_there_or_that_needs_none_is_never_passed() -> None:
    made = bench("de", "fr")
    line(made, (), DE, FR, (), DE)
    made.do(free(1, "de", "fr"))
    assert order(made) == [1, 2, 3, 4, 5]


def test_all_adapters_of_a_task_must_be_there() -> None:
    made = bench("de")
    line(made, FR, ("de", "it"), DE)
    made.do(free(1, "de"))
    assert order(made) == [3, 1, 2]


def test_a_pools_own_adapters_count() -> None:
    made = bench("de", adapters=DE)
    line(made, FR, None, ())
    made.do(free(1, "de"))
    assert order(made) == [2, 3, 1]


def test_priority_and_age_are_not_equal_standing() -> None:
    made = bench("de")
    made.submit(1, rank=0, adapters=FR)
    made.submit(2, rank=WAIT_MS + 1, adapters=DE)
    made.submit(3, rank=WAIT_MS, adapters=DE)
    made.do(free(1, "de"))
    assert order(made) == [3, 1, 2]


def test_who_stands_behind_the_first_candidates_is_not_seen() -> None:
    made = bench("de")
    line(made, *[FR] * CANDIDATES, DE)
    made.do(free(1, "de"))
    assert order(made)[:2] == [1, CANDIDATES + 1], "one has gone, so the last is a candidate now"


def test_nobody_is_passed_for_longer_than_the_wait() -> None:
    made = bench("de")
    line(made, FR, *[DE] * 20)
    made.do(free(1, "de"))
    passing = []
    for _ in range(6):
        (start,) = made.took(StartTask)
        passing.append(start.seq)
        made.wait(500)
        made.end(start)
    assert passing == [2, 3, 4, 5, 1, 6], (
        "the one that was passed at 0 ms goes when the next one could only follow too late"
    )


def test_long_tasks_let_nobody_pass() -> None:
    made = bench("de")
    made.do(free(1, "de"))
    made.submit(1)
    (start,) = made.took(StartTask)
    made.wait(WAIT_MS + 1)
    for seq, wanted in enumerate([FR, DE], 2):
        made.submit(seq, adapters=wanted)
    made.end(start)
    assert order(made) == [2, 3], "another slot is not to be expected in time"


def test_no_wait_no_passing() -> None:
    made = Bench(affinity_wait_ms=0)
    made.do(taken(1, "de"))
    made.serve(pool(min_idle=8, max_total=8, model="nano"))
    made.staff()
    line(made, FR, DE)
    made.do(free(1, "de"))
    assert order(made) == [1, 2]


def test_the_replica_with_the_adapters_gets_the_task() -> None:
    made = bench("de")
    made.do(ReplicaChanged("nano", "nano.1", 1, outside=1, resident=frozenset(FR)))
    line(made, DE, FR)
    made.do(ReplicaChanged("nano", "nano.1", 1, resident=frozenset(FR)))
    assert [(start.seq, start.replica) for start in made.took(StartTask)] == [(2, "nano.1")]


def test_pools_and_queues_that_share_a_model_are_compared() -> None:
    made = Bench(affinity_wait_ms=WAIT_MS)
    made.do(taken(1, "de"))
    made.do(pool("a", model="nano", min_idle=1, adapters=FR), pool("b", model="nano", min_idle=1, adapters=DE))
    made.do(QueueChanged("qa", ("a",)), QueueChanged("qb", ("b",)), QueueChanged("qc", ("a",)))
    made.staff()
    made.submit(1, queue="qa")
    made.submit(2, queue="qb")
    made.submit(3, queue="qc", adapters=DE)
    made.do(free(1, "de"))
    assert order(made) == [2, 3, 1]


def test_a_task_whose_adapters_come_elsewhere_waits_for_them_a_while() -> None:
    made = bench()
    made.do(ReplicaChanged("nano", "nano.1", 1, outside=1))
    line(made, FR, IT, FR)
    assert [one.adapters for one in made.took(Prefetch) if one.first] == [FR]
    other = "nano.1" if made.scheduler.route("nano", FR) == "nano.0" else "nano.0"
    made.do(ReplicaChanged("nano", other, 1))
    (start,) = made.took(StartTask)
    assert (start.seq, start.replica) == (2, other), (
        "its adapter must be loaded anyway, the first task's would be twice"
    )
    made.wait(WAIT_MS + 1)
    made.end(start)
    assert made.started() == [1]


def test_a_tenants_turn_is_kept() -> None:
    made = bench("de")
    for seq, (tenant, wanted) in enumerate([("ana", FR), ("ana", DE), ("ana", FR), ("ben", FR), ("ben", DE)], 1):
        made.submit(seq, tenant=tenant, adapters=wanted)
    made.do(free(1, "de"))
    assert order(made) == [2, 5, 1, 4, 3], "each tenant's turn goes to the one of its tasks whose adapters are there"


# -- properties --------------------------------------------------------------------------------------------------------------

ADAPTERS = st.sampled_from((None, (), DE, DE, FR, FR, IT, ("de", "fr")))
TASK = st.tuples(st.just("submit"), st.sampled_from((0, 0, 1, 400, 1_999, 2_001, 9_000)), ADAPTERS)
END = st.tuples(st.just("end"), st.integers(0, 5), st.none())
RESIDENT = st.tuples(st.just("resident"), st.integers(0, 1), st.frozensets(st.sampled_from(("de", "fr", "it"))))
SLOTS = st.tuples(st.just("slots"), st.integers(0, 1), st.integers(0, 2))
WAIT = st.tuples(st.just("wait"), st.sampled_from((1, 100, 300, 1_000, 2_500)), st.none())
STEPS = st.lists(st.one_of(TASK, END, END, RESIDENT, SLOTS, WAIT), min_size=20, max_size=60)
LINES = st.one_of(st.lists(TASK, min_size=5, max_size=12), st.integers(30, 45).map(lambda n: [("submit", 0, FR)] * n))


class Watch:
    """The rule again, in plain words over plain lists."""

    def __init__(self) -> None:
        self.made = Bench(affinity_wait_ms=WAIT_MS)
        self.slots = [1, 2]
        self.resident = [frozenset[str](), frozenset[str]()]
        self.coming: list[set[str]] = [set(), set()]
        self.running: list[StartTask] = []
        self.line: list[tuple[int, int, tuple[str, ...]]] = []
        self.passed: dict[int, int] = {}
        self.seq = 0
        for which in (0, 1):
            self.tell(which)
        self.made.serve(pool(min_idle=4, max_total=4, model="nano", adapters=DE))
        self.made.staff()

    def tell(self, which: int) -> None:
        self.coming[which] = self.coming[which] - self.resident[which] if self.slots[which] else set()
        self.made.do(ReplicaChanged("nano", f"nano.{which}", self.slots[which], resident=self.resident[which]))

    def submit(self, late_ms: int, adapters: tuple[str, ...] | None) -> None:
        self.seq += 1
        rank = self.made.wall_ms + late_ms
        insort(self.line, (rank, self.seq, DE if adapters is None else adapters))
        self.made.submit(self.seq, rank, adapters=adapters)

    def room(self, which: int) -> int:
        return max(0, self.slots[which] - sum(start.replica == f"nano.{which}" for start in self.running))

    def look(self) -> None:
        """Check the starts of the last step, one after the other, as the replicas were told before it."""
        for start in self.made.took(StartTask):
            assert start.replica is not None
            which = int(start.replica[-1])
            assert self.room(which) > 0, "a task starts only with a slot"
            place = next(place for place, row in enumerate(self.line) if row[1] == start.seq)
            if place:
                self.check_passing(place, which)
            self.coming[which] |= set(self.line[place][2]) - self.resident[which]
            del self.line[place]
            self.running.append(start)
        for asked in self.made.took(Prefetch):
            if asked.first:
                self.coming[int(asked.replica[-1])] |= set(asked.adapters)
        if len(self.running) < 4 and self.line:
            assert not any(self.room(which) for which in (0, 1)), "no slot stays empty while a task waits"

    def elsewhere(self, which: int, adapters: tuple[str, ...]) -> bool:
        """Whether loading these on this replica would load them twice."""
        known = [self.resident[one] | self.coming[one] for one in (0, 1)]
        other = 1 - which
        return not set(adapters) <= known[which] and bool(self.slots[other]) and set(adapters) <= known[other]

    def check_passing(self, place: int, which: int) -> None:
        rank, _, adapters = self.line[place]
        first_rank = self.line[0][0]
        assert place < CANDIDATES
        assert rank - first_rank <= WAIT_MS, "only equals may be passed"
        if not set(adapters) <= self.resident[which]:
            assert not self.elsewhere(which, adapters)
            assert all(self.elsewhere(which, row[2]) for row in self.line[:place]), "only for adapters that are there"
        for _, _, wanted in self.line[:place]:
            for other in (0, 1):
                assert not self.room(other) or not set(wanted) <= self.resident[other], "nobody with nothing to load"
        for _, seq, _ in self.line[:place]:
            since = self.passed.setdefault(seq, self.made.mono_ns)
            assert self.made.mono_ns - since <= WAIT_MS * 1_000_000, "nobody is passed for longer than that"


@settings(max_examples=150, deadline=None)
@given(LINES, STEPS)
def test_the_rule_holds_whatever_happens(
    line: list[tuple[str, int, object]], steps: list[tuple[str, int, object]]
) -> None:
    watch = Watch()
    for what, number, more in [*line, *steps]:
        if what == "submit":
            watch.submit(number, more)  # type: ignore[arg-type]
        elif what == "wait":
            watch.made.wait(number)
        elif what == "end" and watch.running:
            watch.made.end(watch.running.pop(number % len(watch.running)))
        elif what == "resident":
            watch.resident[number] = more  # type: ignore[call-overload]
            watch.tell(number)
        elif what == "slots":
            watch.slots[number] = more  # type: ignore[call-overload]
            watch.tell(number)
        watch.look()


def starts_ms(wait_ms: int, wanted: list[tuple[str, ...]], work_ms: int) -> dict[int, int]:
    """When each task starts: one slot, tasks of equal length and standing, a replica that keeps the last adapters only."""
    made = Bench(affinity_wait_ms=wait_ms)
    made.do(free(1))
    made.serve(pool(min_idle=2, max_total=2, model="nano"))
    made.staff()
    made.submit(0)
    adapters = dict(enumerate(wanted, 1))
    for seq, names in adapters.items():
        made.submit(seq, rank=0, adapters=names)
    found = {}
    while starts := made.took(StartTask):
        (start,) = starts
        found[start.seq] = made.mono_ns // 1_000_000
        if start.seq:
            made.do(free(1, *adapters[start.seq]))
        made.wait(work_ms)
        made.end(start)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from((DE, FR, IT)), min_size=2, max_size=50),
    st.sampled_from((70, 333, 500, 1_000, 1_999, 5_000)),
)
def test_affinity_delays_a_task_by_no_more_than_the_wait(wanted: list[tuple[str, ...]], work_ms: int) -> None:
    without, with_it = starts_ms(0, wanted, work_ms), starts_ms(WAIT_MS, wanted, work_ms)
    assert without.keys() == with_it.keys() == set(range(len(wanted) + 1))
    late = {seq: with_it[seq] - without[seq] for seq in without}
    assert max(late.values()) <= WAIT_MS, late
    assert work_ms <= WAIT_MS or with_it == without
