"""The rotary embeddings that exllamav2 computes otherwise than the models were trained: YaRN and LongRoPE.

exllamav2's YaRN takes the configured context for the trained one and leaves it out altogether where the context is short, its LongRoPE
forgets the attention factor there; models with either write well-formed nonsense. Formulas: transformers' modeling_rope_utils.py, the
papers' own. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True, slots=True)
class Rotation:
    """`frequencies` of half a head's numbers, in radians a position; sines and cosines are multiplied by `factor`."""

    frequencies: tuple[float, ...]
    factor: float


def rotation(config: Mapping[str, Any], head_size: int, context: int) -> Rotation | None:
    """What a model of this configuration (as `files.normalised` gives it) wants; None where exllamav2 computes it rightly itself."""
    text = {**config, **(config.get("text_config") or {})}
    scaling = text.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    base = float(text.get("rope_theta", 10_000.0))
    size = int(head_size * float(text.get("partial_rotary_factor", 1.0)))
    if kind == "yarn":
        return _yarn(scaling, base, size, int(scaling[_ORIGINAL]))
    if kind in ("longrope", "su"):
        original = int(scaling.get(_ORIGINAL) or text[_ORIGINAL])
        factor = float(scaling.get("factor") or text["max_position_embeddings"] / original)
        return _longrope(scaling, base, size, original, factor, context)
    return None


def _yarn(scaling: Mapping[str, Any], base: float, size: int, original: int) -> Rotation:
    factor = float(scaling["factor"])
    first, last = (
        size * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))
        for turns in (scaling.get("beta_fast") or 32, scaling.get("beta_slow") or 1)
    )
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    width = (last - first) or 0.001
    frequencies = []
    for index in range(size // 2):
        plain = base ** (-2 * index / size)
        stretched = min(
            1.0, max(0.0, (index - first) / width)
        )  # how much of the slow turns is stretched to the longer text
        frequencies.append(plain / factor * stretched + plain * (1 - stretched))
    return Rotation(tuple(frequencies), _yarn_factor(scaling, factor))


def _yarn_factor(scaling: Mapping[str, Any], factor: float) -> float:
    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])

    def of(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    own, whole = scaling.get("mscale"), scaling.get("mscale_all_dim")
    return of(own) / of(whole) if own and whole else of(1.0)


def _longrope(
    scaling: Mapping[str, Any], base: float, size: int, original: int, factor: float, context: int
) -> Rotation:
    """One set of factors for all texts, that of the longest: keys that are kept cannot be turned again when a text grows."""
    stretches = scaling["long_factor"] if context > original else scaling["short_factor"]
    frequencies = tuple(base ** (-2 * index / size) / stretches[index] for index in range(size // 2))
    given = scaling.get("attention_factor")
    if given is not None:
        return Rotation(frequencies, float(given))
    return Rotation(frequencies, math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0)
