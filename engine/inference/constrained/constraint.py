"""Constraints at work: before each token of a request, which ones may come; after it, what follows. See `base.Constraint`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.contract.errors import AiwmError, Code

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# An answer that begins like one of these is a call: nothing else says `tool` first, or a tool's own name and then its arguments.
_BEGINS = rb'\s*(?:\[\s*)?\{\s*(?:"tool"\s*:|"name"\s*:\s*"(?:%s)"\s*,\s*"(?:arguments|parameters)"\s*:)'
_LISTED = re.compile(rb"\s*\[TOOL_CALLS\]")
_TAG = b"<tool_call>"
_KEPT = 32
"""Bytes of a free text: a tag that a token ends in begins in these."""
_LONGEST_BEGINNING = 512
"""Bytes. What has not shown by then to be a call as a whole is none."""


class GrammarConstraint:
    """A whole answer by one grammar."""

    __slots__ = ("_matcher",)

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def mask(self) -> bytes | None:
        mask: bytes = self._matcher.compute_bitmask()
        self._check()
        return mask

    def advance(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._check()

    @property
    def done(self) -> bool:
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        matcher = self._matcher
        if matcher.is_error() or (matcher.is_stopped() and not matcher.is_accepting()):
            why = str(matcher.get_error() or matcher.stop_reason()).split("\n", 1)[0][:200]
            raise AiwmError(
                Code.schema_unsupported,
                f"the answer cannot be held to its schema any further: {why}",
                field="schema",
                fix="a simpler schema: fewer alternatives, shorter patterns",
            )


class LazyCalls:
    """Free text, until it begins a call of a tool: from there on the call is held to the permitted tools and their arguments.

    Free text costs nothing but a look at its newest bytes. A call that no permitted tool could have (which a model begins all the same)
    stays free: the gate refuses it, and says to the model why. `bare`, `tagged` and `listed` are grammars at their beginning: of an answer
    that is a call, and of what follows <tool_call> or [TOOL_CALLS]."""

    __slots__ = ("_bare", "_begins", "_held", "_listed", "_tagged", "_text", "_tokenizer", "_whole")

    def __init__(
        self, tokenizer: LLTokenizer, names: Sequence[str], *, bare: LLMatcher, tagged: LLMatcher, listed: LLMatcher
    ) -> None:
        self._tokenizer = tokenizer
        self._begins = re.compile(_BEGINS % b"|".join(re.escape(name.encode()) for name in names))
        self._bare, self._tagged, self._listed = bare, tagged, listed
        self._text = b""
        self._whole = True  # it may still turn out to be a call as a whole
        self._held: GrammarConstraint | None = None

    def mask(self) -> bytes | None:
        return None if self._held is None else self._held.mask()

    def advance(self, token: int) -> None:
        if self._held is not None:
            self._held.advance(token)
            return
        text = self._text = self._text + self._tokenizer.decode_bytes([token])
        if _TAG in text:
            self._hold(self._tagged, text.partition(_TAG)[2])
        elif not self._whole:
            self._text = text[-_KEPT:]
        elif (found := _LISTED.match(text)) is not None:
            self._hold(self._listed, text[found.end() :])
        elif self._begins.match(text):
            self._hold(self._bare, text.lstrip())
        else:
            self._whole = text.lstrip()[:1] in (b"", b"{", b"[") and len(text) <= _LONGEST_BEGINNING

    @property
    def done(self) -> bool:
        return self._held is not None and self._held.done

    def _hold(self, matcher: LLMatcher, written: bytes) -> None:
        """Go on by a grammar of calls, from what is written of one."""
        self._whole, self._text = False, b""
        matcher = matcher.deep_copy()
        tokens = self._tokenizer.tokenize_bytes(written)
        if matcher.try_consume_tokens(tokens) == len(tokens):
            self._held = GrammarConstraint(matcher)
