"""Constrained decoding: what a grammar lets through is of its schema, and nothing that is of it is kept out; calls are held once begun."""

from __future__ import annotations

import threading
import time
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract.errors import AiwmError, Code
from engine.inference.constrained.constrainer import KEPT, KEPT_CHARS, Constrainer
from engine.inference.constrained.schema import MAX_DEPTH
from engine.tools.catalogue import all_tools
from engine.workers.calls import Malformed, calls_in
from tests.support.schemas import END, SHIPPED, VOCABULARY, allowed, chance, follows, schemas, tokenizer

LIBRARY = tokenizer()
CONSTRAINER = Constrainer(SHIPPED / "tokenizer.json", VOCABULARY, {END})
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def tool(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


READ = tool("read_file", all_tools()["read_file"].schema)
TOOLS = (READ, tool("list_files", all_tools()["list_files"].schema))


def tokens(text: str) -> list[int]:
    return list(LIBRARY.encode(text, add_special_tokens=False).ids)


def takes(text: str, *, schema: Any = None, tools: Any = (), call_tools: Any = "auto") -> str:
    """How much of a text may be written, in tokens of the model; the text itself when all of it may."""
    constraint = CONSTRAINER.constraint(schema, tools, call_tools)
    assert constraint is not None
    ids = tokens(text)
    return str(LIBRARY.decode(ids[: follows(constraint, ids)]))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schemas(), st.integers(0, 99))
def test_whatever_is_written_is_of_the_schema(schema: dict[str, Any], seed: int) -> None:
    constraint = CONSTRAINER.constraint(schema)
    assert constraint is not None
    text = chance(constraint, LIBRARY, seed)
    data = msgspec.json.decode(text)
    assert jsonschema_rs.validator_for(schema).is_valid(data), (schema, text)


@settings(max_examples=40, deadline=None)
@given(
    st.text(max_size=12).filter(lambda text: text.isprintable()),
    st.integers(0, 10**9),
    st.sampled_from([(",", ":"), (", ", ": ")]),
)
def test_whatever_is_of_the_schema_may_be_written(name: str, age: int, marks: tuple[str, str]) -> None:
    said = msgspec.json.encode(name).decode()
    text = f'{{"name"{marks[1]}{said}{marks[0]}"age"{marks[1]}{age}}}'
    assert takes(text, schema=PERSON) == text


def test_white_space_is_bounded_and_indentation_is_not_lost() -> None:
    pretty = '{\n    "name": "Tom",\n    "age": 34\n}'
    assert takes(pretty, schema=PERSON) == pretty
    assert takes('{"name":  "Tom"', schema=PERSON) == '{"name": ', (
        "a model that writes spaces for ever is stopped at one"
    )
    assert takes(' {"name"', schema=PERSON) == ""


def test_a_whole_answer_ends_at_once_and_one_that_may_go_on_may_end() -> None:
    constraint = CONSTRAINER.constraint(PERSON)
    assert constraint is not None
    assert follows(constraint, tokens('{"name": "Tom", "age": 34}')) == len(tokens('{"name": "Tom", "age": 34}'))
    assert constraint.done
    number = CONSTRAINER.constraint({"type": "integer"})
    assert number is not None
    assert follows(number, tokens("34")) == 1 or not number.done
    mask = number.mask()
    assert mask is not None
    assert END in allowed(mask), "34 is whole"
    assert not number.done, "and 345 would be too"


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"not": {"type": "string"}}, "schema.not"),
        ({"type": "object", "properties": {"a": {"if": {}, "then": {}}}}, "schema.properties.a.if"),
        ({"type": "array", "uniqueItems": True}, "schema.uniqueItems"),
        ({"anyOf": [{"type": "null"}, {"contains": {}}]}, "schema.anyOf[1].contains"),
        ({"$defs": {"x": {"propertyNames": {}}}, "$ref": "#/$defs/x"}, "schema.$defs.x.propertyNames"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "schema.x-guidance"),
        ({"items": {"type": "string", "format": "idn-email"}}, "schema.items.format"),
        ({"type": "string", "pattern": "(?=a)b"}, "schema.pattern"),
        ({"oneOf": [{"type": "string"}, {"minLength": 2}]}, "schema.oneOf"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "schema.$ref"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "schema.properties.a.$ref"),
        ({"type": "objekt"}, "schema.type"),
        ({"$ref": "#"}, "schema"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "schema"),
        ({"const": "x" * 70_000}, "schema"),
    ],
)
def test_what_no_grammar_can_express_is_refused_by_name(schema: dict[str, Any], place: str) -> None:
    with pytest.raises(AiwmError) as refused:
        CONSTRAINER.constraint(schema)
    assert refused.value.code == Code.schema_unsupported
    assert refused.value.info.field == place
    assert place.rpartition(".")[2].partition("[")[0] in str(refused.value)
    assert not refused.value.info.retryable


_WORDS = st.sampled_from(
    ["type", "properties", "items", "anyOf", "allOf", "oneOf", "$ref", "$defs", "enum", "const", "required", "pattern", "format", "not",
     "minLength", "maxLength", "minimum", "maximum", "multipleOf", "minItems", "maxItems", "additionalProperties", "prefixItems",
     "minProperties", "$schema", "$id", "$anchor", "object", "string", "#", "#/$defs/type"]
)  # fmt: skip
_JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | _WORDS
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(_WORDS, _JUNK, max_size=5), st.integers(0, 9))
def test_any_object_is_a_schema_or_refused_and_harms_nobody(schema: dict[str, Any], seed: int) -> None:
    refused = None
    try:
        constraint = CONSTRAINER.constraint(schema)
        assert constraint is not None
        for _ in range(20):
            mask = constraint.mask()
            assert mask is not None
            choice = allowed(mask)
            assert choice
            if constraint.done or choice == [END]:
                break
            constraint.advance([token for token in choice if token != END][seed % len(choice) - 1])
    except AiwmError as error:
        refused = error.code
    assert refused in (None, Code.schema_unsupported)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"},
        {"type": "string", "pattern": "^(a|aa|aaa|b)*c{1000}$"},
        {"type": "array", "items": {"type": "integer"}, "minItems": 10**9, "maxItems": 10**9},
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(1_200)}},
        {"allOf": [{"anyOf": [{"properties": {f"a{n}": {"const": m}}} for m in range(4)]} for n in range(10)]},
        {"type": "integer", "multipleOf": 99_991, "minimum": 0, "maximum": 10**15},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
    ],
)  # fmt: skip
def test_a_schema_made_to_explode_is_refused_or_bounded(schema: dict[str, Any]) -> None:
    began, refused = time.process_time(), None
    try:
        constraint = CONSTRAINER.constraint(schema)
        assert constraint is not None
        follows(constraint, tokens('"aaaaaaaaaaaaaaaaaaaaaaaaaaaa'))
    except AiwmError as error:
        refused = error.code
    assert refused in (None, Code.schema_unsupported)
    assert time.process_time() - began < 3, "a process that holds other requests must not stand still"


def test_a_schema_deeper_than_any_is_refused_before_it_is_compiled() -> None:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(MAX_DEPTH):
        schema = {"items": schema}
    with pytest.raises(AiwmError, match="levels deep"):
        CONSTRAINER.constraint(schema)


def test_names_that_are_keywords_and_data_that_looks_like_them_are_neither() -> None:
    schema = {
        "type": "object",
        "properties": {
            "not": {"const": {"uniqueItems": False, "if": 1}},
            "list": {"uniqueItems": False, "maxItems": 0},
        },
        "required": ["not", "list"],
        "additionalProperties": False,
    }
    text = '{"not": {"uniqueItems": false, "if": 1}, "list": []}'
    assert takes(text, schema=schema) == text


def test_grammars_are_compiled_once_and_the_oldest_are_dropped() -> None:
    constrainer = Constrainer(SHIPPED / "tokenizer.json", VOCABULARY, {END})
    for number in range(KEPT + 5):
        assert constrainer.constraint({"const": number}) is not None
    assert len(constrainer._compiled) == KEPT
    kept = dict(constrainer._compiled)
    constrainer.constraint({"const": KEPT})
    assert dict(constrainer._compiled) == kept
    for number in range(30):
        constrainer.constraint({"enum": [f"{number} {n} {'x' * 50}" for n in range(900)]})
    assert constrainer._chars == sum(chars for _, chars in constrainer._compiled.values()) <= KEPT_CHARS
    assert 10 < len(constrainer._compiled) < 30, "large ones push more out"


def test_requests_of_one_grammar_do_not_know_of_each_other() -> None:
    first, second = CONSTRAINER.constraint(PERSON), CONSTRAINER.constraint(PERSON)
    assert first is not None
    assert second is not None
    assert follows(first, tokens('{"name": "Tom"')) == len(tokens('{"name": "Tom"'))
    assert follows(second, tokens('{"name": "Ann", "age": 1}')) == len(tokens('{"name": "Ann", "age": 1}'))


def test_any_thread_may_ask() -> None:
    constrainer = Constrainer(SHIPPED / "tokenizer.json", VOCABULARY, {END})
    written: list[str] = []

    def work(seed: int) -> None:
        for number in range(20):
            constraint = constrainer.constraint({"type": "array", "items": {"const": number % 7}, "maxItems": 3})
            assert constraint is not None
            written.append(f"{number % 7}={chance(constraint, LIBRARY, seed)}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 80
    for line in written:
        number, _, text = line.partition("=")
        assert set(msgspec.json.decode(text)) <= {int(number)}


# -- tool calls ------------------------------------------------------------------------------------------------------------

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


def test_a_model_without_end_tokens_ends_with_its_schema() -> None:
    constraint = Constrainer(SHIPPED / "tokenizer.json", VOCABULARY, ()).constraint(PERSON)
    assert constraint is not None
    text = '{"name": "Tom", "age": 34}'
    assert follows(constraint, tokens(text)) == len(tokens(text))
    assert constraint.done


def test_a_tokenizer_that_cannot_be_constrained_refuses_schemas_and_leaves_calls_free(tmp_path: Any) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "WordLevel"}}')
    constrainer = Constrainer(tmp_path / "tokenizer.json", 10, {1})
    with pytest.raises(AiwmError) as refused:
        constrainer.constraint(PERSON)
    assert refused.value.code == Code.schema_unsupported
    assert "tokenizer" in str(refused.value)
    assert constrainer.constraint(None, TOOLS) is None
