"""exllamav2 on a GPU (DESIGN §7): our lanes against its own generator, lanes at once against one after another, adapters warm and cold.

    python -m benchmarks.gpu [MODEL]        MODEL: a directory (FP16 or EXL2); without one a Llama of a billion random weights

Without a GPU that exllamav2 can use it says so and writes nothing. "Its own generator" is exllamav2's, over the same model and cache, with
the same attention; what is measured is what lanes, deadlines, text and constraints cost on top of it."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._random_model import Size, write_adapter, write_model
from benchmarks._report import middle, write
from engine.inference.adapter_files import CONFIG_FILE, WEIGHTS_FILE, adapter_digest, file_marks
from engine.inference.backends.base import AdapterRef, LoadSpec, Request, Sampling
from engine.inference.backends.exllamav2 import availability
from engine.inference.backends.exllamav2.backend import ExllamaV2Backend

REPEATS = 5
BATCHES = (1, 8, 32)
LANES = 4


@dataclass
class Bench:
    """A loaded backend. `tokens` are written for every request after a prompt of `prompt` characters."""

    backend: ExllamaV2Backend
    adapters: list[AdapterRef]
    prompt: int = 256
    tokens: int = 128
    count: int = 0

    def text(self) -> str:
        """A prompt that nobody had before: nothing of it is cached."""
        self.count += 1
        return (f"{self.count} is a number. " * self.prompt)[: self.prompt]

    def admit(self, adapters: Sequence[AdapterRef] = (), tokens: int = 0) -> None:
        sampling = Sampling(max_tokens=tokens or self.tokens)
        request = Request(f"r{self.count}", self.text(), adapters=tuple(adapters), sampling=sampling)
        if not self.backend.admit(self.backend.prepare(request)):
            raise RuntimeError("no slot or no lane for a request of the benchmark")

    def finish(self) -> None:
        while self.backend.active():
            self.backend.step()

    def seconds(self, work: Callable[[], object]) -> float:
        """How long this takes, everything that the GPU has to do for it included."""
        import torch

        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - started


# -- batches -----------------------------------------------------------------------------------------------------------


def batch_row(bench: Bench, batch: int) -> dict[str, Any]:
    """Tokens a second, ours and its own generator's, in turns."""
    ours, theirs = [], []
    own = _own_generator(bench)
    for _ in range(REPEATS + 1):

        def mine() -> None:
            for _ in range(batch):
                bench.admit()
            bench.finish()

        ours.append(batch * bench.tokens / bench.seconds(mine))
        _close_lanes(bench)
        theirs.append(batch * bench.tokens / bench.seconds(lambda: _run_own(bench, own, batch)))
        own.reset_page_table()
    mine_s, its = middle(ours[1:]), middle(theirs[1:])  # the first warms up
    return {
        "row": f"batch {batch}",
        "tokens/s": mine_s,
        "own generator tokens/s": its,
        "ratio": mine_s / its,
        "bar": 0.95,
    }


def _own_generator(bench: Bench) -> Any:
    from exllamav2.generator import ExLlamaV2DynamicGenerator

    model = bench.backend._served().model
    return ExLlamaV2DynamicGenerator(
        model.model,
        model.store.cache,
        model.tokenizer,
        max_batch_size=max(BATCHES),
        max_chunk_size=model.chunk,
        max_q_size=1,
        filter_background_eval=False,
    )


def _run_own(bench: Bench, own: Any, batch: int) -> None:
    import torch
    from exllamav2.generator import ExLlamaV2DynamicJob, ExLlamaV2Sampler

    tokenizer = bench.backend._served().tokenizer
    for _ in range(batch):
        ids = torch.tensor([tokenizer.encode(bench.text())])
        own.enqueue(ExLlamaV2DynamicJob(ids, bench.tokens, gen_settings=ExLlamaV2Sampler.Settings.greedy()))
    while own.num_remaining_jobs():
        own.iterate()


def _close_lanes(bench: Bench) -> None:
    lanes = bench.backend._served().lanes
    for lane in lanes.open:
        lanes.close(lane)


# -- lanes -------------------------------------------------------------------------------------------------------------


def lanes_row(bench: Bench, each: int) -> dict[str, Any]:
    """As many batches with different adapters as there may be lanes: at once, and one after another."""
    sets: list[list[AdapterRef]] = [[], *([adapter] for adapter in bench.adapters[: LANES - 1])]
    together, apart = [], []
    for _ in range(REPEATS + 1):

        def at_once() -> None:
            for adapters in sets:
                for _ in range(each):
                    bench.admit(adapters)
            bench.finish()

        def in_turn() -> None:
            for adapters in sets:
                for _ in range(each):
                    bench.admit(adapters)
                bench.finish()

        together.append(bench.seconds(at_once))
        apart.append(bench.seconds(in_turn))
    written = len(sets) * each * bench.tokens
    fast, slow = written / middle(together[1:]), written / middle(apart[1:])
    return {
        "row": f"{len(sets)} lanes of {each}",
        "tokens/s": fast,
        "one after another tokens/s": slow,
        "ratio": fast / slow,
        "bar": 0.9,
    }


# -- adapters ----------------------------------------------------------------------------------------------------------


def adapter_rows(bench: Bench) -> list[dict[str, Any]]:
    """Time to the first token without an adapter, with a resident one, after a switch to another, and with one that must be loaded."""
    ref = bench.adapters[0]
    base, warm, switched, cold, load, read = [], [], [], [], [], []
    for _ in range(REPEATS + 1):
        base.append(bench.seconds(lambda: _first_token(bench, [])))
        bench.seconds(lambda: _first_token(bench, [ref]))
        warm.append(bench.seconds(lambda: _first_token(bench, [ref])))
        switched.append(bench.seconds(lambda: _first_token(bench, [bench.adapters[1]])))
        bench.backend.detach(ref.digest)
        read.append(bench.seconds(lambda: _read(ref)))
        load.append(bench.seconds(lambda: _attach(bench, ref)))
        bench.backend.detach(ref.digest)

        def from_files() -> None:
            _attach(bench, ref)
            _first_token(bench, [ref])

        cold.append(bench.seconds(from_files))
    first = {
        name: middle(times[1:]) * 1e3
        for name, times in (("base", base), ("warm", warm), ("switched", switched), ("cold", cold))
    }
    size = (ref.path / WEIGHTS_FILE).stat().st_size
    loaded, plain = middle(load[1:]), middle(read[1:])
    return [
        {"row": f"first token, {name}", "ms": ms, "ratio to warm": ms / first["warm"]} for name, ms in first.items()
    ] + [
        {
            "row": "adapter load",
            "MB": size / 1e6,
            "ms": loaded * 1e3,
            "reading the file ms": plain * 1e3,
            "ratio": loaded / plain,
        }
    ]


def _first_token(bench: Bench, adapters: Sequence[AdapterRef]) -> None:
    bench.admit(adapters, tokens=1)
    bench.finish()


def _attach(bench: Bench, ref: AdapterRef) -> None:
    backend = bench.backend
    backend.attach(backend.upload(backend.stage(ref)))


def _read(ref: AdapterRef) -> None:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        (ref.path / name).read_bytes()


def prefetch_row(bench: Bench) -> dict[str, Any]:
    """What a load on another thread costs those who write meanwhile: the length of their steps."""
    ref = bench.adapters[-1]
    quiet: list[float] = []
    loading: list[float] = []
    for _ in range(8):
        bench.admit()
    with ThreadPoolExecutor(1) as pool:
        for times, load in ((quiet, False), (loading, True)):
            work = pool.submit(lambda: bench.backend.upload(bench.backend.stage(ref))) if load else None
            while (bench.backend.active() and len(times) < bench.tokens // 3) or (work is not None and not work.done()):
                times.append(bench.seconds(bench.backend.step))
            if work is not None:
                work.result()
    bench.finish()
    return {
        "row": "a step of 8 while an adapter loads",
        "ms": middle(loading) * 1e3,
        "quiet ms": middle(quiet) * 1e3,
        "ratio": middle(loading) / middle(quiet),
    }


# -- memory ------------------------------------------------------------------------------------------------------------


def memory_row(bench: Bench) -> dict[str, Any]:
    report = bench.backend.memory()
    known = report.weights_bytes + report.kv_bytes + report.adapters_bytes + report.scratch_bytes
    return {
        "row": "memory",
        "weights MB": report.weights_bytes / 1e6,
        "kv MB": report.kv_bytes / 1e6,
        "adapters MB": report.adapters_bytes / 1e6,
        "scratch MB": report.scratch_bytes / 1e6,
        "torch allocated MB": report.allocated_bytes / 1e6,
        "torch reserved MB": report.reserved_bytes / 1e6,
        "accounted for": known / report.allocated_bytes if report.allocated_bytes else 0.0,
    }


def run(model: Path, adapters: list[Path], slots: int, **sizes: int) -> list[dict[str, Any]]:
    """All rows for a model."""
    backend = ExllamaV2Backend()
    started = time.perf_counter()
    loaded = backend.load(
        LoadSpec(model, slots, 1024), lambda doing, share: print(doing, "" if share is None else f"{share:.0%}")
    )
    load_s = time.perf_counter() - started
    refs = [AdapterRef(path.name, path, adapter_digest(path), marks=file_marks(path)) for path in adapters]
    bench = Bench(backend, refs, **sizes)
    for ref in refs:
        _attach(bench, ref)
    way = backend._served().model.attention
    rows: list[dict[str, Any]] = [
        {"row": "load", "s": load_s, "parameters": loaded.parameters, "where": loaded.where, "attention": way}
    ]
    rows += [batch_row(bench, batch) for batch in BATCHES if batch <= slots]
    if refs:
        rows += [lanes_row(bench, max(1, slots // LANES)), *adapter_rows(bench), prefetch_row(bench)]
    return [*rows, memory_row(bench)]


def main() -> None:
    missing = availability.problems()
    if missing:
        print("No GPU that exllamav2 can use, so nothing is measured and nothing is written:")
        for problem in missing:
            print(f"  {problem.reason} ({problem.fix})")
        return
    with tempfile.TemporaryDirectory(prefix="aiwm-gpu-") as folder:
        given = [Path(word) for word in sys.argv[1:]]
        size = Size()
        model = given[0] if given else write_model(Path(folder) / "model", size)
        adapters = [] if given else [write_adapter(Path(folder) / f"a{n}", size, rank=16, seed=n) for n in range(LANES)]
        rows = run(model, adapters, max(BATCHES))
    notes = f"{model.name}, prompts of 256 characters, 128 tokens an answer, medians of {REPEATS}"
    write("gpu", rows, ("torch", "exllamav2"), notes)


if __name__ == "__main__":
    main()
