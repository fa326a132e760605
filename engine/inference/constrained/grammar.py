"""Grammars as llguidance reads them (its Lark dialect, docs/syntax.md there): for an answer by a schema, and for tool calls.

A call may be written in any of the forms that `workers.calls` reads. Between JSON's marks stands at most one space, or a line's end with
its indentation: a small model that is let may write white space for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.contract.errors import AiwmError
from engine.inference.constrained.schema import check_keywords, check_size, subschemas

WHITE = r"( |\n[ \t]{0,40})"
MOST_CALLS = 8
# Every token that fits may come, not only that by which llguidance would split what is certain: the model knows its own spelling.
_OPTIONS = '%llguidance {"no_forcing": true}\n'
_FORMS = (("tool", "args"), ("name", "arguments"), ("name", "parameters"))
_ANYTHING = {"type": "object"}
_NAMES = {"$id", "$anchor"}


class Marks(msgspec.Struct, frozen=True):
    """How a tokenizer writes <tool_call>, </tool_call> and [TOOL_CALLS], as a grammar says it: as text, or as one special token."""

    tag: str
    end: str
    listing: str


def answer(schema: Mapping[str, Any]) -> str:
    """An answer that is one JSON value of this schema."""
    return f"{_OPTIONS}start: answer\nanswer: {_embedded(schema)}\n"


def call_or_answer(tools: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], marks: Marks) -> str:
    """Either calls of tools, or an answer by the schema."""
    return f"{_OPTIONS}start: answer | calls\nanswer: {_embedded(schema)}\n" + _calls(tools, marks)


def calls(tools: Sequence[Mapping[str, Any]], marks: Marks) -> str:
    """Calls of tools and nothing else."""
    return f"{_OPTIONS}start: calls\n" + _calls(tools, marks)


def bare(tools: Sequence[Mapping[str, Any]]) -> str:
    """One call, or a list of calls, that is the whole answer."""
    return f"{_OPTIONS}start: one | several\n{_white()}{_json(tools)}"


def within_tag(tools: Sequence[Mapping[str, Any]], marks: Marks) -> str:
    """What follows <tool_call>: a call, the closing tag, more of the same."""
    return f"{_OPTIONS}start: body ({marks.tag} body){{0,{MOST_CALLS - 1}}}\n{_body(marks)}{_json(tools)}"


def listed(tools: Sequence[Mapping[str, Any]]) -> str:
    """What follows [TOOL_CALLS]."""
    return f"{_OPTIONS}start: WHITE several\n{_white()}{_json(tools)}"


def _calls(tools: Sequence[Mapping[str, Any]], marks: Marks) -> str:
    tagged = f"({marks.tag} body){{1,{MOST_CALLS}}}"
    return f"calls: one | several | {marks.listing} WHITE several | {tagged}\n" + _body(marks) + _json(tools)


def _body(marks: Marks) -> str:
    return f"body: WHITE one WHITE {marks.end} WHITE\n{_white()}"


def _white() -> str:
    return "WHITE: /[ \\n]{0,2}/\n"


def _json(tools: Sequence[Mapping[str, Any]]) -> str:
    more = f'(WHITE "," WHITE one){{0,{MOST_CALLS - 1}}}'
    return f'one: {_embedded(call_schema(tools))}\nseveral: "[" WHITE one {more} WHITE "]"\n'


def call_schema(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A call as a JSON Schema: a permitted tool's name with arguments of its own schema, in each known form."""
    named = {
        str(number): _arguments(tool["function"]["parameters"], f"#/$defs/{number}")
        for number, tool in enumerate(tools)
    }
    alternatives = [
        {
            "type": "object",
            "properties": {name: {"const": tool["function"]["name"]}, given: {"$ref": f"#/$defs/{number}"}},
            "required": [name, given],
            "additionalProperties": False,
        }
        for number, tool in enumerate(tools)
        for name, given in _FORMS
    ]
    return {"$defs": named, "anyOf": alternatives}


def with_any_arguments(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool as one that takes any object."""
    return {"function": {"name": tool["function"]["name"], "parameters": _ANYTHING}}


def _arguments(parameters: Any, place: str) -> dict[str, Any]:
    """A tool's arguments, for this place of a larger schema. Where a grammar cannot express them any object may be written: the gate checks
    every call anyway."""
    if not isinstance(parameters, dict):
        return _ANYTHING
    try:
        check_size(parameters)
        check_keywords(parameters)
    except AiwmError:
        return _ANYTHING
    if any(_NAMES & part.keys() for _, part in subschemas(parameters, "")):
        return _ANYTHING
    moved: dict[str, Any] = _moved(parameters, place)
    return moved


def _moved(schema: Any, place: str) -> Any:
    """A schema whose references to itself find it at another place."""
    if isinstance(schema, list):
        return [_moved(part, place) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value[:1] == "#"
        else _moved(value, place)
        for key, value in schema.items()
    }


def _embedded(schema: Mapping[str, Any]) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": {"whitespace_pattern": WHITE}}, ensure_ascii=True)
