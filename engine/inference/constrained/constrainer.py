"""From what a request asks for to a `Constraint` of its own: grammars compiled once, for one model's tokenizer."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.inference.constrained import grammar
from engine.inference.constrained.constraint import GrammarConstraint, LazyCalls
from engine.inference.constrained.schema import blamed, check_keywords, check_size, plain

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from engine.inference.backends.base import Constraint

KEPT = 64
"""Compiled grammars, those used last."""
KEPT_CHARS = 1_000_000
"""Characters of their texts together: a grammar takes some 40 times its text, 75 kB for a small schema, 4 MB for a hundred tools."""
# A lexer state takes 1 to 2 kB, and a process has as many lexers as requests: llguidance's own bound would be 500 MB a request.
MAX_LEXER_STATES = 20_000

_TAG, _END_TAG, _LISTING = "<tool_call>", "</tool_call>", "[TOOL_CALLS]"

Tools = Sequence[Mapping[str, Any]]


class Constrainer:
    """Makes the constraints of one loaded model. Any thread may ask; what it is given belongs to the asker.

    `tokenizer` is the model's tokenizer.json, read when it is first needed; `vocabulary` the width of its logits, `ends` the tokens that
    end an answer."""

    def __init__(self, tokenizer: Path, vocabulary: int, ends: Collection[int]) -> None:
        self._source = tokenizer
        self._vocabulary = vocabulary
        self._ends = sorted(ends)
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[bytes, tuple[LLMatcher, int]] = OrderedDict()
        self._chars = 0

    def constraint(
        self,
        schema: dict[str, Any] | None,
        tools: Tools = (),
        call_tools: Literal["auto", "required"] = "auto",
    ) -> Constraint | None:
        """What holds an answer to the schema, or to calls of the tools; None where it may be any text. A model that only may call tools is
        held to them once it begins a call. Raises schema_unsupported, which names the keyword, and bad_request."""
        if call_tools == "required":
            if not tools:
                raise AiwmError(
                    Code.bad_request, "a call is required, and there are no tools to call", field="call_tools"
                )
            return GrammarConstraint(self._calls("calls", tools))
        if schema is None:
            return self._lazy(tools) if tools else None
        return GrammarConstraint(self._answers(schema, tools))

    def _lazy(self, tools: Tools) -> LazyCalls | None:
        """None where this tokenizer or these tools allow no grammar: such calls are free text, which the gate checks like all others."""
        names = [str(tool["function"]["name"]) for tool in tools]
        try:
            bare, tagged, listed = (self._calls(form, tools) for form in ("bare", "tagged", "listed"))
        except AiwmError as error:
            print(f"tool calls are not constrained: {error}", file=sys.stderr)
            return None
        return LazyCalls(self._ready(), names, bare=bare, tagged=tagged, listed=listed)

    # -- grammars ----------------------------------------------------------------------------------------------------------

    def _answers(self, schema: dict[str, Any], tools: Tools) -> LLMatcher:
        text = check_size(schema)
        check_keywords(schema)
        key = _digest("answer", text, msgspec.json.encode(tools))
        with self._lock:
            known = self._known(key)
            if known is not None:
                return known
            useful = plain(schema)
            alone = self._compile(grammar.answer(useful))
            if alone.is_error():
                raise blamed(schema, alone.get_error())
            _check_begins(schema, alone)
            if not tools:
                return self._keep(key, alone, len(text))
            whole = grammar.call_or_answer(self._loosened(tools), useful, self._marks())
            both = self._compile(whole)
            if both.is_error():
                raise blamed(schema, both.get_error())
            return self._keep(key, both, len(whole))

    def _calls(self, form: str, tools: Tools) -> LLMatcher:
        """Calls in one form: `calls` (any of them), `bare`, `tagged` (after <tool_call>) or `listed` (after [TOOL_CALLS])."""
        key = _digest(form, msgspec.json.encode(tools))
        with self._lock:
            known = self._known(key)
            if known is not None:
                return known
            loose = self._loosened(tools)
            marks = self._marks()
            text = {
                "calls": lambda: grammar.calls(loose, marks),
                "bare": lambda: grammar.bare(loose),
                "tagged": lambda: grammar.within_tag(loose, marks),
                "listed": lambda: grammar.listed(loose),
            }[form]()
            made = self._compile(text)
            if made.is_error():
                raise AiwmError(
                    Code.schema_unsupported,
                    f"the tools' schemas together cannot be followed: {made.get_error()[:300]}",
                    field="tools",
                    fix="allow the worker fewer tools",
                )
            return self._keep(key, made, len(text))

    def _loosened(self, tools: Tools) -> Tools:
        """The tools, those whose arguments no grammar can express with any object as arguments: their calls are checked anyway."""
        if not self._compile(grammar.bare(tools)).is_error():
            return tools
        return [
            tool if not self._compile(grammar.bare([tool])).is_error() else grammar.with_any_arguments(tool)
            for tool in tools
        ]

    def _marks(self) -> grammar.Marks:
        return grammar.Marks(*(self._mark(text) for text in (_TAG, _END_TAG, _LISTING)))

    def _mark(self, text: str) -> str:
        tokenizer = self._ready_locked()
        tokens = tokenizer.tokenize_str(text, parse_special=True)
        if len(tokens) == 1 and tokenizer.is_special_token(tokens[0]):
            return f"<[{tokens[0]}]>"
        return f'"{text}"'

    # -- llguidance --------------------------------------------------------------------------------------------------------

    def _ready(self) -> LLTokenizer:
        with self._lock:
            return self._ready_locked()

    def _ready_locked(self) -> LLTokenizer:
        if self._tokenizer is None:
            from llguidance import LLTokenizer

            try:
                text = self._source.read_text("utf-8")
                # A model without end tokens ends by the token that its tokenizer takes for one.
                self._tokenizer = LLTokenizer(text, n_vocab=self._vocabulary, eos_token=self._ends or None)
            except Exception as error:
                raise AiwmError(
                    Code.schema_unsupported,
                    f"the tokenizer of this model cannot be constrained: {str(error)[:300]}",
                    field="schema",
                    fix="leave the schema out, or use another model",
                ) from error
        return self._tokenizer

    def _compile(self, text: str) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)
        return LLMatcher(self._ready_locked(), LLMatcher.grammar_from_lark(text), log_level=0, limits=limits)

    def _known(self, key: bytes) -> LLMatcher | None:
        """A matcher of its own at the beginning of this grammar. The one that is kept never moves."""
        kept = self._compiled.get(key)
        if kept is None:
            return None
        self._compiled.move_to_end(key)
        return kept[0].deep_copy()

    def _keep(self, key: bytes, matcher: LLMatcher, chars: int) -> LLMatcher:
        self._compiled[key] = matcher, chars
        self._chars += chars
        while len(self._compiled) > KEPT or (self._chars > KEPT_CHARS and len(self._compiled) > 1):
            self._chars -= self._compiled.popitem(last=False)[1][1]
        return matcher.deep_copy()


def _check_begins(schema: dict[str, Any], matcher: LLMatcher) -> None:
    """Raises schema_unsupported when nothing at all can be written: for a schema that contains itself without end, or is too complex."""
    trial = matcher.deep_copy()
    trial.compute_bitmask()
    error = trial.get_error()
    if "NoExtension" in error:
        raise AiwmError(
            Code.schema_unsupported, "schema: no JSON satisfies it", field="schema", fix="a schema with answers"
        )
    if trial.is_error():
        raise blamed(schema, error)


def _digest(form: str, *parts: bytes) -> bytes:
    return hashlib.sha256(b"\0".join((form.encode(), *parts))).digest()
