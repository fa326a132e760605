"""A quick round of every fuzz target; `make fuzz` runs them for as long as it is told to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from engine.contract.query import matches, parse
from tests.fuzz import targets
from tests.support.rows import task_row

QUICK = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", autouse=True)
def _house() -> Iterator[None]:
    yield
    targets.house().close()
    targets.house.cache_clear()


@pytest.mark.xdist_group("fuzz")
@pytest.mark.parametrize("name", targets.TARGETS)
def test_nothing_but_errors_in_words(name: str) -> None:
    target = targets.TARGETS[name]

    @QUICK
    @given(target.values)
    def each(value: Any) -> None:
        target.check(value)

    each()


def test_a_hostile_pattern_costs_no_more_than_reading_the_text() -> None:
    row = task_row(reason="a" * 200)
    location = parse(f":tasks reason:{'*a' * 40}*b")
    started = time.process_time()
    assert not any(matches(location, row, 0) for _ in range(100))
    assert time.process_time() - started < 1.0
