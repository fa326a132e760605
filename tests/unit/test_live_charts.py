"""Charts as block characters: values over time, areas, numbers, marks and times; steps of a pool with their effect; forecasts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from aiwm_tui.live import charts
from aiwm_tui.live import format as form
from aiwm_tui.live.text import line_width, plain
from aiwm_tui.screens.models.memory import no_gpu
from aiwm_tui.screens.plots import folded, heading, step_lines, step_marks, whole
from aiwm_tui.screens.pools.plots import what_if
from aiwm_tui.screens.queues.plots import forecast
from engine.contract.records import DeviceRow
from engine.contract.records.definitions import ScaleStep
from tests.support.rows import model_row, pool_row, queue_row

NOW = 1_795_144_061_000


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(os.environ, "TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_gap_holds_what_was_before_it_or_says_nothing() -> None:
    points = [(50, 3.0), (100, 4.0), (120, 9.0), (190, 1.0)]
    assert charts.over_time(points, 100, 200, 10) == [4.0, 4.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 1.0]
    assert charts.over_time(points, 100, 200, 10, held=False)[1] is None
    assert charts.over_time(points, 60, 100, 4) == [3.0, 3.0, 3.0, 4.0]
    assert charts.over_time([(150, 2.0)], 100, 200, 2) == [None, 2.0]
    # The last point of a cell goes on, not its largest.
    assert charts.over_time([(100, 8.0), (101, 2.0)], 100, 200, 2) == [8.0, 2.0]
    assert charts.over_time([(100, 8.0), (101, 2.0)], 100, 200, 1, peak=False) == [5.0]
    assert charts.over_time([], 0, 10, 3) == [None, None, None]


def test_a_counter_that_fell_began_anew() -> None:
    points = [(0, 10.0), (60_000, 16.0), (120_000, 2.0)]
    assert charts.per_minute(points, 10_000) == [(60_000, 6.0), (120_000, 2.0)]
    assert charts.per_minute(points[:1], 10_000) == []
    assert charts.per_minute([], 10_000) == []


def test_what_a_counter_grew_by_counts_for_a_minute() -> None:
    seconds = [(second * 1_000, 3.0 if second >= 5 else 1.0) for second in range(80)]
    grown = dict(charts.per_minute(seconds, 1_000))
    assert (grown[4_000], grown[5_000], grown[64_000], grown[66_000]) == (0.0, 2.0, 2.0, 0.0)
    # Steps longer than a minute are shared among its minutes; a rest before a point changes nothing.
    assert charts.per_minute([(0, 0.0), (300_000, 10.0)], 300_000) == [(300_000, 2.0)]
    assert charts.per_minute([(0, 0.0), (1_000, 0.0), (7_200_000, 4.0)], 1_000)[-1] == (7_200_000, 4.0)


def test_an_area_fills_from_below_and_shows_whatever_is_there() -> None:
    lines = charts.area([0.0, 0.01, 4.0, 8.0, None], 2, 8.0, whole, now="8")
    assert [plain(line) for line in lines] == ["      8 ┤   █  8", "      4 ┤ ▁██ "]
    flat = charts.area([0.0, 0.0], 2, 0.0, whole)
    assert [plain(line) for line in flat] == ["      0 ┤  ", "        ┤  "]


def test_rows_of_numbers_are_means_of_equal_parts() -> None:
    line = charts.numbers("in/m", [1.0, 3.0, None, None, 10.0, 10.0], 15, form.rate)
    assert plain(line) == "   in/m ┤2.0  ·    10.0"
    assert plain(charts.numbers("in/m", [], 15, form.rate)) == "   in/m ┤·    ·    ·"
    assert plain(charts.spark("wait", [0.0, None, 4.0, 8.0], "8")) == "   wait ┤▁ ▄█ 8"


@pytest.mark.parametrize("cells", [8, 40, 100])
@pytest.mark.parametrize("zoom", charts.ZOOMS)
def test_the_times_stay_below_the_plot(zoom: charts.Zoom, cells: int) -> None:
    line = charts.axis(NOW - zoom.span_ms, NOW, cells)
    assert line_width(line) <= charts.LABEL + cells
    said = plain(line).split()
    assert said[0] == ("13" if zoom.name == "7d" else {"10m": "02:57", "1h": "02:07", "24h": "03:07"}[zoom.name])
    if cells == 100:
        assert len(said) >= 4


def test_zooming_comes_round() -> None:
    zoom = charts.HOUR
    seen = []
    for _ in charts.ZOOMS:
        zoom = charts.zoomed(zoom)
        seen.append(zoom.name)
    assert seen == ["24h", "7d", "10m", "1h"]
    marked = [text.strip() for text, style in heading("what waits", charts.HOUR) if style == "mark"]
    assert marked == ["1h"]


def _step(number: int, at_ms: int, change: int = 1, **more: Any) -> ScaleStep:
    fields: dict[str, Any] = {
        "id": f"demo/{number}",
        "at_ms": at_ms,
        "pool": "demo",
        "change": change,
        "instance": "i-1",
        "reason": "tasks wait",
        "total": number,
        "idle": 0,
        "busy": number,
        "waiting": 4,
        "out_before": 12.0,
    }
    return ScaleStep(**(fields | more))


def test_steps_of_one_moment_are_told_as_one_with_the_effect_of_the_last() -> None:
    steps = [
        _step(5, NOW - 20_000, -1, total=4),
        _step(5, NOW - 130_000, out_after=18.0),
        _step(4, NOW - 130_500),
        _step(3, NOW - 130_900),
        _step(2, NOW - 400_000, out_after=12.4),
        _step(1, NOW - 500_000, 0, total=1),
    ]
    told = [(it.before, it.last.total, it.count, it.effect[0]) for it in folded(steps, NOW)]
    assert told == [
        (5, 4, 1, "in a minute"),
        (2, 5, 3, "out/m 12.0 → 18.0"),
        (1, 2, 1, "none"),
        (1, 1, 1, "failed"),
    ]
    lines = [plain(line) for line in step_lines(steps, NOW)]
    assert len(lines) == 5
    assert "2 → 5" in lines[2]
    assert lines[2].endswith("tasks wait  4 tasks waited")
    assert [mark for _, mark, _ in step_marks(steps)] == ["✗", "▲", "▲", "▲", "▲", "▼"]
    assert step_lines([], NOW) == []


def test_a_step_up_that_helped_nobody_stands_out() -> None:
    effects = {it.last.id: it.effect for it in folded([_step(2, NOW - 90_000, out_after=12.0)], NOW)}
    assert effects == {"demo/2": ("none", "wrong")}
    idle = folded([_step(2, NOW - 90_000, -1, out_after=12.0)], NOW)
    assert idle[0].effect == ("none", "dim")
    unknown = folded([_step(2, NOW - 90_000, out_before=None, out_after=3.0), _step(1, NOW - 999_000)], NOW)
    assert [it.effect[0] for it in unknown] == ["out/m 3.0", "–"]


def test_what_another_limit_would_do() -> None:
    row = pool_row("demo", busy=4, idle=0, max_total=4, waiting=100, model="nano")
    lines = [plain(line) for line in what_if(row, 20.0, 22.0, [model_row(slots=6)], NOW)]
    assert [line.split()[0] for line in lines[2:]] == ["4", "6", "8"]
    assert "never" in lines[2]
    assert lines[2].endswith("(now)")
    assert "out/m 30.0 against in/m 22.0" in lines[3]
    assert form.moment(NOW + 100 * 60_000 // 8, NOW) in lines[3]
    assert "out/m 30.0" in lines[4], "no faster than its model has slots"
    assert "nano has 6 slots" in lines[4]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"waiting": 0}, "Nothing waits."),
        ({"waiting": 4, "in_per_min": 0.0, "out_per_min": 0.0}, "it stays as it is"),
        ({"waiting": 60, "in_per_min": 10.0, "out_per_min": 70.0, "empty_ms": 60_000.0}, "empty 03:08:41, in 1m00s"),
        ({"waiting": 60, "in_per_min": 22.0, "out_per_min": 18.0}, "never empty; 300 waiting at 04:07:41"),
    ],
)
def test_the_forecast_of_a_queue(fields: dict[str, Any], said: str) -> None:
    assert said in plain(forecast(queue_row(**fields), NOW))


def test_a_machine_without_a_gpu_says_so_and_why() -> None:
    host = DeviceRow(
        id="CPU", name="host memory", total_bytes=100, free_bytes=50, note="models may take 50; no GPU: no driver"
    )
    assert plain(no_gpu([host])) == " ○ no GPU: no driver   models run on the CPU; aiwm doctor"
    assert plain(no_gpu([msgspec.structs.replace(host, note="")])).startswith(" ○ no GPU ")
