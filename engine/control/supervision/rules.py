"""Supervisors that are rules: a rating from what can be measured. Pure and deterministic.

`rules/NAME` is a set of thresholds; `default` ships, and a definition, pool, queue or template may carry its own in its metadata under
`rules`: {"NAME": {"slow_factor": 3, …}}."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.contract.invalid import invalid
from engine.contract.records import RecordRow
from engine.contract.suggest import nearest

PREFIX = "rules/"
DEFAULT = "default"
LEAST_SAMPLES = 5
"""So many earlier durations make a median that says something."""


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What costs how much of a rating that begins at 1. A failed task has rating 0.

    `slow_factor`: slower than this many medians of its definition costs `slow`. Each attempt before the last costs `retry`, an answer
    cut off at its limit `cut_off`. An empty answer, one shorter than `min_chars`, and, if `json` is asked for, one that is not JSON,
    are worth 0."""

    slow_factor: float = 3.0
    slow: float = 0.2
    retry: float = 0.15
    cut_off: float = 0.4
    min_chars: int = 1
    json: bool = False


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor says of a task."""

    rating: float
    comments: str
    corrections: str = ""


def rules_of(name: str, metadata: Iterable[Mapping[str, Any]]) -> Rules:
    """The rules of a name, from the first metadata that has them. Raises `not_found`, or `definition_invalid` for thresholds that are
    none."""
    known: dict[str, Any] = {}
    for one in metadata:
        sets = one.get("rules")
        if isinstance(sets, Mapping):
            known = {**sets, **known}
    if name in known:
        try:
            return msgspec.convert(known[name], Rules)
        except msgspec.ValidationError as error:
            raise invalid(error, Rules, Code.definition_invalid, f"metadata.rules.{name}") from None
    if name == DEFAULT:
        return Rules()
    raise AiwmError(
        Code.not_found,
        f'there are no rules "{name[:40]}"',
        field="supervisor",
        fix=nearest(name, [*known, DEFAULT]) or f"{PREFIX}{DEFAULT}",
    )


def median(values: Sequence[int]) -> float | None:
    """The middle of earlier durations; None while there are too few of them."""
    if len(values) < LEAST_SAMPLES:
        return None
    ordered, half = sorted(values), len(values) // 2
    return float(ordered[half]) if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def judge(rules: Rules, record: RecordRow, output: Any, durations: Sequence[int]) -> Verdict:
    """The rating of a task that ended, and why it is no better. `durations` are those of its definition's earlier successes, in ms."""
    if not record.success:
        return Verdict(rating=0.0, comments=f"{record.state}: {record.error or record.summary}"[:500])
    text = _text(output)
    worthless = _worthless(rules, output, text)
    if worthless:
        return Verdict(rating=0.0, comments=worthless)
    rating, said = 1.0, []
    middle = median(durations)
    if middle and record.duration_ms is not None and record.duration_ms > middle * rules.slow_factor:
        rating -= rules.slow
        said.append(f"{record.duration_ms / middle:.1f} times as slow as the median of {middle / 1000:g} s")
    if record.attempt > 1:
        rating -= rules.retry * (record.attempt - 1)
        said.append(f"took {record.attempt} attempts")
    if record.finish_reason == "length":
        rating -= rules.cut_off
        said.append("the answer is cut off at its limit")
    return Verdict(rating=round(min(1.0, max(0.0, rating)), 3), comments="; ".join(said) or "as it should be")


def _text(output: Any) -> str:
    """What a person would call the answer: a model's text, else everything."""
    if isinstance(output, dict) and isinstance(output.get("text"), str):
        return str(output["text"]).strip()
    if isinstance(output, str):
        return output.strip()
    return "" if output is None or output in ({}, []) else msgspec.json.encode(output).decode()


def _worthless(rules: Rules, output: Any, text: str) -> str:
    if not text:
        return "the answer is empty"
    if len(text) < rules.min_chars:
        return f"the answer has {len(text)} characters, fewer than {rules.min_chars}"
    if rules.json and isinstance(output, (dict, str)) and _text(output) == text:
        try:
            msgspec.json.decode(text)
        except NOT_JSON:
            return "the answer is not JSON"
    return ""
