"""JSON Schemas for tests, a writer that lets chance choose among the tokens that a constraint allows, and one that takes a text as far as
it may go: with the shipped model's tokenizer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from hypothesis import strategies as st
from tokenizers import Tokenizer

from engine.inference.constrained.constrainer import Constrainer
from engine.tools.catalogue import all_tools

SHIPPED = Path(__file__).parents[2] / "engine/inference/shipped/aiwm-nano"
END = 2
VOCABULARY = 1280
LONGEST = 3_000

_NAMES = st.sampled_from(["name", "age", "a", "ünï", 'qu"ote', "with space", "tool", "args", "名前"])
_DATA = st.sampled_from([1, "x", None, True, "</data>", [1, 2], {"a": "b"}])
_SCALARS = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 8)),
    st.builds(lambda least: {"type": "string", "minLength": least, "maxLength": least + 3}, st.integers(0, 4)),
    st.sampled_from(
        [
            {"type": "string", "pattern": "^[a-c]{1,4}$"},
            {"type": "string", "pattern": "^(ja|nein) [0-9]{2}$"},
            {"type": "string", "format": "date"},
            {"type": "string", "format": "uuid"},
        ]
    ),
    st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, st.integers(-99, 99), st.integers(0, 500)),
    st.builds(lambda low: {"type": "number", "minimum": low, "maximum": low + 1}, st.integers(-9, 9)),
    st.builds(lambda some: {"enum": some}, st.lists(_DATA, min_size=1, max_size=4)),
    st.builds(lambda value: {"const": value}, st.sampled_from(["ä\n\"\\", 3.5, {"k": [None]}, ""])),
)  # fmt: skip


def _object(parts: dict[str, Any], required: int, closed: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": parts, "required": sorted(parts)[:required]}
    return schema | {"additionalProperties": False} if closed else schema | {"additionalProperties": {"type": "null"}}


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of every supported sort, whose answers are short."""
    inner = _inner()
    refers: dict[str, Any] = {
        "type": "array",
        "items": {"anyOf": [{"$ref": "#/$defs/it"}, {"type": "null"}]},
        "maxItems": 2,
    }
    return inner | st.builds(lambda it: {"$defs": {"it": it}, **refers}, inner)


def _inner() -> st.SearchStrategy[dict[str, Any]]:
    return st.recursive(
        _SCALARS,
        lambda inner: st.one_of(
            st.builds(_object, st.dictionaries(_NAMES, inner, max_size=4), st.integers(0, 4), st.booleans()),
            st.builds(
                lambda item, low, more: {"type": "array", "items": item, "minItems": low, "maxItems": low + more},
                inner,
                st.integers(0, 2),
                st.integers(0, 2),
            ),
            st.builds(lambda ways: {"anyOf": ways}, st.lists(inner, min_size=1, max_size=3)),
        ),
        max_leaves=6,
    )


class Constraint(Protocol):
    """As `backends.base.Constraint`."""

    @property
    def done(self) -> bool: ...
    def mask(self) -> bytes | None: ...
    def advance(self, token: int) -> None: ...


def tokenizer() -> Any:
    return Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))


def allowed(mask: bytes) -> list[int]:
    return [token for token in range(VOCABULARY) if mask[token // 8] >> token % 8 & 1]


def chance(constraint: Constraint, library: Any, seed: int) -> str:
    """A text that a model without any sense would write: tokens by chance, those that close something a bit likelier."""
    draw, tokens = random.Random(seed), []
    closing = {library.token_to_id(text) for text in ('"', "}", "]", '"}', '"]', '"}}')} - {None}
    while not constraint.done:
        mask = constraint.mask()
        assert mask is not None
        choice = allowed(mask)
        assert choice, "nothing may follow, and the text is not whole"
        close = [token for token in choice if token in closing or token == END]
        token = draw.choice(close if close and draw.random() < 0.4 else choice)
        if token == END:
            break
        tokens.append(token)
        assert len(tokens) < LONGEST
        constraint.advance(token)
    return str(library.decode(tokens))


def follows(constraint: Constraint, tokens: Sequence[int]) -> int:
    """How many of these tokens the constraint takes; all of them where the text may be this one."""
    for number, token in enumerate(tokens):
        mask = constraint.mask()
        if constraint.done or (mask is not None and not mask[token // 8] >> token % 8 & 1):
            return number
        constraint.advance(token)
    return len(tokens)


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
