"""Replicas of a model: whose slot a task gets and why, what they shall make ready for, and when there should be more of them."""

from __future__ import annotations

from typing import Any

import pytest

from engine.scheduling import gates
from engine.scheduling.decisions import MoreReplicas, Prefetch, StartTask
from engine.scheduling.inputs import DispatchEnabled, PoolChanged, QueueChanged, ReplicaChanged, ReplicaGone
from tests.support.scheduling import Bench, pool


def crew(count: int = 8, **more: Any) -> PoolChanged:
    return pool(min_idle=count, max_total=count, model="nano", **more)


def bench(*replicas: ReplicaChanged, **more: Any) -> Bench:
    made = Bench()
    made.do(*replicas)
    made.serve(crew(**more))
    made.staff()
    return made


def replica(name: str, total: int | None = 2, *resident: str, **more: object) -> ReplicaChanged:
    return ReplicaChanged("nano", name, total, resident=frozenset(resident), **more)  # type: ignore[arg-type]


def placed(made: Bench) -> list[tuple[int, str | None]]:
    return [(start.seq, start.replica) for start in made.took(StartTask)]


# -- slots -------------------------------------------------------------------------------------------------------------------


def test_a_task_holds_a_slot_of_one_replica_and_the_emptiest_is_next() -> None:
    made = bench(replica("nano.0"), replica("nano.1"))
    for seq in range(1, 6):
        made.submit(seq)
    starts = made.took(StartTask)
    assert [(start.seq, start.replica) for start in starts] == [
        (1, "nano.0"),
        (2, "nano.1"),
        (3, "nano.0"),
        (4, "nano.1"),
    ]
    made.end(starts[1])
    assert placed(made) == [(5, "nano.1")]


def test_what_others_hold_counts_where_they_hold_it() -> None:
    made = bench(replica("nano.0", outside=2), replica("nano.1", outside=1))
    made.submit(1)
    made.submit(2)
    assert placed(made) == [(1, "nano.1")]


def test_no_task_starts_on_a_replica_that_is_not_ready_or_gone() -> None:
    made = bench(replica("nano.0", 0), replica("nano.1", 1))
    made.submit(1)
    made.submit(2)
    assert placed(made) == [(1, "nano.1")]
    made.do(ReplicaGone("nano", "nano.1"))
    assert placed(made) == []
    made.do(replica("nano.0", 1))
    assert placed(made) == [(2, "nano.0")]


def test_a_replica_that_comes_back_keeps_the_slots_of_tasks_that_have_not_ended() -> None:
    made = bench(replica("nano.0", 2))
    made.submit(1)
    made.submit(2)
    first, _ = made.took(StartTask)
    made.do(ReplicaGone("nano", "nano.0"), replica("nano.0", 2))
    made.submit(3)
    assert placed(made) == []
    made.end(first)
    assert placed(made) == [(3, "nano.0")]


def test_a_replica_that_is_gone_is_forgotten_with_its_last_task() -> None:
    made = bench(replica("nano.0", 1), replica("nano.1", 1))
    made.submit(1)
    (start,) = made.took(StartTask)
    made.do(ReplicaGone("nano", "nano.0"), ReplicaGone("nano", "nano.7"))
    model = made.scheduler.fleet.models["nano"]
    assert model.total == 1
    made.end(start)
    assert list(model.replicas) == ["nano.1"]


def test_a_model_without_any_replica_left_is_not_ready() -> None:
    made = bench(replica("nano.0", 1))
    made.do(ReplicaGone("nano", "nano.0"))
    made.submit(1)
    assert placed(made) == []
    assert made.scheduler.task_gate(1, made.now) == gates.MODEL


def test_one_replica_without_limit_is_enough() -> None:
    made = bench(replica("far", None), replica("nano.0", 1))
    for seq in range(1, 8):
        made.submit(seq)
    assert len(made.took(StartTask)) == 7


# -- routes ------------------------------------------------------------------------------------------------------------------


def test_adapters_come_before_room_room_before_latency() -> None:
    made = bench(
        replica("full", 4, "de", outside=3),
        replica("slow", 4, latency_ms=900.0),
        replica("quick", 4, latency_ms=20.0),
    )
    made.submit(1, adapters=("de",))
    assert placed(made) == [(1, "full")]
    made.submit(2)
    made.submit(3)
    assert placed(made) == [(2, "quick"), (3, "slow")]


def test_an_adapter_on_its_way_draws_tasks_like_half_an_adapter() -> None:
    made = bench(replica("nano.0", 4), replica("nano.1", 4), replica("nano.2", 4, "de"))
    made.submit(1, adapters=("fr",))
    made.submit(2, adapters=("fr",))
    assert placed(made) == [(1, "nano.0"), (2, "nano.0")]
    made.do(replica("nano.0", 0), replica("nano.0", 4))
    made.submit(3, adapters=("fr",))
    assert placed(made) == [(3, "nano.1")], "what was on its way to a process that died is not any more"


def test_a_pools_adapters_are_its_tasks_unless_they_ask_for_others() -> None:
    made = bench(replica("nano.0", 4, "de"), replica("nano.1", 4, "fr"), adapters=("fr",))
    made.submit(1)
    made.submit(2, adapters=("de",))
    made.submit(3, adapters=())
    assert placed(made) == [(1, "nano.1"), (2, "nano.0"), (3, "nano.0")]


def test_a_call_that_is_no_tasks_goes_to_the_best_replica_even_if_all_are_full() -> None:
    made = bench(replica("nano.0", 1, outside=2), replica("nano.1", 1, "de", outside=3), replica("nano.2", 0))
    assert made.scheduler.route("nano") == "nano.0"
    assert made.scheduler.route("nano", ("de",)) == "nano.1"
    assert made.scheduler.route("other") is None
    made.do(replica("nano.0", 0), replica("nano.1", 0))
    assert made.scheduler.route("nano") in ("nano.0", "nano.1", "nano.2")


def test_explain_says_why_a_task_runs_where_it_does() -> None:
    made = bench(replica("nano.0", 4, latency_ms=250.0), replica("nano.1", 4, "de", outside=1))
    made.submit(1, adapters=("de",))
    why = made.scheduler.explain_task(made.scheduler.backlog.tasks[1].ref, made.now)
    assert why.summary == "it runs on i-8 with nano.1, attempt 1"
    assert why.notes == (
        "nano.1 had 127 points: adapters 100, load 15, queue 8, latency 4",
        "nano.0 had 30 points: adapters 0, load 20, queue 8, latency 2",
    )


def test_explain_says_where_a_waiting_task_would_go() -> None:
    made = bench(replica("nano.0", 1, outside=1), replica("nano.1", 2, "de", "de@v3", outside=2))
    made.submit(1, adapters=("de", "fr"))
    why = made.scheduler.explain_task(made.scheduler.backlog.tasks[1].ref, made.now)
    assert why.notes[0].startswith("nano.1 has 62 points: adapters 50, load 0, queue 8, latency 4; ")
    assert "2 of 2 slots taken (2 not by tasks), de is there, fr is not there" in why.notes[0]
    assert "nano.0 has" in why.notes[1]
    model = made.scheduler.explain_model("nano")
    assert model.notes[1].startswith("nano.1: 2 of 2 slots taken (2 not by tasks), 2 adapter names there; 112 points")


# -- prefetch ----------------------------------------------------------------------------------------------------------------


def test_the_adapters_of_the_next_tasks_in_line_are_asked_for_once() -> None:
    made = bench(replica("nano.0", 1, "de"))
    for seq, adapters in enumerate([("de",), ("fr",), (), ("de",), ("it", "fr"), ("es",)], 1):
        made.submit(seq, adapters=adapters)
    assert made.took(Prefetch) == [
        Prefetch("nano", "nano.0", ("fr",), first=True),
        Prefetch("nano", "nano.0", ("it", "fr"), first=False),
    ]
    assert [start.seq for start in made.took(StartTask)] == [1]
    made.do(replica("nano.0", 1, "de", "fr"))
    assert made.took(Prefetch) == []


def test_what_comes_only_if_there_is_room_is_asked_for_again_when_it_is_next() -> None:
    made = bench(replica("nano.0", 1, "de"))
    for seq, adapters in enumerate([("de",), ("de",), ("fr",)], 1):
        made.submit(seq, adapters=adapters)
    assert made.took(Prefetch) == [Prefetch("nano", "nano.0", ("fr",), first=False)]
    first, *_ = made.took(StartTask)
    made.end(first)
    assert made.took(Prefetch) == [Prefetch("nano", "nano.0", ("fr",), first=True)]


def test_nothing_is_asked_for_that_a_replica_has_or_gets_or_that_no_replica_could_take() -> None:
    made = bench(replica("nano.0", 1, "de"), replica("nano.1", 1, "fr"))
    made.submit(1, adapters=("de",))
    made.submit(2, adapters=("it",))
    for seq, adapters in ((3, ("fr",)), (4, ("it",)), (5, ("de",))):
        made.submit(seq, adapters=adapters)
    assert made.took(Prefetch) == []
    down = bench(replica("nano.0", 0))
    down.submit(1, adapters=("de",))
    assert down.took(Prefetch) == []


def test_prefetches_go_to_the_replica_that_will_be_best() -> None:
    made = bench(replica("nano.0", 1, "de", outside=1), replica("nano.1", 1, outside=1))
    made.submit(1, adapters=("de", "fr"))
    assert made.took(Prefetch) == [], "with one task in line any replica may be the first to have a slot"
    made.submit(2)
    assert made.took(Prefetch) == [Prefetch("nano", "nano.0", ("fr",), first=True)]


def test_what_was_evicted_is_asked_for_again_by_others() -> None:
    made = bench(replica("nano.0", 1, outside=1))
    made.submit(1, adapters=("de",))
    assert made.took(Prefetch)
    made.do(replica("nano.0", 1, "de", outside=1), replica("nano.0", 1, outside=1))
    assert made.took(Prefetch) == [], "not for the same task: two that do not fit together would take turns for ever"
    made.submit(2, adapters=("de",))
    assert made.took(Prefetch) == [Prefetch("nano", "nano.0", ("de",), first=False)]


# -- more replicas -----------------------------------------------------------------------------------------------------------


def test_more_replicas_are_asked_for_when_slots_have_been_short_for_a_while() -> None:
    made = bench(replica("nano.0", 1))
    for seq in (1, 2, 3, 4):
        made.submit(seq)
    made.wait(999)
    assert made.took(MoreReplicas) == []
    (start,) = made.took(StartTask)
    made.end(start)
    made.wait(1)
    assert made.took(MoreReplicas) == [MoreReplicas("nano", 2, 1_000)], "slots that change hands are short all the same"
    made.wait(4_999)
    assert made.took(MoreReplicas) == []
    made.wait(1)
    assert made.took(MoreReplicas) == [MoreReplicas("nano", 2, 6_000)]
    made.do(replica("nano.1", 4))
    made.wait(60_000)
    assert made.took(MoreReplicas) == []


@pytest.mark.parametrize("why", ["paused", "instances", "loading", "dispatch", "served"])
def test_no_replica_is_asked_for_when_that_would_not_help(why: str) -> None:
    made = bench(replica("nano.0", 0 if why == "loading" else 2), count=1 if why == "instances" else 8)
    for seq in range(1, 5):
        made.submit(seq)
    if why == "paused":
        made.do(QueueChanged("q", ("p",), paused=True))
    elif why == "dispatch":
        made.wait(500)
        made.do(DispatchEnabled(enabled=False))
    elif why == "served":
        made.wait(500)
        for start in made.took(StartTask):
            made.end(start)
        for start in made.took(StartTask):
            made.end(start)
        made.submit(9)
    for _ in range(3):
        made.wait(1_000)
    assert made.took(MoreReplicas) == []
