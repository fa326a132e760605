"""The one table of actions: keys, grammar, footer, and what s, f and ! make of a location."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import pytest

from aiwm_tui import making, serving, sets, talking
from aiwm_tui.actions import ACTIONS, TABLES, Group, available, footer
from aiwm_tui.completion import complete_filter, complete_jump
from aiwm_tui.deeds import _DEEDS
from aiwm_tui.live import format as form
from aiwm_tui.live.text import line_width, plain
from aiwm_tui.reports import report
from aiwm_tui.screens.chosen import every_column
from aiwm_tui.screens.registry import NAMES
from aiwm_tui.screens.spec import table_screen
from aiwm_tui.sorting import cycled, filter_by_cell, without_faults
from aiwm_tui.states import ASCII, GLYPHS, known_states, look, state_span
from aiwm_tui.widgets.footer import footer_line
from engine.contract import states as contract_states
from engine.contract.errors import AiwmError
from engine.contract.fields import fields_of
from engine.contract.query import matches, parse
from engine.contract.requests.tasks import Cancelled, TaskCancel
from engine.contract.states import Effect
from engine.inference.remote.health import RemoteState
from tests.support.console_engine import NOW
from tests.support.console_machine import task


def test_lower_case_looks_and_upper_case_changes() -> None:
    for action in ACTIONS:
        letters = [key for key in action.keys.split(",") if len(key) == 1 and key.isalpha()]
        for letter in letters:
            if letter != "G":
                assert letter.isupper() == action.changes, action.id
        assert action.changes == (action.group is Group.change), action.id
        assert action.help or action.group in (Group.move, Group.replay), "listed with the action before it"


@pytest.mark.parametrize("table", ["", *sorted(TABLES)])
def test_no_key_means_two_things_in_one_place(table: str) -> None:
    keys = defaultdict(list)
    for action in available(table):
        for key in action.keys.split(","):
            keys[key].append(action.id)
    assert {key: ids for key, ids in keys.items() if len(ids) > 1} == {}


def test_ids_are_unique_and_destruction_asks() -> None:
    assert len({action.id for action in ACTIONS}) == len(ACTIONS)
    assert {action.id for action in ACTIONS if action.effect is Effect.destructive} == {
        "cancel",
        "delete",
        "end",
        "unload_now",
    }
    dialogs = (sets.change_tasks, making.delete, talking.end, serving.unload)
    assert tuple(_DEEDS[each] for each in ("cancel", "delete", "end", "unload_now")) == dialogs, "those that open one"


@pytest.mark.parametrize("table", ["", *sorted(TABLES)])
def test_the_footer_has_at_most_nine_keys_and_always_the_help(table: str) -> None:
    shown = footer(table)
    assert len(shown) <= 9
    assert shown[-1].id == "help"
    groups = [action.group for action in shown]
    assert groups == sorted(groups, key=[Group.look, Group.change, Group.move, Group.general].index)
    for cells in (40, 80, 120):
        line = footer_line(shown, False, cells)
        assert line_width(line) <= cells
        assert "all keys" in plain(line)


def test_read_only_dims_what_changes() -> None:
    line = footer_line(footer("tasks"), True, 120)
    styles = {text.strip(): style for text, style in line if text.strip()}
    assert styles["X"] == styles["cancel"] == "off"
    assert styles["↵"] == "key"


def test_every_column_key_is_a_field_and_every_screen_has_a_reason_for_being_empty() -> None:
    for table in TABLES:
        screen = table_screen(table)
        for column in screen.columns:
            assert column.key in fields_of(table), (table, column.title)
        assert screen.empty
        assert sum(column.flex for column in screen.columns) == 1
        assert any(column.priority == 0 for column in screen.columns)


def test_every_state_has_a_look_and_every_glyph_a_twin() -> None:
    for table, kind in (
        ("tasks", contract_states.TaskState),
        ("instances", contract_states.InstanceState),
        ("models", contract_states.ModelState),
        ("models", RemoteState),
        ("events", contract_states.Level),
    ):
        for state in kind:
            assert look(table, state) != "text", (table, state)
    assert all(ord(glyph) in ASCII or glyph.isascii() for glyph in GLYPHS.values())
    assert len(set(GLYPHS.values())) == len(GLYPHS)
    twins = [glyph.translate(ASCII) for glyph in GLYPHS.values()]
    assert len(set(twins)) == len(twins), "states stay distinct without Unicode"
    assert state_span("tasks", "[red]odd\x1b") == ("· [red]odd␛", "text")
    assert "processing" in known_states("tasks")


def test_sorting_cycles_and_stacks() -> None:
    location = parse(":tasks queue:demo")
    location = cycled(location, "priority")
    assert str(location) == ":tasks queue:demo sort:priority"
    location = cycled(location, "age")
    assert str(location) == ":tasks queue:demo sort:priority,age"
    location = cycled(location, "priority")
    assert str(location) == ":tasks queue:demo sort:-priority,age"
    location = cycled(cycled(location, "priority"), "queue")
    assert str(location) == ":tasks queue:demo sort:age,queue"


def test_faults_come_and_go() -> None:
    location = parse(":tasks queue:demo")
    broken = without_faults(location)
    assert str(broken) == ":tasks queue:demo is:fault"
    assert str(without_faults(broken)) == str(location)


@pytest.mark.parametrize(
    ("title", "condition"),
    [
        ("state", "state:processing"),
        ("queue", "queue:demo"),
        ("prio", "priority>=5"),
        ("wait", "age>=60s"),
        ("out", "tokens_out>=388"),
        ("run", f"started>={form.clock(NOW - 9_000)}"),
    ],
)
def test_a_cell_becomes_a_condition_that_its_row_fulfils(title: str, condition: str) -> None:
    row = task(1, state="processing", started_ms=NOW - 9_000, tokens_out=388)
    column = next(column for column in table_screen("tasks").columns if column.title == title)
    location = filter_by_cell(parse(":tasks is:fault queue:other"), column, row, NOW)
    assert condition in str(location)
    alone = filter_by_cell(parse(":tasks"), column, row, NOW)
    assert matches(parse(str(alone)), row, NOW), "the condition survives being written and read"


def test_a_cell_without_a_value_cannot_be_filtered_by() -> None:
    column = next(column for column in table_screen("tasks").columns if column.title == "worker")
    with pytest.raises(AiwmError, match="has no worker"):
        filter_by_cell(parse(":tasks"), column, task(1), NOW)


def test_completion_offers_tables_fields_and_states() -> None:
    assert ":tasks" in complete_jump(NAMES, ":ta")
    assert complete_jump(NAMES, ":tasks sta") == ["started>", "state:"]
    assert complete_filter("tasks", "state:pro") == ["state:processing"]
    assert complete_filter("tasks", "state:failed,ret") == ["state:failed,retrying"]
    assert complete_filter("tasks", "queue:demo sort:-pri") == ["sort:-priority", "sort:-prio"]
    assert complete_filter("tasks", "!bat") == ["!batch:"]
    assert complete_filter("no-table", "x") == []


def test_the_report_says_the_effect() -> None:
    answer = Cancelled(cancelled=["t-10001"], stopping=["t-10002"], ended=[])
    line = report(TaskCancel(ids=("t-10001", "t-10002")), answer)
    assert plain(line) == "cancelled t-10001; told to stop t-10002"


def test_a_value_can_be_left_out_and_one_after_the_other() -> None:
    columns = {column.title: column for column in table_screen("tasks").columns}
    row = task(1, queue="etl", submitted_ms=NOW - 86_400_000)

    def without(location: str, title: str) -> str:
        return str(filter_by_cell(parse(location), columns[title], row, NOW, without=True))

    assert without(":tasks", "queue") == ":tasks !queue:etl"
    assert without(":tasks !queue:demo x", "queue") == ":tasks !queue:demo,etl x"
    assert without(":tasks queue:etl,demo", "queue") == ":tasks queue:demo"
    assert without(":tasks queue:etl", "queue") == ":tasks queue:etl !queue:etl"
    assert without(":tasks", "prio") == ":tasks !priority>=5"
    assert matches(parse(without(":tasks", "wait")), row, NOW) is False


def test_a_moment_of_another_day_keeps_its_date() -> None:
    row = task(1, submitted_ms=NOW - 86_400_000)
    column = next(column for column in every_column(table_screen("tasks")) if column.key == "ended")
    ended = msgspec.structs.replace(row, ended_ms=NOW - 2 * 86_400_000)
    location = filter_by_cell(parse(":tasks"), column, ended, NOW)
    assert matches(location, ended, NOW)
    assert not matches(location, msgspec.structs.replace(ended, ended_ms=NOW - 3 * 86_400_000), NOW)
