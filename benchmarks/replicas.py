"""Two prompts at once on two model processes, beside one alone: `python -m benchmarks.replicas` writes results/replicas.json.

Wall time of answers of the same length through the service and its real processes. The peer are plain processes of the same arithmetic
on the same model: no engine, no pipe, no stepper, one loop that writes. What two of them take beside one alone is the machine's
share: cores that others want, or that share their arithmetic units and caches. CPU seconds tell which: waiting for a core takes none,
a core that is shared takes more for the same work. All four are tried in turn, round by round."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil

from benchmarks._report import write
from engine.inference.backends.base import LoadSpec, Message, Request, Sampling
from engine.inference.process import THREAD_VARIABLES
from tests.support.models import ModelHouse, read
from tests.support.tiny_model import write_model
from tests.support.waiting import until

ROUNDS, TOKENS = 9, 300
# Big enough that its arithmetic is what takes the time.
SIZES: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 2_048,
    "num_hidden_layers": 6,
    "num_attention_heads": 64,
    "max_position_embeddings": 4_000,
    "eos_token_id": None,
}


class Plain:
    """A process that loads the model and writes an answer whenever it is told to."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, model: Path) -> Plain:
        words = (sys.executable, "-m", "benchmarks.replicas", "--plain", str(model))
        pipe = asyncio.subprocess.PIPE
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")  # as a model process's
        made = cls(await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, env=environment))
        await made.answer()  # its first one takes what is only needed once
        return made

    async def answer(self) -> tuple[float, float]:
        """(wall, CPU) ms of one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        wall, cpu = msgspec.json.decode(await self._process.stdout.readline(), type=tuple[float, float])
        return wall, cpu

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


def plain(model: Path) -> None:
    """The life of a plain process: an answer for every line."""
    from engine.inference.backends.reference.backend import ReferenceBackend

    backend = ReferenceBackend()
    backend.load(LoadSpec(model, 1))
    asked = Request("a", messages=(Message("user", "hi"),), sampling=Sampling(0.7, seed=1, max_tokens=TOKENS))
    for _ in sys.stdin:
        started, used = time.perf_counter(), time.process_time()
        backend.admit(backend.prepare(asked))
        while backend.active():
            backend.step()
        took = (time.perf_counter() - started) * 1000, (time.process_time() - used) * 1000
        print(msgspec.json.encode(took).decode(), flush=True)


class Round(msgspec.Struct):
    """Wall ms of one answer alone and of the slower of two at once, and CPU ms of one alone and of the dearer of two."""

    ours: tuple[float, float]
    ours_cpu: tuple[float, float]
    plain: tuple[float, float]
    plain_cpu: tuple[float, float]


async def measured(home: Path) -> list[Round]:
    model = write_model(home / "models" / "tiny", **SIZES)
    house = ModelHouse(home)
    service = house.open(slots=1, replicas=2)
    peers = [await Plain.start(model) for _ in range(2)]
    try:
        await service.load("tiny")
        service.grow("tiny")
        await until(lambda: {row.id: row.state for row in service.rows()}.get("tiny.1") == "ready")
        rounds = []
        for _ in range(ROUNDS):
            alone = await answer(house, 0)
            plain_alone = await peers[0].answer()
            both = await asyncio.gather(*(answer(house, number) for number in range(2)))
            plain_both = await asyncio.gather(*(peer.answer() for peer in peers))
            ours, ours_cpu = ((alone[it], max(one[it] for one in both)) for it in range(2))
            plain, plain_cpu = ((plain_alone[it], max(one[it] for one in plain_both)) for it in range(2))
            rounds.append(Round(ours, ours_cpu, plain, plain_cpu))
        return rounds
    finally:
        await service.close()
        for peer in peers:
            await peer.end()


async def answer(house: ModelHouse, number: int) -> tuple[float, float]:
    """(wall, CPU) ms of one answer of a process of ours."""
    process = psutil.Process(house.replica(number=number).pid)
    before = process.cpu_times()
    generation = await house.ask(max_tokens=TOKENS, replica=f"tiny.{number}")
    await read(generation)
    after = process.cpu_times()
    return generation.outcome.total_ms, (after.user + after.system - before.user - before.system) * 1000


def row(case: str, pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    ratios = [two / one for one, two in pairs]
    return {
        "case": case,
        "n": len(pairs),
        "alone_ms": round(median(one for one, _ in pairs), 1),
        "two_at_once_ms": round(median(two for _, two in pairs), 1),
        "ratio": round(median(ratios), 2),
        "lowest": round(min(ratios), 2),
        "highest": round(max(ratios), 2),
    }


def main() -> None:
    if sys.argv[1:2] == ["--plain"]:
        plain(Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        rounds = asyncio.run(measured(Path(folder)))
    rows = [
        row("two model processes at once, against one alone", [it.ours for it in rounds]),
        row("two plain processes of the same arithmetic, against one alone", [it.plain for it in rounds]),
        row("CPU time of one of our answers, two at once against alone", [it.ours_cpu for it in rounds]),
        row("CPU time of one plain answer, two at once against alone", [it.plain_cpu for it in rounds]),
    ]
    beside = median(it.ours[1] / it.ours[0] * it.plain[0] / it.plain[1] for it in rounds)
    rows.append({"case": "our ratio divided by that of plain processes", "ratio": round(beside, 2)})
    write(
        "replicas", rows, ("numpy",), f"{TOKENS} tokens each, one slot a process, medians over rounds, tried in turn."
    )


if __name__ == "__main__":
    main()
