"""Scores with their intervals, and what they say about the demo's inbox. No torch here."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Z95, Z99_ONE_SIDED = 1.959964, 2.326348
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Score:
    correct: int
    n: int
    wrong: tuple[tuple[str, str, str], ...] = ()  # (prompt, expected, got), the first few

    def card(self) -> dict[str, float | int]:
        """accuracy with the two-sided 95 % Wilson interval and the one-sided lower 99 % bound."""
        low, high = wilson(self.correct, self.n, Z95)
        return {
            "correct": self.correct,
            "n": self.n,
            "accuracy": round(self.correct / self.n, 4),
            "low95": round(low, 4),
            "high95": round(high, 4),
            "low99": round(wilson(self.correct, self.n, Z99_ONE_SIDED)[0], 4),
        }


def wilson(correct: int, n: int, z: float) -> tuple[float, float]:
    """Wilson score interval of a share."""
    share, square = correct / n, z * z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def inbox_bound(skills: Figures, mix: Counter[str], tasks: tuple[int, ...] = (60, 200)) -> Figures:
    """Share of inbox answers to expect, from the skills' held-out figures and the inbox's mix alone; the inbox is never run.

    For each skill the worse of its two figures counts, since the inbox has sentences of its own. `low99` is the one-sided lower
    99 % bound of the expected share; `low99_correct` adds the luck of drawing that many tasks.
    """
    total = sum(mix.values())
    share = variance = 0.0
    for name, count in mix.items():
        figures = [skills[name], skills[name].get("unseen_phrasings", skills[name])]
        worse = min(figures, key=lambda figure: figure["accuracy"])
        share += count / total * worse["accuracy"]
        smoothed = (worse["correct"] + 1) / (worse["n"] + 2)  # else a score of 100 % would claim no uncertainty at all
        variance += (count / total) ** 2 * smoothed * (1 - smoothed) / worse["n"]
    luck = {n: share - Z99_ONE_SIDED * math.sqrt(variance + share * (1 - share) / n) for n in tasks}
    return {
        "messages": total,
        "mix": dict(sorted(mix.items())),
        "expected": round(share, 4),
        "low99": round(share - Z99_ONE_SIDED * math.sqrt(variance), 4),
        "low99_correct": {str(n): math.floor(low * n) for n, low in luck.items()},
    }


def inbox_mix(path: Path) -> Counter[str]:
    return Counter(json.loads(line)["skill"] for line in path.read_text(encoding="utf-8").splitlines())
