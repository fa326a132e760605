"""A view as a file: no formula, no control character, every field; and never over a file that is there."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiwm_tui.exporting import file_named, write_new
from aiwm_tui.live.exported import CsvWriter, JsonWriter, harmless, text_of
from aiwm_tui.screens.chosen import chosen_columns, every_column, name_of
from aiwm_tui.screens.spec import table_screen
from engine.contract.errors import AiwmError
from engine.contract.query import parse
from tests.support.console_engine import NOW
from tests.support.console_machine import task

HOSTILE = '=HYPERLINK("http://x")\x1b[2J\x00,"quoted"\r\nsecond [bold]line'


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "  =", "\uff1d", "\uff20"])
def test_no_text_begins_like_a_formula(start: str) -> None:
    assert not str(harmless(f"{start}1+1")).lstrip(" ").startswith(("=", "+", "-", "@", "\uff1d", "\uff20"))
    assert harmless(-5) == -5, "numbers are numbers"


@given(st.text())
def test_any_text_comes_back_from_csv_without_controls(text: str) -> None:
    writer = CsvWriter("tasks", chosen_columns(table_screen("tasks"), ["id", "reason"]))
    written = writer.rows([task(1, reason=text, state="failed")], NOW)
    (row,) = csv.reader(io.StringIO(written, newline=""))
    assert len(row) == 2
    assert all(character.isprintable() or character == "\n" or ord(character) >= 0xA0 for character in row[1])
    assert not row[1].lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_csv_holds_what_the_shown_columns_are_of() -> None:
    screen = table_screen("tasks")
    writer = CsvWriter("tasks", chosen_columns(screen, ["state", "id", "age", "tokens_in", "cost_usd", "reason"]))
    row = task(1, reason=HOSTILE, state="failed", tokens_in=12, submitted_ms=NOW)
    lines = list(csv.reader(io.StringIO(writer.head() + writer.rows([row], NOW), newline="")))
    assert lines[0] == ["state", "id", "submitted", "tokens_in", "cost_usd", "reason"]
    assert lines[1][:2] == ["failed", row.id]
    assert lines[1][2].endswith(":41.000")
    assert lines[1][3:5] == ["12", ""]
    assert lines[1][5].startswith("'=HYPERLINK")
    assert "\x1b" not in lines[1][5]


def test_json_is_the_contracts_and_parses_at_any_number_of_pages() -> None:
    location = parse(":tasks state:failed")
    rows = [task(number, reason=HOSTILE) for number in range(1, 6)]
    writer = JsonWriter(location)
    text = writer.head() + writer.rows(rows[:2]) + writer.rows([]) + writer.rows(rows[2:]) + writer.tail(5, exact=False)
    read = json.loads(text)
    assert {key: read[key] for key in ("v", "kind", "location", "total", "total_exact")} == {
        "v": 1,
        "kind": "tasks",
        "location": ":tasks state:failed",
        "total": 5,
        "total_exact": False,
    }
    assert [each["reason"] for each in read["data"]] == [HOSTILE] * 5
    empty = JsonWriter(location)
    assert json.loads(empty.head() + empty.rows([]) + empty.tail(0, exact=True))["data"] == []


def test_text_is_whole_and_harmless() -> None:
    screen = table_screen("tasks")
    text = text_of(parse(":tasks"), screen.columns, [task(1, reason="x" * 300 + "\x1b[31m", state="failed")], NOW)
    assert "x" * 300 in text
    assert "\x1b" not in text
    assert text.count("\n") == 3


@pytest.mark.parametrize("table", ["tasks", "queues", "models", "events", "records", "adapters"])
def test_every_field_of_a_row_can_be_a_column(table: str) -> None:
    columns = every_column(table_screen(table))
    names = [name_of(column) for column in columns]
    assert len(set(names)) == len(names)
    assert len({column.title for column in columns}) == len(columns), "titles tell columns apart"
    chosen = chosen_columns(table_screen(table), [names[-1], "no such column", names[0]])
    assert [name_of(column) for column in chosen] == [names[-1], names[0]]
    assert chosen_columns(table_screen(table), ["no such column"]) == table_screen(table).columns


async def _pieces(*texts: str, then: Exception | None = None) -> AsyncIterator[str]:
    for text in texts:
        yield text
    if then is not None:
        raise then


async def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    await write_new(path, _pieces("one", "two"))
    assert path.read_text() == "onetwo"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(AiwmError) as refused:
        await write_new(path, _pieces("three"))
    assert refused.value.info.code == "conflict"
    assert refused.value.info.fix == "a-2"
    assert path.read_text() == "onetwo"
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "nowhere.csv")
    with pytest.raises(AiwmError):
        await write_new(link, _pieces("three"))


async def test_a_file_that_could_not_be_finished_is_gone(tmp_path: Path) -> None:
    with pytest.raises(AiwmError, match="gone"):
        await write_new(tmp_path / "a.csv", _pieces("one", then=AiwmError("connection_lost", "gone")))
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 (the test waits for nothing else)
    with pytest.raises(AiwmError, match="cannot be written"):
        await write_new(tmp_path / "no" / "a.csv", _pieces("one"))


def test_a_name_gets_the_ending_of_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert file_named("a", "csv") == tmp_path / "a.csv"
    assert file_named("a.CSV", "csv") == tmp_path / "a.CSV"
    assert file_named("v1.2", "text") == tmp_path / "v1.2.txt"
    assert file_named("~/x", "svg") == Path.home() / "x.svg"
