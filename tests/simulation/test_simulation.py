"""The real scheduler in a simulated world: every seed keeps its promises, and a scheduler that breaks one is found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from engine.scheduling import affinity, ahead, dispatch, fleet, gates, rate, simulate
from engine.scheduling.budget import Budget, Full
from engine.scheduling.classes import ReadyClass
from engine.scheduling.decisions import Decision, RetireInstance
from engine.scheduling.dependencies import Release
from engine.scheduling.inputs import Now
from engine.scheduling.lines import Line, Share
from engine.scheduling.pools import Instance, Pool
from engine.scheduling.rate import Days
from engine.scheduling.replicas import Model, Replica
from engine.scheduling.scaling import Scaling
from engine.scheduling.scheduler import Scheduler
from engine.scheduling.simulation import control
from engine.scheduling.simulation.disk import Disk
from engine.scheduling.simulation.run import Report
from engine.scheduling.simulation.run import simulate as run_seed
from engine.scheduling.task import Task
from engine.scheduling.window import Window

FIRST_SEED = 100_000
SIZES = ((200, 2), (500, 8), (1_000, 3), (2_000, 40), (3_000, 12))
"""(tasks, workers): a seed's size is its own too."""


def sized(seed: int) -> Report:
    tasks, workers = SIZES[seed % len(SIZES)]
    return run_seed(seed, tasks, workers)


def large(seed: int) -> Report:
    return run_seed(seed, 5_000, (3, 8, 24)[seed % 3])


def complaint(report: Report) -> str:
    return f"{report.what}\nagain: {simulate.replay_command(report)}"


def test_seeds_keep_every_promise(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = float(os.environ.get("AIWM_SIM_SECONDS", "60"))
    end = time.perf_counter() + seconds
    seed, tasks, totals = (
        FIRST_SEED,
        0,
        dict.fromkeys(("engine deaths", "ghosts fenced off", "cancelled", "expired"), 0),
    )
    while seed == FIRST_SEED or time.perf_counter() < end:
        report = sized(seed)
        assert report.broken is None, complaint(report)
        tasks += report.tasks
        for name in totals:
            totals[name] += report.counts.get(name, 0)
        seed += 1
    with capsys.disabled():
        print(f"\n{seed - FIRST_SEED} seeds from {FIRST_SEED} in {seconds:.0f} s: {tasks} tasks, {totals}")


def test_a_seed_is_one_history() -> None:
    first, again, other = run_seed(7, 400, 5), run_seed(7, 400, 5), run_seed(8, 400, 5)
    assert first == again
    assert first.digest != other.digest


def test_faults_really_happen() -> None:
    counts: dict[str, int] = {}
    for seed in range(40):
        for name, count in run_seed(seed, 300, 6).counts.items():
            counts[name] = counts.get(name, 0) + count
    for name in (
        "engine deaths",
        "ghosts fenced off",
        "cancelled",
        "expired",
        "dead letters",
        "Requeue",
        "ParkClass",
        "UnparkClass",
        "stale starts",
        "pages",
        "adapter hits",
        "adapter misses",
        "passed",
        "prefetches",
        "replicas started",
    ):
        assert counts.get(name, 0) > 0, f"no {name} in 40 seeds: {counts}"
    assert counts.get("ghosts accepted", 0) == 0


@pytest.mark.slow
def test_a_thousand_seeds_keep_every_promise() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        for report in processes.map(large, range(200_000, 201_000), chunksize=5):
            assert report.broken is None, complaint(report)


# -- mutants -----------------------------------------------------------------------------------------------------------------


def no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Disk, "fence", lambda self, row, epoch, attempt: True)


def fence_without_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Disk, "fence", lambda self, row, epoch, attempt: row.state == "processing" and row.attempt == attempt)


def no_rank_order_between_classes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Share, "first", lambda self: next(reversed(self.classes), None))


def no_rank_order_in_a_class(patch: pytest.MonkeyPatch) -> None:
    def add_last(self: Window[object], row: tuple[int, int, object]) -> tuple[int, int, object] | None:
        if self.edge is not None and row[:2] > self.edge:
            return add(self, row)
        self._rows.append(row)
        return None

    add = Window.add
    patch.setattr(Window, "add", add_last)


def no_tenant_turns(patch: pytest.MonkeyPatch) -> None:
    def by_rank(self: Line) -> ReadyClass | None:
        shares = [(share.key, share.first()) for share in self.shares.values() if share.key is not None]
        return min(shares, key=lambda one: one[0])[1] if shares else None

    patch.setattr(Line, "next", by_rank)


def no_instance_limits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gates, "limits_gate", lambda definition, quotas: None)


def a_budget_window_off_by_one(patch: pytest.MonkeyPatch) -> None:
    def full(self: Budget, now: Now, calls_ahead: int, tokens_ahead: int, calls: int, tokens: int) -> Full | None:
        return real(self, now, calls_ahead, tokens_ahead, calls - 1, tokens - 1)

    real = Budget.full
    patch.setattr(Budget, "full", full)


def a_minute_that_is_too_short(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rate, "MINUTE_NS", rate.MINUTE_NS - 200_000_000)


def budgets_are_not_restored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Budget, "restore", lambda self, buckets, now: None)


def a_day_begins_anew_when_the_clock_goes_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Days, "used", lambda self, now: self.totals().get(self.day(now.wall_ms), 0))


def no_dependencies(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(control, "judge_dependent", lambda seq, unmet: Release(seq))


def dependents_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(control, "after_end", lambda dependents: [])


def retirement_does_not_wait_for_the_task(patch: pytest.MonkeyPatch) -> None:
    def retire(self: Scaling, instance: Instance, reason: str, out: list[Decision]) -> None:
        if instance.retire is None and instance.task is not None:
            out.append(RetireInstance(instance.id, reason))
        real(self, instance, reason, out)

    real = Scaling.retire
    patch.setattr(Scaling, "retire", retire)


def no_retirement_by_tasks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Scaling, "_reason_to_go", lambda self, instance, now: None)


def nobody_gives_way(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Scaling, "_gives_way", lambda self, instance: None)
    patch.setattr(Scaling, "_make_room", lambda self, pool, closed, demand, out: None)


def no_max_total(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gates, "spawn_gate", lambda pool, quotas, mono_ns: None)


def no_slots(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Replica, "free", property(lambda self: None if self.total is None else max(1, self.total - self.reserved))
    )


def busy_instances_stay_idle(patch: pytest.MonkeyPatch) -> None:
    def take(self: fleet.Fleet, pool: Pool, task: Task, replica: Replica | None, now: Now) -> Instance:
        instance = next(iter(pool.idle.values()))
        real(self, pool, task, replica, now)
        pool.idle[instance.id] = instance
        return instance

    real = fleet.Fleet.take
    patch.setattr(fleet.Fleet, "take", take)


def late_rows_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    def end_load(self: Window[object], count: int, edge: tuple[int, int] | None) -> list[tuple[int, int, object]]:
        real(self, count, edge)
        return []

    real = Window.end_load
    patch.setattr(Window, "end_load", end_load)


def verdicts_do_not_stand(patch: pytest.MonkeyPatch) -> None:
    def verdict(self: Scheduler, seq: int, *args: object, **options: object) -> object:
        said = real(self, seq, *args, **options)  # type: ignore[arg-type]
        self.backlog.tasks[seq].verdict = None
        return said

    real = Scheduler.verdict
    patch.setattr(Scheduler, "verdict", verdict)


def storage_recovers_unnoticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("engine.scheduling.backlog.Backlog.repeat", lambda self, out: None)


def replicas_without_a_free_slot_get_tasks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dispatch, "choose", lambda model: next(iter(model.replicas.values())))


def tasks_are_passed_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(affinity, "_latest", lambda *_: -(2**62))


def anybody_may_pass(patch: pytest.MonkeyPatch) -> None:
    def pick(task: Task, cls: ReadyClass, pool: Pool, model: Model, now: Now, wait_ms: int) -> affinity.Pick:
        return real(task, cls, pool, model, now, wait_ms and 10**9)

    real = affinity.pick
    patch.setattr(dispatch, "pick", pick)


def what_is_there_is_prefetched(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Replica, "has", lambda self, adapters: False)


def replicas_are_asked_for_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ahead, "SHORT_MS", 10)


MUTANTS: tuple[tuple[Callable[[pytest.MonkeyPatch], None], frozenset[str], int], ...] = (
    (no_fence, frozenset({"fence", "none completed twice"}), 0),
    (fence_without_epoch, frozenset({"fence", "none completed twice"}), 24),
    (no_rank_order_between_classes, frozenset({"rank order"}), 0),
    (no_rank_order_in_a_class, frozenset({"order in a class"}), 0),
    (no_max_total, frozenset({"pool max_total", "max instances"}), 0),
    (no_slots, frozenset({"model slots"}), 0),
    (no_tenant_turns, frozenset({"tenant turns"}), 0),
    (no_instance_limits, frozenset({"max instances"}), 0),
    (a_budget_window_off_by_one, frozenset({"budget"}), 0),
    (a_minute_that_is_too_short, frozenset({"budget"}), 0),
    (budgets_are_not_restored, frozenset({"budget"}), 0),
    (a_day_begins_anew_when_the_clock_goes_back, frozenset({"budget"}), 388),
    (no_dependencies, frozenset({"dependencies"}), 0),
    (dependents_are_forgotten, frozenset({"bounded wait", "none lost"}), 0),
    (retirement_does_not_wait_for_the_task, frozenset({"retirement"}), 0),
    (no_retirement_by_tasks, frozenset({"retirement"}), 5),
    (nobody_gives_way, frozenset({"bounded wait", "none lost"}), 54),
    (busy_instances_stay_idle, frozenset({"one task per instance"}), 0),
    (late_rows_are_forgotten, frozenset({"order in a class", "bounded wait", "none lost"}), 10),
    (
        verdicts_do_not_stand,
        frozenset({"bounded wait", "due", "none lost", "fence", "none completed twice", "cancel"}),
        50,
    ),
    (storage_recovers_unnoticed, frozenset({"bounded wait", "none lost"}), 14),
    (replicas_without_a_free_slot_get_tasks, frozenset({"model slots"}), 0),
    (tasks_are_passed_without_end, frozenset({"order in a class"}), 0),
    (anybody_may_pass, frozenset({"order in a class", "rank order"}), 0),
    (what_is_there_is_prefetched, frozenset({"prefetch"}), 0),
    (replicas_are_asked_for_at_once, frozenset({"growth"}), 0),
)


MUTANT_SEEDS = 60
"""So many are looked through from the first one; it is given where a fault is rare, to save time."""


@pytest.mark.parametrize(("mutate", "promises", "first"), MUTANTS, ids=[mutant.__name__ for mutant, *_ in MUTANTS])
def test_a_mutant_is_found_and_its_seed_replays(
    mutate: Callable[[pytest.MonkeyPatch], None], promises: frozenset[str], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    broken = next(
        (
            report
            for seed in range(first, first + MUTANT_SEEDS)
            if (report := run_seed(seed, 300, 6)).broken is not None
        ),
        None,
    )
    assert broken is not None, f"{MUTANT_SEEDS} seeds did not find it"
    assert broken.broken in promises, broken.what
    assert run_seed(broken.seed, broken.tasks, broken.workers) == broken
    monkeypatch.undo()
    assert run_seed(broken.seed, broken.tasks, broken.workers).broken is None


# -- the verb ----------------------------------------------------------------------------------------------------------------


def test_the_verb_reports_what_held(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--seed", "3", "--seeds", "2", "--tasks", "120", "--workers", "4", "--json"]) == 0
    first = capsys.readouterr().out
    report = json.loads(first)
    assert report["kind"] == "simulation"
    assert report["data"]["broken"] is None
    assert report["data"]["counts"]["starts"] > 0
    assert simulate.main(["--seed", "3", "--seeds", "2", "--tasks", "120", "--workers", "4", "--json"]) == 0
    assert capsys.readouterr().out == first


def test_the_verb_names_the_broken_seed_and_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_slots(monkeypatch)
    arguments = ["--seed", "0", "--seeds", "60", "--tasks", "300", "--workers", "6"]
    assert simulate.main(arguments) == 1
    said = capsys.readouterr().out
    command = said.splitlines()[-1].partition("again: ")[2]
    assert command.startswith("python -P -m engine simulate --seed ")
    assert simulate.main(command.split()[5:]) == 1
    assert capsys.readouterr().out == said


def test_the_verb_does_not_mind_a_reader_that_has_seen_enough() -> None:
    command = [sys.executable, "-P", "-m", "engine", "simulate", "--tasks", "20", "--seeds", "50", "--verbose"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


@pytest.mark.parametrize("arguments", [["--tasks", "0"], ["--workers", "-1"], ["--seed", "x"], ["--nonsense"]])
def test_the_verb_refuses_nonsense(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        simulate.main(arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err
