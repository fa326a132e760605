"""Tool calls are held to what is permitted once they begin, and free text stays free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.reference.text import Detokenizer
from engine.inference.backends.reference.tokenizer import Tokenizer
from engine.inference.constrained.constrainer import Constrainer
from engine.tools.catalogue import all_tools
from engine.workers.calls import Malformed, calls_in
from tests.support.schemas import CONSTRAINER, LIBRARY, PERSON, READ, TOOLS, chance, takes, tool

CALLS = [
    '{"tool": "read_file", "args": {"path": "a.txt"}}',
    '{"name": "read_file", "arguments": {"path": "a.txt"}}',
    '{"name": "read_file", "parameters": {"path": "a.txt"}}',
    '[{"tool": "read_file", "args": {"path": "a"}}, {"tool": "list_files", "args": {}}]',
    '<tool_call>\n{"name": "read_file", "arguments": {"path": "a.txt"}}\n</tool_call>',
    '[TOOL_CALLS] [{"name": "read_file", "arguments": {"path": "a.txt"}}]',
]


@pytest.mark.parametrize("call", CALLS)
def test_every_known_form_of_a_call_may_be_written(call: str) -> None:
    assert takes(call, tools=TOOLS) == call
    assert takes(call, tools=TOOLS, call_tools="required") == call
    assert takes(call, tools=TOOLS, schema=PERSON) == call


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ('{"tool": "write_file", "args"', '{"tool": "'),
        ('{"tool": "read_file", "args": {"path": 3}}', '{"tool": "read_file", "args": {"path": '),
        ('{"tool": "read_file", "args": {}}', '{"tool": "read_file", "args": {'),
        ('{"name": "read_file", "arguments": {"file": "a"}}', '{"name": "read_file", "arguments": {"'),
        ('Let me see.\n<tool_call>{"name": "nope"', 'Let me see.\n<tool_call>{"name": "'),
        ('<tool_call>{"tool": "read_file", "args": {"path": "a"}} and', '<tool_call>{"tool": "read_file", "args": {"path": "a"}}'),
    ],
)  # fmt: skip
def test_a_call_that_has_begun_is_held_to_what_is_permitted(text: str, reached: str) -> None:
    assert takes(text, tools=TOOLS) == reached


@pytest.mark.parametrize(
    "text",
    [
        "The file says 12.",
        '{"name": "Tom", "age": 34}',
        '{"name": "read_file", "age": 34}',
        '{"name": "write_file", "arguments": {}}',
        "[1, 2, 3] are numbers",
        'As JSON: {"tool": "hammer"}',
        "{" * 40,
        '{"tool" is the first word of a call',
        "See [TOOL_CALLS] for more",
        "ünï 名前 <tool call> <<tool_cal",
    ],
)
def test_free_text_stays_free(text: str) -> None:
    assert takes(text, tools=TOOLS) == text
    constraint = CONSTRAINER.constraint(None, TOOLS)
    assert constraint is not None
    assert constraint.mask() is None


def test_a_call_that_is_required_is_nothing_else() -> None:
    for text in ("The file", '{"name": "Tom"', "[1]", '{"answer"'):
        assert len(takes(text, tools=TOOLS, call_tools="required")) < len(text)
    with pytest.raises(AiwmError) as refused:
        CONSTRAINER.constraint(None, (), "required")
    assert refused.value.info.field == "call_tools"


def test_with_a_schema_an_answer_is_of_it_or_a_call() -> None:
    answer = '{"name": "Tom", "age": 34}'
    assert takes(answer, tools=TOOLS, schema=PERSON) == answer
    assert takes("plain text", tools=TOOLS, schema=PERSON) == ""
    assert takes('{"name": "Tom", "arguments"', tools=TOOLS, schema=PERSON) == '{"name": "Tom", "a'


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_calls_by_chance_pass_the_gate(seed: int) -> None:
    """Of every tool that there is: arguments that were held to the declared schema are the struct's."""
    names = sorted(all_tools())
    chosen = all_tools()[names[seed % len(names)]]
    constraint = CONSTRAINER.constraint(None, (tool(chosen.name, chosen.schema),), "required")
    assert constraint is not None
    text = chance(constraint, LIBRARY, seed)
    calls = calls_in(text.strip())
    if isinstance(calls, Malformed) and "Number out of range" in calls.why:
        return  # 1e999 is JSON, and no number
    assert isinstance(calls, tuple)
    assert calls, text
    for call in calls:
        assert call.tool == chosen.name
        msgspec.convert(call.arguments, chosen.arguments)


def test_a_tool_whose_arguments_no_grammar_expresses_takes_any_object() -> None:
    odd = (
        tool("odd", {"type": "object", "not": {"required": ["x"]}}),
        tool("other", {"oneOf": [{}, {"type": "object"}]}),
        READ,
    )
    for name in ("odd", "other"):
        text = f'{{"tool": "{name}", "args": {{"any": [1, {{}}]}}}}'
        assert takes(text, tools=odd) == text
    assert takes('{"tool": "read_file", "args": {"any"', tools=odd) == '{"tool": "read_file", "args": {"'


def test_a_tool_s_references_to_its_own_schema_hold_beside_others() -> None:
    tree = {"$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}},
            "required": ["v"], "additionalProperties": False}}, "$ref": "#/$defs/node"}  # fmt: skip
    tools = (
        READ,
        tool("grow", tree),
        tool("self", {"type": "object", "properties": {"in": {"$ref": "#"}}, "additionalProperties": False}),
    )
    for text in (
        '{"tool": "grow", "args": {"v": 1, "next": {"v": 2}}}',
        '{"tool": "self", "args": {"in": {"in": {}}}}',
    ):
        assert takes(text, tools=tools) == text
    for text in ('{"tool": "grow", "args": {"v": 1, "next": {"v": "x"', '{"tool": "self", "args": {"in": {"out"'):
        assert len(takes(text, tools=tools)) < len(text)


def test_a_tool_s_schema_too_deep_to_follow_takes_any_object() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"properties": {"a": deep}}
    text = '{"tool": "deep", "args": {"a": 1}}'
    assert takes(text, tools=(tool("deep", deep),)) == text


def test_without_tools_and_schema_there_is_no_constraint() -> None:
    assert CONSTRAINER.constraint(None) is None


def test_a_tokenizer_that_cannot_be_constrained_refuses_schemas_and_leaves_calls_free(tmp_path: Any) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "WordLevel"}}')
    constrainer = Constrainer(tmp_path / "tokenizer.json", 10, {1})
    with pytest.raises(AiwmError) as refused:
        constrainer.constraint(PERSON)
    assert refused.value.code == Code.schema_unsupported
    assert "tokenizer" in str(refused.value)
    assert constrainer.constraint(None, TOOLS) is None


def test_calls_whose_tags_are_special_tokens_are_told_from_the_text_before_them(tmp_path: Path) -> None:
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    library = Library(models.BPE(vocab=letters, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens(["<eos>", "<tool_call>", "</tool_call>"])
    library.save(str(tmp_path / "tokenizer.json"))
    size = library.get_vocab_size()
    end, opening, closing = range(len(letters), size)
    constraint = Constrainer(tmp_path / "tokenizer.json", size, [end]).constraint(None, TOOLS)
    assert constraint is not None
    call = '{"name": "read_file", "arguments": {"path": "a.txt"}}'
    tagged = [opening, *library.encode(call).ids, closing]
    written = [*library.encode("Let me see.\n").ids, *tagged, *tagged]

    def may_come(token: int) -> bool:
        mask = constraint.mask()
        return mask is None or bool(mask[token // 8] >> token % 8 & 1)

    for token in written:
        assert may_come(token), library.id_to_token(token)
        constraint.advance(token)
    assert may_come(end)
    assert may_come(opening)
    detokenizer = Detokenizer(Tokenizer(tmp_path, size).decode)
    text = "".join([*map(detokenizer.push, [*written, end]), detokenizer.finish()])
    assert text == f"Let me see.\n<tool_call>{call}</tool_call><tool_call>{call}</tool_call>"
    assert calls_in(text) == calls_in(f"[{call}, {call}]") != ()
