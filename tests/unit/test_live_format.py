"""Ages, sizes and counts as the console writes them."""

from __future__ import annotations

import pytest

from aiwm_tui.live import format as form

S, M, H, D = 1000, 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (9 * S, "9s"),
        (6 * M + 41 * S, "6m41s"),
        (41 * M + 59 * S, "41m"),
        (H + 52 * M, "1h52m"),
        (3 * D + 4 * H, "3d04h"),
        (214 * D, "214d"),
        (-5, "0s"),
        (None, "–"),
    ],
)
def test_ages_take_at_most_five_cells(ms: int | None, text: str) -> None:
    assert form.age(ms) == text
    assert len(text) <= 5


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (900, "900B"),
        (148 * 1024, "148k"),
        (5 << 20, "5.0M"),
        (90 << 20, "90M"),
        (18_038_862_643, "16.8G"),
        (None, "–"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert form.size(count) == text


@pytest.mark.parametrize("count", [0, 7, 977, 7_204, 40_112, 99_949, 402_000, 1_912_004, 999_949_999, 5 * 10**9])
def test_short_numbers_take_at_most_five_cells(count: int) -> None:
    assert len(form.short(count)) <= 5


def test_short_numbers_and_rates() -> None:
    assert [form.short(n) for n in (977, 7_204, 402_000, 1_912_004)] == ["977", "7.2k", "402k", "1.9M"]
    assert [form.rate(x) for x in (0.0, 22.14, 560.0)] == ["0.0", "22.1", "560"]
    assert form.plural(1, "task") == "1 task"
    assert form.plural(1284, "task") == "1,284 tasks"
    assert form.span(410) == "410ms"
    assert form.span(1234) == "1.2s"
