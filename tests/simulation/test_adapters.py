"""Zipf's adapters through bounded caches: what the scheduler makes of them, against plain LRU and FIFO on the same tasks."""

from __future__ import annotations

import json

import pytest

from engine.scheduling import affinity, simulate
from engine.scheduling.scheduler import SchedulerConfig
from engine.scheduling.simulation.adapters import Figures, Mix, compare


def check(mix: Mix) -> tuple[Figures, Figures]:
    """Whatever the mix: every task ran once, nobody was passed for too long, and fewer tasks waited for an adapter."""
    aiwm, fifo = compare(mix)
    for one in (aiwm, fifo):
        assert one.hits + one.late + one.misses == mix.tasks
    assert fifo.longest_passed_ms == 0
    assert 0 < aiwm.longest_passed_ms <= SchedulerConfig().affinity_wait_ms
    assert aiwm.hit_rate > fifo.hit_rate, (mix, aiwm, fifo)
    return aiwm, fifo


def test_more_hits_and_shorter_waits_than_fifo(capsys: pytest.CaptureFixture[str]) -> None:
    aiwm, fifo = check(Mix(tasks=2_000))
    assert aiwm.hit_rate > 1.25 * fifo.hit_rate
    assert aiwm.wait_ms < 0.5 * fifo.wait_ms
    assert aiwm.wait_p95_ms < 0.5 * fifo.wait_p95_ms
    assert aiwm.wait_max_ms < fifo.wait_max_ms
    assert aiwm.loads < fifo.loads
    with capsys.disabled():
        for one in (aiwm, fifo):
            print(
                f"\n{one.policy}: {one.hit_rate:.0%} hits, waits {one.wait_p50_ms:.0f} / {one.wait_p95_ms:.0f} ms",
                end="",
            )


def test_one_mix_is_one_history() -> None:
    assert compare(Mix(tasks=300)) == compare(Mix(tasks=300))
    assert compare(Mix(tasks=300, seed=2)) != compare(Mix(tasks=300))


def test_passing_without_end_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "_latest", lambda *_: -(2**62))
    aiwm, _ = compare(Mix(tasks=1_000, load=1.1))
    assert aiwm.longest_passed_ms > SchedulerConfig().affinity_wait_ms


def test_the_verb_prints_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--adapters", "30", "--tasks", "300"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("300 tasks, 30 adapters; 3 replicas of 4 slots, 8 adapters in each")
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["policy", "aiwm", "fifo"]
    assert simulate.main(["--adapters", "30", "--tasks", "300", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["mix"]["adapters"] == 30
    assert [one["policy"] for one in data["figures"]] == ["aiwm", "fifo"]
    with pytest.raises(SystemExit, match="--cache not below --slots"):
        simulate.main(["--adapters", "30", "--cache", "2"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "mix",
    [
        Mix(load=0.95),
        Mix(load=1.3),
        Mix(zipf=1.4),
        Mix(zipf=0.0, adapters=30),
        Mix(adapters=200, cache=20),
        Mix(replicas=1, slots=8),
        Mix(load_ms=1_500.0, load=0.3),
        Mix(work_ms=5_000.0),
    ],
    ids=lambda mix: f"{mix.adapters}x{mix.zipf}@{mix.load}",
)
def test_every_mix_of_every_seed(seed: int, mix: Mix) -> None:
    aiwm, fifo = check(Mix(**{**mix.__dict__, "seed": seed, "tasks": 4_000}))
    assert aiwm.wait_ms < 1.05 * fifo.wait_ms
