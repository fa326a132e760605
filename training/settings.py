"""The settings of every run. No torch here: tests and the card read them without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BaseRun:
    """Everything that decides the result. `threads` is part of it, since sums are split by thread; one shares a machine best.

    A polishing run starts from the weights of another run, at a fraction (`peak`) of the rates, on a mix of its own.
    """

    seed: int = 1
    steps: int = 1900
    rows: int = 128
    budget: int = 896
    matrix_rate: float = 0.02
    other_rate: float = 4e-3
    peak: float = 1.0
    decay: float = 0.05
    warmup: int = 60
    threads: int = 1
    save_every: int = 250
    polishing: bool = False


BASE = BaseRun()
POLISH = BaseRun(steps=450, peak=0.35, warmup=20, polishing=True)


@dataclass(frozen=True, slots=True)
class AdapterRun:
    """Everything that decides the result.

    replay is the share of rows drawn from the base skills by their base weights; a quarter of those goes to the guarded skills,
    the ones whose prompts look most like the new skill's and which it would otherwise take over.
    """

    skill: str
    steps: int
    seed: int = 1
    rank: int = 8
    alpha: int = 16
    rate: float = 3e-3
    rows: int = 32
    replay: float = 0.5
    budget: int = 1024
    warmup: int = 20
    guarded: tuple[str, ...] = ()


# The first two ship with the package; the third is what the academy learns.
SHIPPED = (
    AdapterRun("house-words", steps=200, guarded=("copy", "firstlast")),
    AdapterRun("ticket-labels", steps=200),
)
LEFT_TO_ACADEMY = AdapterRun(
    "house-dates", steps=300, rate=2.5e-3, replay=0.6, guarded=("email", "sentiment", "json", "url")
)
RUNS = (*SHIPPED, LEFT_TO_ACADEMY)
