"""What adapters cost in the reference backend: a hit, a cold load, and switching between sets that are resident.

`python -m benchmarks.adapters` writes results/adapters.json. One thread. A cold load is compared with reading the same file: from the disk
(the page cache is told to forget it before each read and each load) and from the page cache. What is compared is tried in turn, and
the least disturbed try of each counts. CPU time where nothing waits for the disk, wall time where something does."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._report import write
from benchmarks.inference import PROMPTS, endless_model, write_adapters
from engine.contract.errors import Code
from engine.inference.adapter_cache import AdapterCache
from engine.inference.adapter_files import WEIGHTS_FILE, adapter_digest, file_marks
from engine.inference.backends.base import AdapterRef, LoadSpec, Message, Prepared, Request, Sampling
from engine.inference.job import Job
from engine.inference.stepper import Stepper
from tests.support.scripted_backend import ScriptedBackend, prepared
from tests.support.tiny_model import tiny_config, write_adapter, write_model

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
TRIES = 15
COLD_TRIES = 40  # they are short, and somebody else's work disturbs them most
REQUESTS, TOKENS = 32, 24
Work = Callable[[], object]
# (name, changes of the tiny model's configuration or None for the shipped model, ranks)
SHAPES: tuple[tuple[str, dict[str, Any] | None, tuple[int, ...]], ...] = (
    ("the shipped model", None, (8, 64)),
    ("6 layers of 1024", {
        "hidden_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 128,
        "intermediate_size": 2816,
    }, (16, 64)),
)  # fmt: skip


def least(clock: Callable[[], float], *works: Work, before: Work = lambda: None, tries: int = TRIES) -> list[float]:
    """Milliseconds of the least disturbed try of each, tried in turn."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(tries):
        for work, mine in zip(works, times, strict=True):
            before()
            started = clock()
            work()
            mine.append((clock() - started) * 1000)
    return [min(mine) for mine in times]


# -- cold ------------------------------------------------------------------------------------------------------------------


def forget(path: Path) -> None:
    """Have the system drop a file from its page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold(folder: Path, shipped: Path) -> list[dict[str, Any]]:
    from engine.inference.backends.reference.backend import ReferenceBackend
    from engine.inference.backends.reference.config import read_json

    rows = []
    for shape, changes, ranks in SHAPES:
        model = shipped if changes is None else write_model(folder / "large", **changes)
        config = read_json(model / "config.json", Code.model_invalid) if changes is None else tiny_config(**changes)
        backend = ReferenceBackend()
        backend.load(LoadSpec(model, 1, 64))
        for rank in ranks:
            path = write_adapter(folder / f"{shape}-{rank}", config, rank=rank, scale=0.01)
            rows += [cold_row(backend, path, f"{shape}, rank {rank}", dropped=dropped) for dropped in (True, False)]
    return rows


def cold_row(backend: Any, path: Path, what: str, *, dropped: bool) -> dict[str, Any]:
    ref = AdapterRef("a", path, adapter_digest(path), 1.0, file_marks(path))
    file = path / WEIGHTS_FILE

    def load() -> None:
        backend.attach(backend.upload(backend.stage(ref)))

    def before() -> None:
        backend.detach(ref.digest)
        if dropped:
            forget(file)

    read_ms, load_ms = least(time.perf_counter, file.read_bytes, load, before=before, tries=COLD_TRIES)
    (cpu_ms,) = least(time.thread_time, load, before=before, tries=TRIES)
    kept = backend._current.adapters._plans

    def as_the_first() -> None:
        before()
        kept.clear()

    (first_ms,) = least(time.thread_time, load, before=as_the_first, tries=TRIES)
    return {
        "case": "cold load, file on disk" if dropped else "cold load, file in the page cache",
        "adapter": what,
        "megabytes": round(file.stat().st_size / 1e6, 2),
        "read_ms": round(read_ms, 2),
        "load_ms": round(load_ms, 2),
        "load_is": round(load_ms / read_ms, 2),
        "load_cpu_ms": round(cpu_ms, 2),
        "first_load_cpu_ms": round(first_ms, 2),
    }


# -- hits and switches -------------------------------------------------------------------------------------------------------


class Desk:
    """The shipped model with eight resident adapters."""

    def __init__(self, folder: Path, model: Path) -> None:
        from engine.inference.backends.reference.backend import ReferenceBackend

        write_adapters(folder / "adapters", model)
        self.backend = ReferenceBackend()
        self.backend.load(LoadSpec(model, 8))
        paths = sorted((folder / "adapters").iterdir())
        self.refs = [AdapterRef(path.name, path, adapter_digest(path), 1.0, file_marks(path)) for path in paths]
        for ref in self.refs:
            self.backend.attach(self.backend.upload(self.backend.stage(ref)))

    def requests(self, sets: Sequence[Sequence[AdapterRef]]) -> list[Prepared]:
        """Requests that use these sets in turn."""
        return [
            self.backend.prepare(
                Request(
                    str(index),
                    messages=(Message("user", PROMPTS[index % len(PROMPTS)]),),
                    adapters=tuple(sets[index % len(sets)]),
                    sampling=Sampling(max_tokens=TOKENS),
                )
            )
            for index in range(REQUESTS)
        ]

    def run(self, requests: list[Prepared], batch: int) -> None:
        left = list(reversed(requests))
        while left or self.backend.active():
            while left and self.backend.active() < batch:
                self.backend.admit(left.pop())
            self.backend.step()

    def switch(self, batch: int, size: int) -> dict[str, Any]:
        """Requests that take turns among resident sets of `size` beside requests that all use the same set, `batch` at once."""
        same = self.requests([self.refs[:size]])
        turns = self.requests([(self.refs * 2)[index : index + size] for index in range(8)])
        alone, switching = least(time.thread_time, lambda: self.run(same, batch), lambda: self.run(turns, batch))
        return {
            "case": "switching between resident sets",
            "at_once": batch,
            "adapters_a_request": size,
            "same_ms": round(alone, 2),
            "switching_ms": round(switching, 2),
            "switching_is": round(switching / alone, 3),
        }

    def hit(self) -> dict[str, Any]:
        """What a hit adds beside its arithmetic: CPU time of stepper and cache around a backend that computes nothing, for requests with a
        resident adapter less that for requests without. Beside it, a request's whole CPU time on the shipped model, alone."""
        stepper = Stepper(lambda _: None)
        stepper.serve(ScriptedBackend(8), 8, AdapterCache(20, 500_000_000))

        def run(*digests: str) -> None:
            for number in range(REQUESTS):
                stepper.submit(Job(prepared(str(number), *digests), time.monotonic(), None))
            while stepper.busy:
                stepper.turn()

        run("a")
        base, hits = least(time.thread_time, run, lambda: run("a"))
        (whole,) = least(time.thread_time, lambda: self.run(self.requests([self.refs[:1]]), 1))
        added = (hits - base) / REQUESTS * 1000
        return {
            "case": "hit",
            "added_us_a_request": round(added, 1),
            "whole_us_a_request": round(whole / REQUESTS * 1000),
            "tokens_a_request": TOKENS,
            "added_share": round(added / (whole / REQUESTS * 1000), 4),
        }


def measure() -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:  # a directory on a disk: /tmp may be memory
        folder = Path(name)
        model = endless_model(folder)
        desk = Desk(folder, model)
        rows = [desk.hit(), desk.switch(1, 1), desk.switch(1, 2), *cold(folder, model)]
    notes = (
        f"Least disturbed of {TRIES} tries each (cold loads: {COLD_TRIES}), in turn, one thread."
        " hit: CPU time that a resident adapter adds to a request beside the"
        f" model's arithmetic, beside the whole request of {TOKENS} tokens. switching: CPU time of {REQUESTS} requests,"
        " one at a time, so no two sets meet in a batch. cold load: wall time from opening the files to ready for requests, beside"
        " reading the file, of an adapter whose header is that of one before; every number is checked and laid out."
        " load_cpu_ms: its CPU time, which others on the machine disturb less; first_load_cpu_ms: that of the first with its header."
    )
    write("adapters", rows, ("numpy",), notes)


def main() -> None:
    if "--here" in sys.argv:
        measure()
        sys.stdout.flush()
        os._exit(0)  # the loader's thread waits for work
    threads = dict.fromkeys(THREADS, "1")
    command = [sys.executable, "-m", "benchmarks.adapters", "--here"]
    sys.exit(subprocess.run(command, env=os.environ | threads, check=False).returncode)


if __name__ == "__main__":
    main()
