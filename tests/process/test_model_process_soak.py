"""Random requests, adapters, cancels, deadlines, prefetches and evictions in one model process: nothing is lost, nothing is left."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.inference.adapter_files import adapter_digest, file_marks
from tests.support.model_pipe import Pipe
from tests.support.tiny_model import write_adapter, write_model

SLOTS = 4
STAGED_BYTES = 100_000
AT_ONCE = 8  # requests that are in it, so that some wait
GROWTH = 8_000_000  # bytes by which the process may grow once it has seen everything


class Churn:
    """One process under random work, and what became of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.pipe = Pipe()
        self.process = psutil.Process(self.pipe.process.pid)
        self.files = [self._adapter(folder, number) for number in range(12)]
        lost = {"name": "lost", "path": str(folder / "lost"), "digest": "0" * 64}
        cut = self._adapter(folder, 12)
        weights = Path(cut["path"], "adapter_model.safetensors")
        weights.write_bytes(weights.read_bytes()[:-8])
        self.bad = [lost, cut | {"marks": ()}]
        self.mark = self._adapter(folder, 13)
        self.asked: set[str] = set()
        self.ended: dict[str, str] = {}
        self.count = 0
        model = str(write_model(folder / "model"))
        self.pipe.ask("load", model=model, slots=SLOTS, adapter_slots=4, staged_bytes=STAGED_BYTES)

    def _adapter(self, folder: Path, number: int) -> dict[str, Any]:
        path = write_adapter(folder / f"a{number}", seed=number, rank=2 + number)
        marks = file_marks(path)
        return {"name": f"a{number}", "path": str(path), "digest": adapter_digest(path), "marks": marks}

    def some(self) -> list[dict[str, Any]]:
        """Up to three adapters, a few of them favourites, now and then one that cannot be loaded."""
        number = self.random.choice((0, 1, 1, 1, 2, 3))
        chosen = [self.files[min(int(self.random.expovariate(0.4)), len(self.files) - 1)] for _ in range(number)]
        if chosen and self.random.random() < 0.05:
            chosen[0] = self.random.choice(self.bad)
        return [file | {"weight": self.random.choice((0.0, 0.5, 1.0))} for file in chosen]

    def generate(self) -> None:
        self.count += 1
        name = f"r{self.count}"
        sampling = {"temperature": 0.8, "max_tokens": self.random.randint(1, 12)}
        deadline = {"deadline_ms": self.random.randint(1, 20)} if self.random.random() < 0.1 else {}
        self.asked.add(name)
        answer = self.pipe.ask("generate", id=name, prompt="ab", adapters=self.some(), sampling=sampling, **deadline)
        assert "tokens_in" in answer, answer
        self.take_notes()

    def take_notes(self) -> None:
        for note in self.pipe.notes:
            if note["method"] in ("done", "failed"):
                name = note["params"]["id"]
                assert name not in self.ended, f"{name} ended twice"
                self.ended[name] = note["params"].get("reason") or note["params"]["error"]["code"]
        self.pipe.notes.clear()

    def one(self) -> None:
        """Something."""
        chance = self.random.random()
        open_ones = sorted(self.asked - self.ended.keys())
        if len(open_ones) >= AT_ONCE:
            self.pipe.notes.append(self.pipe.read())
        elif chance < 0.6:
            self.generate()
        elif chance < 0.75 and open_ones:
            self.pipe.ask("cancel", id=self.random.choice(open_ones))
        elif chance < 0.93:
            how = self.random.choice(({}, {}, {"next": True}, {"keep": True}))
            self.pipe.ask("prefetch", adapters=self.some(), **how)
        else:
            self.pipe.ask("evict", digests=[file["digest"] for file in self.random.sample(self.files, 3)])
        self.take_notes()

    def rest(self) -> dict[str, Any]:
        """Wait for every request's end and for the loader to be done; what the process holds then."""
        while self.asked - self.ended.keys():
            self.pipe.notes.append(self.pipe.read())
            self.take_notes()
        self.pipe.ask("evict", digests=[self.mark["digest"]])
        self.pipe.ask("prefetch", adapters=[self.mark], next=True)
        status = self.pipe.status(self.still)
        held: dict[str, Any] = self.pipe.ask("memory")
        assert held["kv_used_bytes"] == 0
        assert held["staged_bytes"] <= STAGED_BYTES
        assert held["adapters_bytes"] == status["cache"]["resident_bytes"]
        assert not [entry for entry in status["cache"]["adapters"] if entry["users"]]
        return {"rss": held["rss_bytes"], "fds": self.process.num_fds(), "threads": self.process.num_threads()}

    def still(self, status: dict[str, Any]) -> bool:
        """This status is of a time after everything that was asked."""
        states = {entry["digest"]: entry["state"] for entry in status["cache"]["adapters"]}
        return states.get(self.mark["digest"]) == "resident" and not {"reading", "uploading"} & set(states.values())

    def run(self, until: Callable[[], bool]) -> None:
        while not until():
            self.one()

    def check(self, warm: Callable[[], bool], end: Callable[[], bool]) -> None:
        self.run(warm)
        before = self.rest()
        self.run(end)
        after = self.rest()
        assert (after["fds"], after["threads"]) == (before["fds"], before["threads"])
        assert after["rss"] - before["rss"] < GROWTH
        assert {"length", "cancelled", "adapter_not_found", "adapter_invalid"} <= set(self.ended.values())
        assert self.ended.keys() == self.asked
        self.pipe.close()


def test_a_thousand_random_things_leave_nothing_behind(tmp_path: Path) -> None:
    churn = Churn(tmp_path, seed=1)
    churn.check(lambda: churn.count >= 150, lambda: churn.count >= 500)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12])
def test_minutes_of_random_things_leave_nothing_behind(tmp_path: Path, seed: int) -> None:
    churn = Churn(tmp_path, seed)
    end = time.monotonic() + 120
    churn.check(lambda: churn.count >= 500, lambda: time.monotonic() > end)
