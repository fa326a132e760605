"""Sets of adapters as people write them: `base`, `invoice-de@v3`, `invoice-de@v3:0.5`, `a@v1+b@v2:0.5`. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from engine.contract.definitions import AdapterUse
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.comparisons import BASE
from engine.inference.adapters.spelling import spelled

MOST = 16
"""Variants in one comparison at most."""


class Variant(msgspec.Struct, frozen=True):
    label: str
    adapters: tuple[AdapterUse, ...]


def variants(texts: Sequence[str], weights: Sequence[float], field: str) -> list[Variant]:
    """What is to be compared, in order, nothing twice. Raises `bad_request` naming the field."""
    if not all(-100 <= weight <= 100 for weight in weights):
        raise AiwmError(Code.bad_request, "a weight must lie between -100 and 100", field="weights")
    found: dict[tuple[AdapterUse, ...], None] = {}
    for text in texts:
        uses = _read(text, field)
        for weight in weights or (None,):
            scaled = uses if weight is None else tuple(_scaled(use, weight) for use in uses)
            found[scaled] = None
    if not found or len(found) > MOST:
        what = (
            "nothing is named to compare"
            if not found
            else f"{len(found)} variants; at most {MOST} are compared at once"
        )
        raise AiwmError(Code.bad_request, what, field=field, fix=f"{BASE},NAME@vN,NAME:0.5")
    return [Variant(_label(uses), uses) for uses in found]


def _read(text: str, field: str) -> tuple[AdapterUse, ...]:
    if text.strip() == BASE:
        return ()
    uses = []
    for part in text.split("+"):
        name, marked, said = part.strip().partition(":")
        try:
            weight = float(said) if marked else 1.0
        except ValueError:
            weight = math.nan
        if spelled(name) is None or not -100 <= weight <= 100:
            raise AiwmError(
                Code.bad_request,
                f'"{part.strip()[:80]}" is no adapter with a weight between -100 and 100',
                field=field,
                fix=f"{BASE}, NAME@vN, NAME:0.5, or several as A+B:0.5",
            )
        uses.append(AdapterUse(name=name, weight=weight))
    return tuple(uses)


def _scaled(use: AdapterUse, weight: float) -> AdapterUse:
    return msgspec.structs.replace(use, weight=use.weight * weight)


def _label(uses: tuple[AdapterUse, ...]) -> str:
    return " + ".join(use.name if use.weight == 1 else f"{use.name} × {use.weight:g}" for use in uses) or BASE
