"""One admitted request: what it asked for, and how far its text has come."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.base import Delta, Event, Finished, FinishReason, Prepared
from engine.inference.backends.reference.sampling import Sampler, allow
from engine.inference.backends.reference.text import Detokenizer, StopStrings

if TYPE_CHECKING:
    from engine.inference.backends.reference.blend import AdapterWeights
    from engine.inference.backends.reference.text import Decode
    from engine.inference.backends.reference.weights import FloatArray


class Running:
    """`row` is its row of the cache, `length` the tokens in it, `newest` the token sampled last, which is not in it yet."""

    __slots__ = ("_constraint", "_limit", "_prompt", "_reported", "_stops", "_text", "_written", "adapters", "id", "length", "newest",
                 "prepared", "row", "sampler")  # fmt: skip

    def __init__(self, prepared: Prepared, row: int, decode: Decode, context: int) -> None:
        request = prepared.request
        self.prepared = prepared
        self.id = request.id
        self.row = row
        self.length = 0
        self.newest = 0
        self.sampler = Sampler(request.sampling)
        self.adapters: AdapterWeights = tuple((adapter.digest, adapter.weight) for adapter in request.adapters)
        self._constraint = prepared.constraint
        self._prompt = len(prepared.tokens)
        self._limit = min(request.sampling.max_tokens, context - self._prompt)
        self._text = Detokenizer(decode)
        self._stops = StopStrings(request.sampling.stop)
        self._written = 0  # tokens sampled
        self._reported = 0  # of these, counted in deltas

    @property
    def unread(self) -> int:
        """Prompt tokens that no step has read yet."""
        return self._prompt - self.length

    def choose(self, logits: FloatArray, best: int) -> int:
        """The next token, from its logits [vocabulary], which this may change; `best` is where they are largest. Raises AiwmError."""
        mask = None if self._constraint is None else self._constraint.mask()
        if mask is None and self.sampler.greedy:
            return best
        if mask is not None and not allow(logits, mask):
            raise AiwmError(
                Code.schema_unsupported, "this model has no token that continues a text of this schema", field="schema"
            )
        return self.sampler.choose(logits)

    def take(self, token: int, ends: Collection[int]) -> list[Event]:
        """What becomes of the text with this token; `Finished` comes last if it ends here. Raises AiwmError."""
        if token in ends:
            return [*self._delta(self._rest()), self.finished("stop")]
        self.newest = token
        self._written += 1
        if self._constraint is not None:
            self._constraint.advance(token)
        text, stopped = self._stops.push(self._text.push(token))
        if stopped:
            return [*self._delta(text), self.finished("stop")]
        if self._constraint is not None and self._constraint.done:
            return [*self._delta(text + self._rest()), self.finished("stop")]
        if self._written < self._limit:
            return self._delta(text)
        return [*self._delta(text + self._rest()), self.finished("length")]

    def finished(self, reason: FinishReason) -> Finished:
        return Finished(self.id, reason, self._prompt, self._written)

    def _delta(self, text: str) -> list[Event]:
        if not text:
            return []
        tokens, self._reported = self._written - self._reported, self._written
        return [Delta(self.id, text, tokens)]

    def _rest(self) -> str:
        """What was held back of a text that has ended: half characters, beginnings of stop strings."""
        text, stopped = self._stops.push(self._text.finish())
        return text if stopped else text + self._stops.finish()
