"""Two prompts at once on two model processes, beside one alone: `python -m benchmarks.replicas` writes results/replicas.json.

Wall time of answers of the same length through the service and its real processes; the peer is the same prompt on one process, asked
just before. Needs two cores that nobody else wants: what others take shows in the spread."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._report import write
from tests.support.models import ModelHouse, read
from tests.support.tiny_model import write_model
from tests.support.waiting import until

ROUNDS, TOKENS = 7, 300
# Big enough that its arithmetic is what takes the time.
SIZES: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 2_048,
    "num_hidden_layers": 6,
    "num_attention_heads": 64,
    "max_position_embeddings": 4_000,
    "eos_token_id": None,
}


async def measured(home: Path) -> list[tuple[float, float]]:
    """(one alone, the slower of two at once) in ms, a pair a round."""
    write_model(home / "models" / "tiny", **SIZES)
    house = ModelHouse(home)
    service = house.open(slots=1, replicas=2)
    try:
        await service.load("tiny")
        service.grow("tiny")
        await until(lambda: {row.id: row.state for row in service.rows()}.get("tiny.1") == "ready")
        pairs = []
        for _ in range(ROUNDS):
            alone = await house.ask(max_tokens=TOKENS)
            await read(alone)
            both = await asyncio.gather(*(house.ask(max_tokens=TOKENS, replica=f"tiny.{n}") for n in range(2)))
            await asyncio.gather(*map(read, both))
            pairs.append((alone.outcome.total_ms, max(one.outcome.total_ms for one in both)))
        return pairs
    finally:
        await service.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pairs = asyncio.run(measured(Path(folder)))
    ratios = [two / one for one, two in pairs]
    row = {
        "case": "two processes at once, against one alone",
        "n": len(pairs),
        "alone_ms": round(median(one for one, _ in pairs), 1),
        "two_at_once_ms": round(median(two for _, two in pairs), 1),
        "ratio": round(median(ratios), 2),
        "lowest": round(min(ratios), 2),
        "highest": round(max(ratios), 2),
    }
    write("replicas", [row], ("numpy",), f"{TOKENS} tokens each, one slot a process, medians over rounds.")


if __name__ == "__main__":
    main()
