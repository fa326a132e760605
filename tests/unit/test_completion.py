"""What the prompt suggests: fields, states, values that exist, saved views; and that no text breaks it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiwm_tui.completion import complete_filter, complete_jump
from aiwm_tui.widgets.prompt import last_token
from engine.contract.errors import AiwmError
from engine.contract.query import parse_filter

VALUES = {"queue": ["demo", "summaries", '"two words"'], "tenant": ["acme"]}


def _values(table: str, name: str) -> list[str]:
    assert table in ("tasks", "queues")
    return VALUES.get(name, [])


def test_values_are_suggested_by_their_beginning_else_by_what_they_contain() -> None:
    assert complete_filter("tasks", "queue:", _values) == ["queue:demo", "queue:summaries", 'queue:"two words"']
    assert complete_filter("tasks", "x !queue:S", _values) == ["!queue:summaries"]
    assert complete_filter("tasks", "queue:mar", _values) == ["queue:summaries"]
    assert complete_filter("tasks", 'queue:"two', _values) == ['queue:"two words"']
    assert complete_filter("tasks", "queue:demo,", _values) == ["queue:demo,summaries", 'queue:demo,"two words"']
    assert complete_filter("tasks", "queue:demo", _values) == []
    assert complete_filter("tasks", "tenant:x", _values) == []


def test_states_and_is_have_closed_sets() -> None:
    assert complete_filter("tasks", "is:") == ["is:fault"]
    assert complete_filter("pools", 'state:"at') == ['state:"at max"']
    assert complete_filter("events", "!level:er") == ["!level:error"]
    assert "state:failed" in complete_filter("tasks", "fai")


def test_views_are_names_like_screens_and_lend_their_table() -> None:
    names, views = ("tasks", "night", "save", "forget"), {"night": ":tasks state:failed"}
    assert complete_jump(names, ":ni", views) == [":night"]
    assert complete_jump(names, ":night queue:d", views, _values) == ["queue:demo"]
    assert complete_jump(names, ":forget ", views) == ["night"]
    assert complete_jump(names, ":nowhere x", views) == []


@given(st.text(max_size=40), st.sampled_from(["tasks", "events", "pools"]))
def test_any_text_is_completed_without_failing(text: str, table: str) -> None:
    for candidate in complete_filter(table, text):
        head = text[: len(text) - len(last_token(text))]
        assert last_token(head + candidate) == candidate


@given(st.sampled_from(sorted(VALUES)), st.integers(0, 2), st.booleans())
def test_what_is_accepted_is_understood(name: str, cut: int, negated: bool) -> None:
    bang = "!" if negated else ""
    for value in VALUES[name]:
        for candidate in complete_filter("tasks", f"{bang}{name}:{value[:cut]}", _values):
            try:
                terms, _ = parse_filter("tasks", candidate)
            except AiwmError as error:
                raise AssertionError(f"{candidate}: {error}") from error
            assert terms[0].negated == negated
            assert terms[0].values[0] in {each.strip('"') for each in VALUES[name]}
