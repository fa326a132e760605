"""What people type, how exit codes follow from errors, and the pieces of the demo that need no engine."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from aiwm_tui.cli.build import params_of
from aiwm_tui.cli.columns import columns_of
from aiwm_tui.cli.exit_codes import ExitCode, exit_code_of
from aiwm_tui.cli.tables import print_table
from aiwm_tui.demo_result import Message, judge, read_inbox, sample
from aiwm_tui.typed import duration_ms, future_ms, json_object
from engine.contract.errors import AiwmError, Code
from engine.contract.records import TABLES
from engine.contract.requests import catalogue
from engine.contract.requests.tasks import TaskOutcome

NOW = round(datetime(2026, 11, 20, 12, 0).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "ms"), [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("2", 2_000), ("0.5", 500), ("0", 0)]
)
def test_durations(text: str, ms: int) -> None:
    assert duration_ms(text, "--timeout") == ms


@pytest.mark.parametrize("text", ["", "soon", "5 m", "-1s", "1x", "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(AiwmError, match="--timeout") as caught:
        duration_ms(text, "--timeout")
    assert exit_code_of(caught.value.code) is ExitCode.usage


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("30s", datetime(2026, 11, 20, 12, 0, 30)),
        ("2h", datetime(2026, 11, 20, 14, 0)),
        ("12:30", datetime(2026, 11, 20, 12, 30)),
        ("02:30", datetime(2026, 11, 21, 2, 30)),
        ("2026-12-24T18:00", datetime(2026, 12, 24, 18, 0)),
    ],
)
def test_points_in_time_lie_ahead(text: str, at: datetime) -> None:
    assert future_ms(text, "--due", NOW) == round(at.timestamp() * 1000)


@pytest.mark.parametrize("text", ["", "25:00", "2026-13-01", "tomorrow"])
def test_what_is_no_point_in_time(text: str) -> None:
    with pytest.raises(AiwmError, match="--due"):
        future_ms(text, "--due", NOW)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"prompt": "x"', "column 15"),
        ("{'prompt': 1}", "column 2"),
        ('{"a": 1,\n"b" 2}', "line 2, column 5"),
        ("", "column 1"),
        ('"text"', "a text"),
        ("3", "a number"),
        ("null", "null"),
        ("[" * 100_000, "not JSON"),
        ("1" * 10_000, ""),
    ],
)
def test_bad_json_names_its_place(text: str, words: str) -> None:
    with pytest.raises(AiwmError) as caught:
        json_object(text, "--payload")
    assert words in caught.value.info.message
    assert caught.value.info.field == "payload"
    assert len(caught.value.info.message) < 200


def test_every_code_has_the_exit_code_of_its_group() -> None:
    wanted = {
        Code.not_found: 2,
        Code.bad_request: 2,
        Code.payload_invalid: 2,
        Code.config_invalid: 2,
        Code.bad_location: 2,
        Code.queue_full: 1,
        Code.storage_failed: 1,
        Code.task_failed: 1,
        Code.deadline_passed: 1,
        Code.engine_running: 1,
        Code.engine_unreachable: 3,
        Code.connection_lost: 3,
        Code.timeout: 4,
        Code.read_only: 5,
        Code.needs_confirmation: 5,
        Code.too_many_rows: 5,
    }
    assert {code: exit_code_of(code) for code in wanted} == wanted
    assert exit_code_of("a code of tomorrow") is ExitCode.failed


def test_every_request_can_be_a_command() -> None:
    """The builder knows what to do with every field of every request, and no two options of one request collide."""
    for method, request in catalogue().by_method.items():
        names = [param.name for param in params_of(request)]
        assert len(names) == len(set(names)), method


def test_every_table_has_columns_that_read_its_records() -> None:
    for table, record in TABLES.items():
        fields = set(record.__struct_fields__)
        seen: set[str] = set()

        class Spy(dict[str, object]):
            def get(self, name: str, default: object = None, seen: set[str] = seen) -> object:
                seen.add(name)
                return default

        for column in columns_of(table):
            column.cell(Spy())
        assert seen <= fields, table


def _printed(rows: list[dict[str, object]], width: int | None, *, styled: bool = False) -> list[str]:
    lines: list[str] = []
    print_table(columns_of("tasks"), rows, lines.append, width=width, styled=styled)
    return lines


def test_a_terminal_cuts_the_last_column_and_a_pipe_does_not() -> None:
    row: dict[str, object] = {"id": "t-10001", "state": "failed", "queue": "demo", "reason": "because " * 40}
    piped = _printed([row], None)
    assert piped[1].endswith("because")
    assert "✗" not in piped[1]
    on_terminal = _printed([row], 100)
    assert len(on_terminal[1]) <= 100
    assert on_terminal[1].endswith("…")
    assert "✗ failed" in on_terminal[1]


@pytest.mark.parametrize("cells", [60, 80, 120])
def test_a_narrow_terminal_leaves_columns_out_and_keeps_the_first_and_the_last(cells: int) -> None:
    row: dict[str, object] = {
        "id": "t-10001", "state": "failed", "queue": "a-queue-of-some-length", "definition": "a-worker", "attempt": 2,
        "max_attempts": 3, "priority": 5, "submitted_ms": 1, "reason": "because " * 40,
    }  # fmt: skip
    head, line = _printed([row], cells)
    assert max(len(head), len(line)) <= cells
    assert head.split()[:2] == ["ID", "STATE"]
    assert head.split()[-1] == "REASON"
    # What says nothing (no tokens, no time yet) goes before what does.
    assert ("TOKENS" in head) <= ("TRY" in head)
    assert ("TRY" in head) == (cells > 60)


def test_colour_only_where_it_is_wanted() -> None:
    row: dict[str, object] = {"id": "t-10001", "state": "failed", "reason": "x"}
    assert "\x1b" not in "".join(_printed([row], 100))
    assert "\x1b[31m" in "".join(_printed([row], 100, styled=True))


# -- demo ------------------------------------------------------------------------------------------------------------------


def _messages(count: int, skills: int = 1) -> list[Message]:
    return [
        Message(id=f"m{number}", skill=f"s{number * skills // count}", prompt=f"p{number}", answer=f"a{number}")
        for number in range(count)
    ]


def test_a_sample_meets_every_skill() -> None:
    messages = _messages(200, skills=8)
    chosen = sample(messages, 60)
    assert len(chosen) == len({message.id for message in chosen}) == 60
    assert {message.skill for message in chosen} == {f"s{number}" for number in range(8)}
    assert [message.id for message in sample(_messages(3), 7)] == ["m0", "m1", "m2", "m0", "m1", "m2", "m0"]


def test_answers_are_compared_exactly_but_for_white_space_around() -> None:
    def outcome(text: str | None, state: str = "completed") -> TaskOutcome:
        result = None if text is None else {"text": text}
        return TaskOutcome(id="t-10001", state=state, attempt=1, result=result, tokens_in=10, tokens_out=2)

    outcomes = [outcome(" a0\n"), outcome("A1"), outcome(None, "failed"), outcome("a3", "failed")]
    result = judge(_messages(4, skills=2), outcomes, 2.0)
    assert (result.submitted, result.completed, result.failed, result.correct) == (4, 2, 2, 1)
    assert (result.tokens, result.tokens_in, result.seconds) == (8, 40, 2.0)
    assert result.per_skill["s0"].correct == 1
    assert [(one.message, one.expected, one.got) for one in result.wrong] == [
        ("m1", "a1", "A1"),
        ("m2", "a2", None),
        ("m3", "a3", "a3"),
    ]


def test_an_inbox_line_that_is_no_message_is_named(tmp_path: Path) -> None:
    path = tmp_path / "inbox.jsonl"
    line = json.dumps({"id": "m", "skill": "s", "prompt": "p", "answer": "a"})
    path.write_text(f"{line}\n\n{line}\n")
    assert len(read_inbox(path)) == 2
    path.write_text(f'{line}\n{{"id": 3}}\n')
    with pytest.raises(AiwmError, match="line 2"):
        read_inbox(path)
    path.write_text("\n")
    with pytest.raises(AiwmError, match="no messages"):
        read_inbox(path)
    with pytest.raises(AiwmError, match="cannot be read"):
        read_inbox(tmp_path / "none")
