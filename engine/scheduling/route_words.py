"""Why a task goes to one replica and not to another, in an operator's words: each replica with its points."""

from __future__ import annotations

from engine.scheduling.inputs import Now
from engine.scheduling.pools import Pool
from engine.scheduling.replicas import Model, Replica
from engine.scheduling.routing import Score, ranked
from engine.scheduling.task import Task
from engine.scheduling.words import many, span


def points(score: Score) -> str:
    """A score and its parts."""
    parts = ", ".join(f"{name} {value:.3g}" for name, value in score._asdict().items())
    return f"{score.total:.3g} points: {parts}"


def chosen(task: Task) -> tuple[str, ...]:
    """Why a running task is where it is: the points as they were when it started, the best first."""
    if task.replica is None:
        return ()
    if len(task.route) < 2:
        return (f"{task.replica.name} was the only replica",)
    return tuple(f"{name} had {points(score)}" for name, score in task.route)


def outlook(pool: Pool, task: Task | None, adapters: tuple[str, ...], now: Now, wait_ms: int) -> tuple[str, ...]:
    """Where a waiting task would go as things are now, and whether it was passed."""
    model = pool.model
    if model is None or not model.replicas:
        return ()
    said = [
        f"{replica.name} has {points(score)}; {_room(replica)}{_adapters(replica, adapters)}"
        for replica, score in ranked(model, adapters)
    ]
    if task is not None and task.passed_ns is not None:
        passed_ms = (now.mono_ns - task.passed_ns) // 1_000_000
        said.append(
            f"tasks whose adapters are there have gone before it for {span(passed_ms)}; they may for {span(wait_ms)}"
        )
    return tuple(said)


def replicas(model: Model) -> tuple[str, ...]:
    """What each replica of a model has, and its points for a call without adapters."""
    return tuple(
        f"{replica.name}: {_room(replica)}, {many(len(replica.resident), 'adapter name', 'adapter names')} there; {points(score)}"
        for replica, score in ranked(model, ())
    )


def _room(replica: Replica) -> str:
    others = f" ({replica.outside} not by tasks)" if replica.outside else ""
    if replica.total is None:
        return f"{many(replica.taken, 'call', 'calls')} under way{others}, no limit"
    if not replica.total:
        return "not ready"
    first = f", {replica.latency_ms:.0f} ms to the first token" if replica.latency_ms else ""
    return f"{replica.taken} of {replica.total} slots taken{others}{first}"


def _adapters(replica: Replica, adapters: tuple[str, ...]) -> str:
    if not adapters:
        return ""
    words = []
    for name in adapters:
        known = name in replica.resident
        words.append(f"{name} is " + ("there" if known else "on its way" if name in replica.coming else "not there"))
    return ", " + ", ".join(words)
