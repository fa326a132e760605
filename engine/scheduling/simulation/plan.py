"""What a seed stands for: queues, pools, models and clients, how large the scheduler's windows are, and which faults happen how often."""

from __future__ import annotations

import random
from dataclasses import dataclass

from msgspec.structs import replace

from engine.scheduling.inputs import Criteria, DefinitionChanged, PoolChanged, QueueChanged, RetryPolicy
from engine.scheduling.scheduler import SchedulerConfig

DEFINITIONS = ("goat", "echo", "judge")
CAPABILITIES = ("json", "vision", "tools")
NOBODY = Criteria(capabilities=frozenset({"telepathy"}))
"""Criteria that no pool of any world meets."""


@dataclass(frozen=True)
class Faults:
    """How often things go wrong while the world is stormy: a share of attempts or calls (0 to 1), or times per simulated second."""

    fail: float
    fail_for_good: float
    crash: float
    zombie: float
    slow: float
    spawn_fails: float
    engine_dies: float
    model_dies: float
    storage_fails: float
    clock_jumps: float
    cancels: float
    operators: float


@dataclass(frozen=True)
class Plan:
    seed: int
    tasks: int
    config: SchedulerConfig
    queues: tuple[QueueChanged, ...]
    pools: tuple[PoolChanged, ...]
    slots: dict[str, int | None]
    """What each process of a model serves at once."""
    replicas: dict[str, tuple[int, int]]
    """How many processes a model has at first, and at most."""
    adapters: tuple[str, ...]
    """What tasks ask for, the most popular first."""
    cache: int
    """So many of them fit into a process, besides those that are in use."""
    load_ms: float
    """Mean time that one takes to come there."""
    definitions: tuple[DefinitionChanged, ...]
    """Those whose instances call a model; the others work by themselves."""
    max_instances: int
    """Over the whole engine; 0: no limit."""
    after: float
    """The share of tasks that wait for other tasks."""
    eager: frozenset[str]
    """Pools whose tasks run while their start is still being committed."""
    tenants: tuple[str, ...]
    criteria: tuple[str, ...]
    work_ms: float
    """Mean duration of an attempt."""
    commit_ms: float
    period_ms: float
    """How long clients submit and faults happen; after it everything is repaired and the rest must end."""
    faults: Faults


def draw(seed: int, tasks: int, workers: int) -> Plan:
    """The plan of a seed. Equal arguments give equal plans on every machine."""
    rng = random.Random(seed)
    # Half of the worlds have no limits but pools and slots: nothing then hides behind a wait.
    plain = rng.random() < 0.5
    slots: dict[str, int | None] = {}
    for name in ("nano", "qwen")[: rng.randint(0, 2)]:
        slots[name] = rng.choice((None, 1, 2, 4, 8))
    # Drawn apart, so that a seed's queues, pools and people do not depend on it.
    crew = random.Random(seed + 1_000_003)
    replicas = {name: crew.choice(((1, 1), (1, 3), (2, 2), (2, 4))) for name in slots}
    adapters = tuple(f"a{number}" for number in range(crew.choice((0, 3, 30))))
    pools = _pools(rng, workers, list(slots), plain=plain)
    if adapters:
        pools = tuple(replace(pool, adapters=tuple(crew.sample(adapters, crew.choice((0, 0, 1, 2))))) for pool in pools)
    queues = _queues(rng, [pool.name for pool in pools])
    work_ms = rng.choice((2.0, 20.0, 100.0, 1000.0))
    limits = [slot * replicas[name][0] for name, slot in slots.items() if slot is not None]
    capacity = max(1, min(workers, sum(limits) if len(limits) == len(slots) and slots else workers))
    # From a world that idles to one that cannot keep up with its clients.
    load = rng.choice((0.3, 0.8, 1.0, 1.5, 4.0))
    period_ms = max(2000.0, tasks * work_ms / capacity / load)
    return Plan(
        seed=seed,
        tasks=tasks,
        config=replace(_config(rng), affinity_wait_ms=crew.choice((0, 100, 2_000))),
        queues=queues,
        pools=pools,
        slots=slots,
        replicas=replicas,
        adapters=adapters,
        cache=crew.choice((1, 2, 8)),
        load_ms=crew.choice((1.0, 50.0, 400.0)),
        definitions=() if plain else _definitions(rng, tasks, workers),
        max_instances=0 if plain else rng.choice((0, 1, max(1, workers // 2), workers)),
        after=rng.choice((0.0, 0.0, 0.1, 0.5)),
        eager=frozenset(pool.name for pool in pools if rng.random() < 0.5),
        tenants=("", "ana", "ben")[: rng.randint(1, 3)],
        criteria=_criteria(rng, pools),
        work_ms=work_ms,
        commit_ms=rng.choice((0.05, 0.5, 5.0)),
        period_ms=period_ms,
        faults=_faults(rng, period_ms),
    )


def _pools(rng: random.Random, workers: int, models: list[str], *, plain: bool) -> tuple[PoolChanged, ...]:
    count = rng.randint(1, min(4, workers))
    cuts = sorted(rng.sample(range(1, workers), count - 1)) if count > 1 else []
    sizes = [after - before for before, after in zip([0, *cuts], [*cuts, workers], strict=True)]
    return tuple(
        PoolChanged(
            name=f"pool{index}",
            definition=rng.choice(DEFINITIONS),
            capabilities=frozenset(name for name in CAPABILITIES if rng.random() < 0.5),
            min_idle=rng.choice((0, 0, 1, 2)),
            max_total=size,
            model=rng.choice([*models, None]),
            revision="1",
            max_tasks=0 if plain else rng.choice((0, 0, 1, 20)),
            max_age_ms=0 if plain else rng.choice((0, 0, 700, 30_000)),
            cooldown_ms=60_000 if plain else rng.choice((60_000, 0, 300)),
        )
        for index, size in enumerate(sizes)
    )


def _definitions(rng: random.Random, tasks: int, workers: int) -> tuple[DefinitionChanged, ...]:
    """Limits that matter, and yet let all tasks through in some minutes or days."""

    def limit(*choices: int) -> int:
        return rng.choice((0, 0, *choices))

    return tuple(
        DefinitionChanged(
            name=name,
            requests_per_minute=limit(max(2, tasks // 20), max(1, tasks // 5)),
            tokens_per_minute=limit(max(60, tasks * 3), tasks * 12),
            tokens_per_day=limit(max(100, tasks * 12)),
            max_instances=limit(1, max(1, workers // 3)),
        )
        for name in DEFINITIONS
        if rng.random() < 0.6
    )


def _queues(rng: random.Random, pools: list[str]) -> tuple[QueueChanged, ...]:
    return tuple(
        QueueChanged(
            name=f"queue{index}",
            pools=tuple(rng.sample(pools, rng.randint(1, len(pools)))),
            retry=RetryPolicy(
                max_attempts=rng.randint(1, 4),
                delay_ms=rng.choice((0, 10, 500, 5000)),
                backoff=rng.choice((1.0, 2.0)),
                max_delay_ms=20_000,
                jitter=rng.choice((0.0, 0.2)),
            ),
        )
        for index in range(rng.randint(1, 3))
    )


def _criteria(rng: random.Random, pools: tuple[PoolChanged, ...]) -> tuple[str, ...]:
    """What clients ask for; nothing in particular most of the time."""
    some = [Criteria(), Criteria(), Criteria()]
    for _ in range(rng.randint(0, 3)):
        pool = rng.choice(pools)
        wanted = frozenset(name for name in sorted(pool.capabilities) if rng.random() < 0.5)
        some.append(Criteria(pool.definition if rng.random() < 0.5 else None, wanted))
    if rng.random() < 0.3:
        some.append(NOBODY)
    return tuple(criteria.key for criteria in some)


def _config(rng: random.Random) -> SchedulerConfig:
    return SchedulerConfig(
        window=rng.choice((4, 16, 64, 512)),
        classes=rng.choice((2, 3, 8, 256)),
        later=rng.choice((4, 32, 4096)),
        rotate_ms=rng.choice((50, 1000)),
    )


def _faults(rng: random.Random, period_ms: float) -> Faults:
    def share(*choices: float) -> float:
        return rng.choice((0.0, *choices))

    def times(*choices: float) -> float:
        """So many in the whole period, as a rate per second."""
        return rng.choice((0.0, *choices)) * 1000.0 / period_ms

    return Faults(
        fail=share(0.02, 0.2),
        fail_for_good=share(0.01),
        crash=share(0.002, 0.03),
        zombie=rng.choice((0.0, 0.5, 1.0)),
        slow=share(0.01),
        spawn_fails=share(0.05, 0.5),
        engine_dies=times(1, 3, 8),
        model_dies=times(2, 10),
        storage_fails=times(1, 5),
        clock_jumps=times(1, 5),
        cancels=times(3, 30),
        operators=times(5, 40),
    )
