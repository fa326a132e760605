"""Running a seed to its end, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from engine.contract.states import TaskState
from engine.scheduling.simulation.checks import Violation
from engine.scheduling.simulation.disk import Row
from engine.scheduling.simulation.people import Clients, Storm
from engine.scheduling.simulation.plan import draw
from engine.scheduling.simulation.world import MS, World


@dataclass(frozen=True)
class Report:
    """What happened in a seed. `broken` is the promise that was broken, None if all held; `digest` is equal for equal histories."""

    seed: int
    tasks: int
    workers: int
    broken: str | None
    what: str
    simulated_s: float
    counts: dict[str, int]
    digest: str


def simulate(seed: int, tasks: int, workers: int) -> Report:
    """Run one seed; a broken promise is a report, not an exception."""
    world = World(draw(seed, tasks, workers))
    broken, what = None, ""
    try:
        _live(world)
    except Violation as violation:
        broken, what = violation.promise, f"{violation} at {world.ns / 1e9:.6f} s"
    return Report(
        seed=seed,
        tasks=tasks,
        workers=workers,
        broken=broken,
        what=what,
        simulated_s=round(world.ns / 1e9, 3),
        counts=dict(sorted(world.counts.items())),
        digest=f"{world.digest:012x}",
    )


def _live(world: World) -> None:
    plan = world.plan
    world.boot()
    clients = Clients(world)
    storm = Storm(world, clients)
    period_ns = int(plan.period_ms * MS)
    while world.turn():
        if world.stormy and world.ns >= period_ns:
            storm.calm()
            world.last_end_ns = world.ns
        if not world.stormy and _over(world, clients):
            break
    _take_stock(world, clients)


def _over(world: World, clients: Clients) -> bool:
    """Whether everything that can end has ended. When nothing does for long, it never will."""
    if world.disk.open == 0 and len(clients.acked) == world.plan.tasks:
        return True
    quiet_ns = world.ns - world.last_end_ns
    if quiet_ns > (120_000 + 400 * world.plan.work_ms) * MS:
        stuck = _stuck(world)
        if stuck is not None:
            raise Violation("bounded wait", f"nothing ended for {quiet_ns / 1e9:.0f} s, e.g. {stuck}")
        if len(clients.acked) == world.plan.tasks and not _ending(world):
            return True
        # What is left was scheduled by a clock that was far ahead, or retries by its word, or has used its tokens of this day.
        world.last_end_ns = world.ns
        world.counts["days"] += 1
        if world.counts["days"] > 400:
            raise Violation("bounded wait", "400 days were not enough")
        world.jump_clock(86_400_000)
    return False


def _stuck(world: World) -> str | None:
    """A task that should have ended by now, and what the scheduler says about it."""
    # An attempt that waits for another day's tokens holds its place meanwhile, and others may need just that.
    calls = [run.call for run in world.runs.values() if run.call is not None and not run.call.granted]
    if any(world.definitions[call.definition].tokens_per_day for call in calls):
        return None
    for row in world.disk.rows.values():
        if row.state.ended or (row.due_ms is not None and row.due_ms > world.now.wall_ms):
            continue
        pools = world.serving(row.key)
        limits = [world.definitions.get(world.pools[name].definition) for name in pools]
        if pools and not all(limit is not None and limit.tokens_per_day for limit in limits) and not _waits(world, row):
            why = "" if world.scheduler is None else world.scheduler.explain_task(row.ref(), world.now).summary
            return f"task {row.seq} ({row.state}, attempt {row.attempt}, {row.key}): {why}"
    return None


def _waits(world: World, row: Row) -> bool:
    """Whether a task waits for one that has not ended."""
    return row.blocked and any(not state.ended for _, state in world.disk.unmet(row.seq))


def _ending(world: World) -> list[int]:
    """The tasks that can still end: somebody serves them, and what they wait for can end too."""
    found: set[int] = set()
    # A task waits for older ones only.
    for row in world.disk.rows.values():
        if not row.state.ended and world.serving(row.key):
            unmet = world.disk.unmet(row.seq) if row.blocked else []
            if all(state.ended or seq in found for seq, state in unmet):
                found.add(row.seq)
    return sorted(found)


def _take_stock(world: World, clients: Clients) -> None:
    """At the end every acknowledged task is on disk and has ended, or nobody could ever serve it."""
    left = set(_ending(world))
    for seq in clients.acked:
        row = world.disk.rows.get(seq)
        if row is None:
            raise Violation("none lost", f"task {seq} was acknowledged and is not on disk")
        if seq in left:
            raise Violation("none lost", f"task {seq} is still {row.state}")
        if row.completions != (row.state is TaskState.completed):
            raise Violation("none completed twice", f"task {seq} is {row.state} and has {row.completions} results")
