"""Tables of the command line on terminals of every width: what is cut, what is left out, what never is."""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec
import pytest
from rich.cells import cell_len

from aiwm_tui.cli.answers import why_text
from aiwm_tui.cli.columns import COLUMNS, Column, columns_of
from aiwm_tui.cli.model_running import plan_text
from aiwm_tui.cli.output import Format, Output, terminal_width
from aiwm_tui.cli.tables import print_table
from engine.contract.records import TABLES
from engine.contract.requests import memory
from engine.contract.why import Gate, Why

ALL = sorted({*COLUMNS, *TABLES})
WIDTHS = (40, 80, 120)
ID = "t-1000000000000001"
NUMBER = "123,456"
STATE = "completed"
TEXTS = {"long": "because of this and that " * 12, "wide": "漢字かな交じり文" * 30, "short": "etl"}


def _filled(table: str, text: str) -> list[Column]:
    """The table's columns, each cell as long as its kind gets."""

    def cell_of(column: Column) -> str:
        if column.whole:
            return STATE if column.priority else ID
        return NUMBER if column.right else text

    def always(cell: str) -> Callable[[object], str]:
        return lambda _: cell

    return [column._replace(cell=always(cell_of(column))) for column in columns_of(table)]


def _printed(columns: list[Column], width: int | None, *, styled: bool = False) -> tuple[list[str], list[str]]:
    lines: list[str] = []
    return lines, print_table(columns, [{}, {}], lines.append, width=width, styled=styled)


@pytest.mark.parametrize("table", ALL)
def test_every_column_has_a_rank_of_its_own(table: str) -> None:
    columns = columns_of(table)
    assert len({column.title for column in columns}) == len(columns)
    assert len({column.priority for column in columns}) == len(columns)
    assert min(column.priority for column in columns) == 0


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("table", ALL)
def test_a_table_fits_its_terminal(table: str, width: int, text: str) -> None:
    columns = _filled(table, TEXTS[text])
    lines, hidden = _printed(columns, width)
    assert len(lines) == 3 or any(column.below for column in columns)
    assert max(cell_len(line) for line in lines) <= width
    for column in columns:
        if column.priority == 0:
            assert column.title not in hidden
        if column.title not in hidden and (column.right or column.whole):
            assert column.cell({}) in lines[1], column.title
    numbers = [column for column in columns if column.right and column.priority and column.title not in hidden]
    assert lines[1].count(NUMBER) == len(numbers)
    if width >= 80:
        assert not {column.title for column in columns if column.priority == 1} & set(hidden)


@pytest.mark.parametrize("table", ALL)
def test_what_is_left_out_matters_less_than_what_is_shown(table: str) -> None:
    columns = _filled(table, TEXTS["long"])
    for width in range(24, 200, 8):
        hidden = set(_printed(columns, width)[1])
        gone = [column.priority for column in columns if column.title in hidden]
        kept = [column.priority for column in columns if column.title not in hidden]
        assert max(kept) < min(gone, default=99)


@pytest.mark.parametrize("table", ALL)
def test_without_a_terminal_all_of_it_is_there(table: str) -> None:
    columns = _filled(table, TEXTS["long"])
    lines, hidden = _printed(columns, None)
    assert hidden == []
    assert lines[0].split() == " ".join(column.title for column in columns).split()
    assert all(column.cell({}).strip() in lines[1] for column in columns)
    assert "…" not in lines[1]


def test_columns_that_say_nothing_go_before_ones_that_do() -> None:
    columns = [
        Column("ID", lambda _: ID, whole=True),
        Column("WAIT", lambda _: "–", True, priority=3),
        Column("DONE", lambda _: NUMBER, True, priority=4),
        Column("NOTE", lambda _: "loaded", priority=2),
    ]
    assert _printed(columns, 36)[1] == ["WAIT"]
    assert _printed(columns, 42)[1] == []


def test_room_that_is_left_goes_to_the_texts_that_are_cut() -> None:
    columns = [
        Column("ID", lambda _: "a", whole=True),
        Column("QUEUE", lambda _: "q" * 14, priority=3),
        Column("NOTE", lambda _: "n" * 90, priority=2),
    ]
    lines, _ = _printed(columns, 80)
    assert "q" * 14 in lines[1]
    assert cell_len(lines[1]) == 80
    assert lines[1].endswith("n…")


def test_a_name_longer_than_the_terminal_is_all_that_is_shown_and_cut() -> None:
    columns = [Column("ID", lambda _: "x" * 60, whole=True), Column("NOTE", lambda _: "note", priority=2)]
    lines, hidden = _printed(columns, 40)
    assert lines[1] == "x" * 39 + "…"
    assert hidden == ["NOTE"]


def test_what_somebody_has_to_read_goes_on_below_itself() -> None:
    finding = {"what": "GPU", "state": "warn", "seen": "no GPU " * 20, "fix": "install the driver " * 20}
    lines: list[str] = []
    hidden = print_table(columns_of("findings"), [finding], lines.append, width=80, styled=False)
    assert hidden == []
    assert max(map(len, lines)) <= 80
    assert " ".join(lines).count("driver") == 20
    assert " ".join(lines).count("no GPU") == 20
    assert sum(line.startswith("GPU") for line in lines) == 1


def test_colour_takes_no_room() -> None:
    columns = [Column("ID", lambda _: ID, whole=True), *columns_of("tasks")[1:]]
    lines: list[str] = []
    print_table(columns, [{"state": "failed", "reason": "r" * 99}], lines.append, width=80, styled=True)
    bare = lines[1].replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert bare != lines[1]
    assert cell_len(bare) == 80


# -- the terminal ------------------------------------------------------------------------------------------------------------


def _on_terminal(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """stdout, as it is now, is a terminal."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")


ROW = {"id": "m.0", "state": "ready", "backend": "reference", "where": "CPU", "running": 1, "waiting": 2, "slots": 4,
       "tokens_per_s": 9.5, "weights_bytes": 2**30, "kv_bytes": 2**20, "rss_bytes": 2**31, "estimate_bytes": 2**31,
       "restarts": 3, "pid": 4711, "idle_ms": 600_000, "note": "the note of this model is long " * 4}  # fmt: skip


def test_stderr_says_on_one_line_what_is_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _on_terminal(monkeypatch, "80")
    Output(Format.people).many("model", "models", [ROW], 1)
    said = capsys.readouterr()
    assert all(cell_len(line) <= 80 for line in said.out.splitlines())
    (line,) = said.err.splitlines()
    assert "columns hidden" in line
    assert "less -S" in line
    assert "BACKEND" in line
    assert cell_len(line) <= 80
    _on_terminal(monkeypatch, "400")
    Output(Format.people).many("model", "models", [ROW], 1)
    assert capsys.readouterr().err == ""


def test_data_stays_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _on_terminal(monkeypatch, "80")
    Output(Format.json).many("model", "models", [ROW], 1)
    said = capsys.readouterr()
    assert str(ROW["note"]) in said.out
    assert said.err == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    Output(Format.people).many("model", "models", [ROW], 1)
    said = capsys.readouterr()
    assert str(ROW["note"]).strip() in said.out
    assert "4711" in said.out
    assert said.err == ""


@pytest.mark.parametrize("told", ["0", "", "wide", "-3"])
def test_columns_that_are_no_width_are_not_believed(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    _on_terminal(monkeypatch, told)
    assert (terminal_width() or 0) >= 1
    _on_terminal(monkeypatch, "63")
    assert terminal_width() == 63


# -- why ---------------------------------------------------------------------------------------------------------------------

LONG = Why(
    scope="queue",
    about="etl",
    moving=False,
    summary="1,204 tasks wait " * 8,
    gates=(Gate(name="paused", closed=True, why="somebody paused it for a reason " * 6, fix="aiwm queue resume etl"),),
    notes=("漢字かな交じり文" * 12,),
)


@pytest.mark.parametrize("width", WIDTHS)
def test_long_reasons_go_on_below_themselves(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    _on_terminal(monkeypatch, str(width))
    lines = why_text(LONG).splitlines()
    assert max(cell_len(line) for line in lines) <= width
    gate = next(index for index, line in enumerate(lines) if line.startswith("  closed  paused  somebody"))
    below = lines[gate + 1]
    indent = len(below) - len(below.lstrip())
    assert indent == min(len("  closed  paused  "), width // 3)
    assert " ".join(" ".join(line.split()) for line in lines[gate:]).count("reason") == 6


def test_without_a_terminal_a_reason_is_one_line() -> None:
    assert len(why_text(LONG).splitlines()) == 3


# -- plan --------------------------------------------------------------------------------------------------------------------

HIT = ("llama8.0 is unloaded after 3 tasks of queue 翻訳", "2 chats wait until it is back")
WAY = memory.PlanWay(
    number=1, text="unload llama8.0, then load it on CUDA0 with a context of 8k", device="CUDA0", frees=2**33,
    spare=2**30, fits=True, runnable=True, hit=HIT, load_ms=3_000,
)  # fmt: skip
PLAN = memory.MemoryPlan(
    id="p-1", model="second", backend="exllamav2", context=8192, slots=4, measured=0, fits=False,
    estimate=memory.EstimateParts(weights=1, kv=1, adapters=1, scratch=1, process=1, total=5),
    spaces=(memory.PlanSpace(id="CUDA0", name="a card", total=2**34, free=2**20, others=("1G pid 1 " + "x" * 90,)),),
    ways=(WAY, msgspec.structs.replace(WAY, number=2)), note="every way takes something from somebody " * 4,
)  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_a_plan_fits_and_says_all_of_it(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    whole = plan_text(PLAN)
    assert len(next(line for line in whole.splitlines() if line.startswith("1 "))) > 120
    _on_terminal(monkeypatch, str(width))
    lines = plan_text(PLAN).splitlines()
    assert max(cell_len(line) for line in lines) <= width
    text = " ".join(" ".join(lines).split())
    for said in (PLAN.note, WAY.text, *HIT):
        assert text.count(said.strip()) == (1 if said == PLAN.note else 2)


def test_the_cells_of_a_plan_stand_below_their_heads() -> None:
    head, first, _ = plan_text(PLAN).splitlines()[-3:]
    at = cell_len(head[: head.index("LEAVES")])
    assert cell_len(first[: first.index("1.0G on CUDA0")]) == at
