"""One admitted request: where it is in the cache, and how its tokens are chosen."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.answer import Answer
from engine.inference.backends.base import Event, Finished, FinishReason, Prepared
from engine.inference.backends.reference.sampling import Sampler, allow

if TYPE_CHECKING:
    from engine.inference.backends.reference.blend import AdapterWeights
    from engine.inference.backends.reference.text import Decode
    from engine.inference.backends.reference.weights import FloatArray


class Running:
    """`row` is its row of the cache, `length` the tokens in it, `newest` the token sampled last, which is not in it yet."""

    __slots__ = ("_answer", "_prompt", "adapters", "id", "length", "newest", "prepared", "row", "sampler")

    def __init__(self, prepared: Prepared, row: int, decode: Decode, ends: Collection[int], context: int) -> None:
        request = prepared.request
        self.prepared = prepared
        self.id = request.id
        self.row = row
        self.length = 0
        self.newest = 0
        self.sampler = Sampler(request.sampling)
        self.adapters: AdapterWeights = tuple((adapter.digest, adapter.weight) for adapter in request.adapters)
        self._prompt = len(prepared.tokens)
        self._answer = Answer(prepared, decode, ends, context)

    @property
    def unread(self) -> int:
        """Prompt tokens that no step has read yet."""
        return self._prompt - self.length

    def choose(self, logits: FloatArray, best: int) -> int:
        """The next token, from its logits [vocabulary], which this may change; `best` is where they are largest. Raises AiwmError."""
        constraint = self.prepared.constraint
        mask = None if constraint is None else constraint.mask()
        if mask is None and self.sampler.greedy:
            return best
        if mask is not None and not allow(logits, mask):
            raise AiwmError(
                Code.schema_unsupported, "this model has no token that continues a text of this schema", field="schema"
            )
        return self.sampler.choose(logits)

    def take(self, token: int) -> list[Event]:
        """What becomes of the text with this token; `Finished` comes last if it ends here. Raises AiwmError."""
        self.newest = token
        return self._answer.take(token)

    def finished(self, reason: FinishReason) -> Finished:
        return self._answer.finished(reason)
