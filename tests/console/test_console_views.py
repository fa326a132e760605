"""The table as its operator wants it: columns, saved views, export, copying, completion, ranges, details, sizes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from aiwm_tui import saved
from engine.contract.requests.session import ViewRead
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.console_machine import task
from tests.support.made_rows import made_row
from tests.support.screens import hides, line_of, press, shows, text_of, wait_until


async def test_columns_are_chosen_ordered_and_kept(console: Any) -> None:
    app = console(location=":tasks state:failed")
    async with app.run_test(size=(120, 40)):
        await shows(app, "t-10009", "worker")
        await press(app, "o")
        await shows(app, "COLUMNS OF :tasks", "› [x] state", "[ ] tenant")
        # The id first, without the worker, with the one who submitted it.
        await press(app, "down", "left", "down", "down", "down", "space")
        for _ in range(9):
            await press(app, "down")
        await press(app, "space")
        await shows(app, "› [x] by")
        await press(app, "enter")
        await shows(app, "o 11 columns of :tasks; kept for the next time")
        heading = line_of(app, 2).split()
        assert heading[:3] == ["id", "state", "queue"]
        assert "by" in heading
        assert "worker" not in heading
    again = console(location=":tasks")
    async with again.run_test(size=(120, 40)):
        await shows(again, "t-10009", " by ")
        assert line_of(again, 2).split()[:2] == ["id", "state"]
        await press(again, "o", "r", "enter")
        await shows(again, ":tasks as it comes", "worker")
    assert saved.load().columns == {}


async def test_a_table_keeps_one_column_and_esc_changes_nothing(console: Any) -> None:
    saved.choose_columns("queues", ["id"])
    app = console(location=":queues")
    async with app.run_test(size=(80, 24)):
        await shows(app, "summaries")
        assert line_of(app, 2).split() == ["name1▲"]
        await press(app, "o", "space", "enter")
        await shows(app, "a table shows one column at least")
        await press(app, "escape")
        await hides(app, "COLUMNS OF")
        assert line_of(app, 2).split() == ["name1▲"]


async def test_views_are_saved_listed_found_and_forgotten(console: Any) -> None:
    app = console(location=":tasks state:failed sort:id")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10008")
        await press(app, *":save night", "enter")
        await shows(app, ":night is :tasks state:failed sort:id from now on")
        await press(app, "3")
        await shows(app, "first gate")
        await press(app, *":nig", "tab")
        await shows(app, " :night")
        await press(app, *" queue:demo", "enter")
        await shows(app, ":tasks state:failed queue:demo sort:id", "t-10008")
        await press(app, *":views", "enter")
        await shows(app, "SAVED VIEWS", "night", ":tasks state:failed sort:id")
        await press(app, "enter")
        await hides(app, "SAVED VIEWS", "queue:demo")
        await press(app, *":views", "enter")
        await shows(app, "SAVED VIEWS")
        await press(app, "X")
        await shows(app, ":night is forgotten; it was :tasks state:failed sort:id", "none yet")
        await press(app, "escape")
        await hides(app, "SAVED VIEWS")
        await press(app, *":night", "enter")
        await shows(app, 'there is no table "night"')


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (":save", "save needs a name"),
        (":save tasks", ":tasks is a screen already"),
        (":save Ü", "is no name for a view"),
    ],
)
async def test_a_name_that_cannot_be_is_refused_while_it_is_typed(console: Any, typed: str, said: str) -> None:
    app = console(location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "summaries")
        await press(app, *typed, "enter")
        await shows(app, said)
        assert saved.load().views == {}


async def test_a_damaged_file_is_said_at_the_start_and_stays(console: Any) -> None:
    path = saved.saved_path()
    path.write_text('[views]\nnight = ":tasks\n')
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001", "views.toml is not TOML", "line 2")
        await press(app, *":save day", "enter")
        await shows(app, "✗ views.toml is not TOML")
    assert path.read_text() == '[views]\nnight = ":tasks\n'


# Export


def _files(folder: Path) -> list[Path]:
    """What was written there; the configuration beside it is not there in these tests."""
    return sorted(folder.iterdir())


async def test_everything_that_matches_is_exported(
    engine: ConsoleEngine, console: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aiwm_tui.exporting.PAGE", 50)
    engine.put("tasks", *(task(number, state="failed", reason="=cmd|' /C calc'!A0") for number in range(100, 300)))
    app = console(location=":tasks state:failed")
    async with app.run_test(size=(120, 36)):
        await shows(app, "202 match")
        await press(app, "ctrl+s")
        await shows(app, "EXPORT :tasks state:failed", "(•) csv", "tasks-20261120-030741")
        await press(app, "ctrl+a", "ctrl+k", *"mine", "enter")
        await shows(app, "ctrl+s 202 rows in mine.csv")
        rows = list(csv.DictReader((tmp_path / "mine.csv").open(encoding="utf-8-sig", newline="")))
        assert len(rows) == 202
        assert {row["state"] for row in rows} == {"failed"}
        assert sum(row["reason"].startswith("'=cmd") for row in rows) == 200
        await press(app, "ctrl+s", "ctrl+a", "ctrl+k", *"mine", "enter")
        await shows(app, "mine.csv exists; nothing is overwritten", "mine-2")
        await press(app, "shift+tab", "right", "enter")
        await shows(app, "mine.json")
    read = json.loads((tmp_path / "mine.json").read_text("utf-8"))
    assert read["total"] == len(read["data"]) == 202
    assert read["data"][0]["reason"].startswith("=cmd"), "json is what the contract says"


async def test_what_is_cut_is_said(
    engine: ConsoleEngine, console: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aiwm_tui.exporting.MOST_ROWS", 10)
    app = console(location=":tasks")
    async with app.run_test(size=(140, 36)):
        await shows(app, "13 rows")
        await press(app, "ctrl+s", "shift+tab", "right", "right", "enter")
        await shows(app, "ctrl+s cut: 13 match, 10 are written at most; 10 rows in ")
    (path,) = _files(tmp_path)
    assert len(path.read_text().splitlines()) == 12


async def test_a_screen_without_a_table_is_exported_as_it_is(
    console: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = console(read_only=True)
    async with app.run_test(size=(120, 36)):
        await shows(app, "NEEDS YOU", "2 tasks failed")
        await press(app, "ctrl+s")
        await shows(app, "EXPORT :overview", "(•) text")
        await press(app, "shift+tab", "right", "enter")
        await shows(app, "ctrl+s the screen in ")
    (path,) = _files(tmp_path)
    picture = path.read_text("utf-8")
    assert "NEEDS" in picture
    assert "EXPORT" not in picture, "the screen, not the dialog over it"
    assert "font-face" not in picture, "nothing is fetched when it is looked at"
    assert "cdn" not in picture


async def test_an_export_that_the_engine_breaks_off_leaves_nothing(
    engine: ConsoleEngine, console: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.contract.errors import AiwmError, Code

    monkeypatch.chdir(tmp_path)
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        engine.refuse[ViewRead] = AiwmError(Code.too_many_rows, "too many to sort")
        await press(app, "ctrl+s", "enter")
        await shows(app, "too many to sort")
    assert not _files(tmp_path)


# Copying


async def test_y_copies_the_id_then_the_cell_the_row_the_location(
    console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = console(location=":tasks state:failed sort:id")
    copied: list[str] = []
    monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10008")
        await press(app, "right", "right", "y")
        await shows(app, "y copied the id: t-10008   y again: queue")
        await press(app, "y", "y", "y")
        await shows(app, "y copied the location: :tasks state:failed sort:id   y again: the id")
        await press(app, "down", "y")
        await shows(app, "y copied the id: t-10009")
    assert copied[0] == "t-10008"
    assert copied[1] == "demo"
    assert copied[2].split("\t")[1:3] == ["t-10008", "demo"]
    assert copied[3:] == [":tasks state:failed sort:id", "t-10009"]


async def test_what_is_copied_can_be_pasted(
    engine: ConsoleEngine, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.put("models", made_row("models", 1, id="evil\nrm -rf ~\x1b[201~\u202e"))
    app = console(location=":models id:evil*")
    copied: list[str] = []
    monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
    async with app.run_test(size=(120, 36)):
        await shows(app, "evil rm -rf")
        await press(app, "y", "y", "y", "y")
        await wait_until(lambda: len(copied) == 4)
    assert all(text.replace("\t", "").isprintable() for text in copied)
    assert copied[0] == "evil rm -rf ~␛[201~"


async def test_inside_tmux_it_is_tmux_that_copies(
    console: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tmux"
    program.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/asked\ncat > {tmp_path}/text\n')
    program.chmod(0o755)
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    app = console(location=":tasks state:failed sort:id")
    by_terminal: list[str] = []
    monkeypatch.setattr(app, "copy_to_clipboard", by_terminal.append)
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10008")
        await press(app, "y")
        await shows(app, "y copied the id: t-10008")
        assert (tmp_path / "text").read_text() == "t-10008"
        assert (tmp_path / "asked").read_text() == "load-buffer -w -\n"
        assert not by_terminal
        # A tmux that does not know how: the terminal is asked as everywhere else.
        program.write_text("#!/bin/sh\nexit 1\n")
        await press(app, "down", "y")
        await shows(app, "y copied the id: t-10009")
        assert by_terminal == ["t-10009"]


# Filters


async def test_live_values_are_suggested_and_tab_takes_them(engine: ConsoleEngine, console: Any) -> None:
    engine.put("tasks", task(60, tenant="acme corp", by="scanner"))
    app = console(location=":overview")
    async with app.run_test(size=(120, 36)):
        await shows(app, "2 tasks failed")
        await press(app, *":tasks queue:")
        await shows(app, "queue:demo", "queue:summaries")
        await press(app, "s", "tab", "enter")
        await shows(app, ":tasks queue:summaries")
        # Tab before the values are there: it is done when they come.
        await press(app, "slash", *" !tenant:", "tab")
        await shows(app, ' queue:summaries !tenant:"acme corp"')
        await press(app, "ctrl+a", "ctrl+k", *"queue:summaries by:", "tab", "tab")
        await shows(app, " queue:summaries by:scanner")
        await press(app, "shift+tab", "enter")
        await shows(app, ":tasks queue:summaries by:ana")


async def test_a_state_is_suggested_by_its_word_alone(console: Any) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        await press(app, "slash", *"proc", "tab", "enter")
        await shows(app, ":tasks state:processing", "2 match")


async def test_what_is_wrong_before_the_cursor_is_pointed_at_while_one_types_on(console: Any) -> None:
    app = console(location=":tasks")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        await press(app, "slash", *"stat:failed que")
        await shows(app, '"stat" is not a field of tasks')
        carets = next(line for line in text_of(app).split("\n") if "^^^" in line)
        typed = next(line for line in text_of(app).split("\n") if "stat:failed que" in line)
        assert carets.index("^") == typed.index("stat:failed")
        assert carets.count("^") == len("stat:failed")


async def test_x_leaves_out_this_cells_value(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks sort:id")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10001")
        await press(app, "x")
        await shows(app, ":tasks !state:processing sort:id", "11 match of 13")
        await wait_until(lambda: app.page.row is not None and app.page.row.state == "retrying")
        await press(app, "x")
        await shows(app, ":tasks !state:processing,retrying sort:id", "10 match of 13")
        await press(app, "escape", "escape")
        await shows(app, ":tasks sort:id", "13 rows")


# Marks


async def test_a_range_is_marked_from_the_last_mark_to_the_cursor(engine: ConsoleEngine, console: Any) -> None:
    engine.put("tasks", *(task(number, submitted_ms=NOW - number) for number in range(100, 900)))
    app = console(location=":tasks")
    async with app.run_test(size=(120, 24)):
        await shows(app, "813 rows")
        await press(app, "down", "space", "down", "down", "m")
        await shows(app, "4 marked")
        assert len(app.page.marked()["ids"]) == 4
        await press(app, "G")
        await wait_until(lambda: app.page.row is not None and app.page.live_table.index == 812, "the last row")
        await press(app, "m")
        await shows(app, "812 marked")
        assert app.page.live_table.index == 812, "the cursor stays where it is"
        await press(app, "escape")
        await hides(app, "marked")


async def test_all_but_one_can_be_marked(console: Any) -> None:
    app = console(location=":tasks state:failed sort:id")
    async with app.run_test(size=(120, 36)):
        await shows(app, "t-10008")
        await press(app, "asterisk")
        await shows(app, "2 marked")
        await press(app, "space")
        await shows(app, "1 marked", "▪✗ failed  t-10009", " ✗ failed  t-10008")
        assert app.page.marked() == {"where": "state:failed !id:t-10008"}


async def test_marks_stay_with_another_order_and_go_with_another_filter(console: Any) -> None:
    app = console(location=":tasks state:failed")
    async with app.run_test(size=(120, 36)):
        await shows(app, "✗ failed")
        await press(app, "space")
        await shows(app, "1 marked")
        marked = app.page.marked()
        await press(app, "s")
        await shows(app, "state1▲", "1 marked")
        assert app.page.marked() == marked
        await wait_until(lambda: app.page.row is not None)
        await press(app, "right", "right", "f")
        await shows(app, ":tasks state:failed queue:demo")
        await hides(app, "1 marked")


# The pane of details, and sizes


async def test_details_stand_beside_the_table_where_there_is_room(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":tasks sort:id")
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "t-10001")
        await press(app, "i")
        await shows(app, "t-10001 details", "max attempts")
        await press(app, "G")
        await shows(app, "t-1000d details")
        engine.change("tasks", "t-1000d", tenant="acme")
        await shows(app, "acme")
        await press(app, "3")
        await shows(app, "demo details", "durability")
        await pilot.resize_terminal(119, 36)
        await hides(app, "details ─")
        await press(app, "i")
        await shows(app, ":queues/demo", "demo what the 12 wait for")


async def test_wide_columns_come_and_go_with_the_width_and_nothing_breaks(console: Any) -> None:
    app = console(location=":tasks sort:id")
    sizes = [(200, 60), (121, 30), (40, 10), (1, 1), (80, 24)]
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "t-10001")
        for location in (":tasks", ":models"):
            app.open_location(location)
            await wait_until(lambda here=location: str(app.page.location) == here)  # type: ignore[misc]
            for keys in (("i", "w"), ()):
                for size in sizes:
                    await pilot.resize_terminal(*size)
                    await wait_until(lambda here=size: app.size == here)  # type: ignore[misc]
                    lines = text_of(app).split("\n")
                    assert len(lines) <= size[1]
                    if size[0] >= 40 and size[1] >= 10:
                        assert location in lines[1]
                        # Idle, and yet the fixed lines are made for the new width: nothing else would write them again.
                        await wait_until(lambda: "all keys" in text_of(app), f"the keys at {size}")
                        if size[0] >= 80:
                            assert line_of(app, 0).startswith(" anvil")
                await press(app, *keys)
                if str(app.page.location) != location:
                    app.open_location(location)
                    await wait_until(lambda here=location: str(app.page.location) == here)  # type: ignore[misc]
        assert app.is_running


@pytest.mark.parametrize("dialog", ["o", "ctrl+s", "*R", ":views\n"])
@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
async def test_dialogs_fit_and_survive_resizing(console: Any, dialog: str, size: tuple[int, int]) -> None:
    app = console(location=":tasks state:failed")
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "t-10009")
        keys = (
            (dialog,) if len(dialog) == 1 or "+" in dialog else tuple("enter" if key == "\n" else key for key in dialog)
        )
        await press(app, *keys)
        await wait_until(lambda: len(app.screen_stack) > 1, "the dialog")
        for step in (size, (10, 3), size):
            await pilot.resize_terminal(*step)
            await wait_until(lambda here=step: app.size == here)  # type: ignore[misc]
        assert "esc" in text_of(app), "it says how it is left"
        await press(app, "escape")
        await wait_until(lambda: len(app.screen_stack) == 1)


async def test_the_location_line_says_where_one_came_from(console: Any) -> None:
    app = console()
    async with app.run_test(size=(120, 36)) as pilot:
        await shows(app, "2 tasks failed")
        await press(app, "3")
        await shows(app, "first gate")
        await press(app, "enter")
        await wait_until(lambda: line_of(app, 1).startswith(" :tasks queue:demo  ‹ queues ‹ overview"))
        await press(app, "!", "escape")
        await wait_until(lambda: app.page.row is not None and not app.page.location.sort, "the rows")
        await press(app, "d")
        await wait_until(lambda: ":tasks/" in line_of(app, 1), "an item")
        assert "‹ tasks ‹ queues ‹ overview" in line_of(app, 1)
        await press(app, "escape")
        await wait_until(lambda: line_of(app, 1).startswith(" :tasks queue:demo  ‹ queues ‹ overview"))
        await pilot.resize_terminal(40, 10)
        await wait_until(lambda: "‹ overview" not in line_of(app, 1), "less room")
        await wait_until(lambda: ":tasks queue:demo" in line_of(app, 1), "the location, whole")


async def test_beside_the_table_the_strip_has_room_for_the_details(engine: ConsoleEngine, console: Any) -> None:
    app = console()
    async with app.run_test(size=(160, 45)) as pilot:
        await shows(app, "2 tasks failed")
        await press(app, *":tasks sort:id", "enter")
        await shows(app, "t-10001 why", "t-10001 details", "max attempts")
        await press(app, "down")
        await shows(app, "t-10002 details")
        await pilot.resize_terminal(159, 45)
        await hides(app, "t-10002 details")
