"""Answers by a schema: what a grammar lets through is of its schema, and nothing that is of it is kept out."""

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
from tests.support.schemas import (
    CONSTRAINER,
    END,
    LIBRARY,
    PERSON,
    SHIPPED,
    VOCABULARY,
    allowed,
    chance,
    follows,
    schemas,
    takes,
    tokens,
)


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


def test_a_model_without_end_tokens_ends_with_its_schema() -> None:
    constraint = Constrainer(SHIPPED / "tokenizer.json", VOCABULARY, ()).constraint(PERSON)
    assert constraint is not None
    text = '{"name": "Tom", "age": 34}'
    assert follows(constraint, tokens(text)) == len(tokens(text))
    assert constraint.done
