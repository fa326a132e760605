"""The permission gate: its questions in their order, for every combination of the lists."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.requests import catalogue
from engine.contract.states import Effect
from engine.tools.catalogue import FILE_TOOLS, all_tools, canonical
from engine.tools.gate import Lists, Tool, Verdict, decide, normalised, permitted


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str
    most: int = 5


REGISTRY = {
    "read_it": Tool(name="read_it", description="", arguments=Arguments, effect=Effect.read),
    "burn_it": Tool(name="burn_it", description="", arguments=Arguments, effect=Effect.destructive, method="burn.it"),
    "key_list": Tool(name="key_list", description="", arguments=Arguments, effect=Effect.read, method="key.list"),
}
GOOD = {"path": "a"}


def _lists(allow: tuple[str, ...], deny: tuple[str, ...] = ()) -> tuple[Lists, ...]:
    return (Lists(whose="worker w", allow=allow, deny=deny),)


@pytest.mark.parametrize(
    ("name", "allow", "deny", "arguments", "verdict", "gate"),
    [
        ("read_it", ("read_it",), (), GOOD, Verdict.allowed, "all"),
        ("read_it", (), (), GOOD, Verdict.not_allowed, "allow"),
        ("read_it", ("write_it",), (), GOOD, Verdict.not_allowed, "allow"),
        ("read_it", ("read_it",), ("read_it",), GOOD, Verdict.denied, "deny"),
        ("read_it", (), ("read_it",), GOOD, Verdict.denied, "deny"),
        ("read_it", ("read_*",), ("*_it",), GOOD, Verdict.denied, "deny"),
        ("read_it", ("*",), (), GOOD, Verdict.allowed, "all"),
        ("burn_it", ("*",), (), GOOD, Verdict.approval, "policy"),
        ("burn_it", ("read_it",), (), GOOD, Verdict.not_allowed, "allow"),
        ("key_list", ("key_list",), (), GOOD, Verdict.blocked, "policy"),
        ("engine_stop", ("*",), (), {}, Verdict.blocked, "policy"),
        ("fly", ("fly",), (), {}, Verdict.unknown, "registry"),
        ("read_it", ("read_it",), (), {}, Verdict.arguments, "arguments"),
        ("read_it", ("read_it",), (), {"path": 7}, Verdict.arguments, "arguments"),
        ("read_it", ("read_it",), (), {"path": "a", "pth": "b"}, Verdict.arguments, "arguments"),
        ("read_it", ("read_it",), (), ["a"], Verdict.arguments, "arguments"),
        ("read_it", ("read_it",), (), None, Verdict.arguments, "arguments"),
        ("burn_it", ("burn_it",), (), {}, Verdict.arguments, "arguments"),
    ],
)
def test_the_gates_questions(
    name: str, allow: tuple[str, ...], deny: tuple[str, ...], arguments: Any, verdict: Verdict, gate: str
) -> None:
    decision, made = decide(name, arguments, _lists(allow, deny), REGISTRY)
    assert (decision.verdict, decision.gate) == (verdict, gate)
    assert (made is not None) == (verdict in (Verdict.allowed, Verdict.approval))
    assert name in decision.why or gate in ("allow", "arguments", "all")


def test_wrong_arguments_are_named_with_the_right_word() -> None:
    decision, _ = decide("read_it", {"path": "a", "mst": 1}, _lists(("*",)), REGISTRY)
    assert "mst" in decision.why
    assert 'did you mean "most"?' in decision.why


def test_deny_beats_allow_in_every_combination_of_two_lists() -> None:
    """A task that another started passes its own lists and those of the other: each may only take away."""
    choices = [(), ("read_it",), ("*",), ("other",)]
    for allow, deny, allow_above, deny_above in itertools.product(choices, repeat=4):
        lists = (
            Lists(whose="worker w", allow=allow, deny=deny),
            Lists(whose="task t", allow=allow_above, deny=deny_above),
        )
        denied = bool({"read_it", "*"} & {*deny, *deny_above})
        allowed = all({"read_it", "*"} & set(each) for each in (allow, allow_above))
        expected = Verdict.denied if denied else Verdict.allowed if allowed else Verdict.not_allowed
        assert permitted("read_it", lists, REGISTRY).verdict is expected


_names = st.sampled_from(["read_it", "burn_it", "key_list", "fly", "*", "read_*", "engine_stop"])
_some = st.lists(_names, max_size=4).map(tuple)


@given(_names, _some, _some, _some, st.sampled_from([GOOD, {}, 3]))
def test_no_list_opens_what_the_policy_closes_and_nothing_passes_an_empty_list(
    name: str, allow: tuple[str, ...], deny: tuple[str, ...], above: tuple[str, ...], arguments: Any
) -> None:
    lists = (Lists(whose="w", allow=allow, deny=deny), Lists(whose="t", allow=above))
    decision, made = decide(name, arguments, lists, REGISTRY)
    if decision.allowed:
        assert name == "read_it"
        assert allow
        assert above
        assert not {"read_it", "*", "read_*"} & set(deny)
        assert made == Arguments(path="a")


@pytest.mark.parametrize(
    "spelled", ["read_file", "ReadFile", "TOOL.ReadFile", "read-file", "tool.read.file", " read file ", "Read_File"]
)
def test_a_tool_has_one_name_however_it_is_spelled(spelled: str) -> None:
    assert canonical(spelled) == "read_file"


def test_the_seeds_names_find_their_requests() -> None:
    assert canonical("aiWorkerWorkQueue.submitTask") == "task_submit"
    assert canonical("list_dir") == "list_files"
    assert normalised("task.*") == "task_*"


def test_everything_destructive_or_for_people_is_kept_from_models() -> None:
    everything = _lists(("*",))
    open_ = {name for name in all_tools() if permitted(name, everything, all_tools()).allowed}
    by_name = {method.replace(".", "_"): request for method, request in catalogue().by_method.items()}
    assert set(all_tools()) - by_name.keys() == {name for name, _, _ in FILE_TOOLS}
    assert {"read_file", "list_files", "search_files", "write_file", "task_submit", "queue_list"} <= open_
    assert not [name for name in open_ if name in by_name and by_name[name].effect is Effect.destructive]
    forbidden = (
        "engine_",
        "config_",
        "key_",
        "approval_",
        "tool_",
        "operation_",
        "bundle_",
        "worker_load",
        "worker_reload",
    )
    assert not [name for name in open_ if name.startswith(forbidden)]
    assert not [name for name in open_ if name.endswith(("_create", "_update", "_delete"))]
    # What is put elsewhere runs with the rights that it has there.
    for name in ("task_retry", "task_move"):
        assert permitted(name, everything, all_tools()).verdict is Verdict.approval


def test_every_tool_declares_a_schema_that_stands_alone() -> None:
    for tool in all_tools().values():
        schema = tool.schema
        assert schema["type"] == "object", tool.name
        assert b"$ref" not in msgspec.json.encode(schema), tool.name
        assert tool.description, tool.name
        assert set(schema.get("required", ())) <= schema.get("properties", {}).keys(), tool.name
    assert "title" in all_tools()["lesson_submit"].schema["properties"], (
        "an argument may be called as a schema's name is"
    )
