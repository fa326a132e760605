"""Running a seed to its end, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from engine.contract.states import TaskState
from engine.scheduling.simulation.checks import Violation
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
        # What is left was scheduled by a clock that was far ahead, or retries by its word: let that time come.
        world.last_end_ns = world.ns
        world.jump_clock(86_400_000)
    return False


def _stuck(world: World) -> str | None:
    """A task that should have ended by now, and what the scheduler says about it."""
    for row in world.disk.rows.values():
        if not row.state.ended and world.serving(row.key) and (row.due_ms is None or row.due_ms <= world.now.wall_ms):
            why = "" if world.scheduler is None else world.scheduler.explain_task(row.ref(), world.now).summary
            return f"task {row.seq} ({row.state}, attempt {row.attempt}, {row.key}): {why}"
    return None


def _take_stock(world: World, clients: Clients) -> None:
    """At the end every acknowledged task is on disk and has ended, or nobody could ever serve it."""
    for seq in clients.acked:
        row = world.disk.rows.get(seq)
        if row is None:
            raise Violation("none lost", f"task {seq} was acknowledged and is not on disk")
        if not row.state.ended and world.serving(row.key):
            raise Violation("none lost", f"task {seq} is still {row.state}")
        if row.completions != (row.state is TaskState.completed):
            raise Violation("none completed twice", f"task {seq} is {row.state} and has {row.completions} results")
