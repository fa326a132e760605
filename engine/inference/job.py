"""A request in a model process, from its arrival to its end, and what the engine is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.inference.backends.base import AdapterRef, Delta, Failed, Finished, Prepared
from engine.inference.protocol import AppliedAdapter, DeltaNote, DoneNote, FailedNote, Note

DELTA_INTERVAL = 1 / 30  # seconds between two pieces of one text on the pipe; the first goes at once


@dataclass(slots=True)
class Job:
    """Times are seconds on the monotonic clock. `waited_for` are the adapters that were not ready when its turn came."""

    prepared: Prepared
    arrived: float
    deadline: float | None
    admitted: bool = False
    waited_for: set[str] = field(default_factory=set)
    _first_token: float | None = None
    _pieces: list[str] = field(default_factory=list)  # text not yet on the pipe
    _tokens: int = 0  # tokens not yet on the pipe
    _counted: int = 0  # tokens that deltas told of
    _sent: float | None = None

    @property
    def id(self) -> str:
        return self.prepared.request.id

    @property
    def adapters(self) -> dict[str, AdapterRef]:
        """Its adapters by digest, each once."""
        return {ref.digest: ref for ref in self.prepared.request.adapters}

    def wrote(self, delta: Delta, now: float) -> list[Note]:
        """Pieces of one text are gathered for a thirtieth of a second."""
        if self._first_token is None:
            self._first_token = now
        self._pieces.append(delta.text)
        self._count(delta.tokens)
        if self._sent is not None and now - self._sent < DELTA_INTERVAL:
            return []
        self._sent = now
        return self.flushed()

    def flushed(self) -> list[Note]:
        if not self._pieces:
            return []
        note = DeltaNote(self.id, "".join(self._pieces), self._tokens)
        self._pieces, self._tokens = [], 0
        return [note]

    def _count(self, tokens: int) -> None:
        self._tokens += tokens
        self._counted += tokens

    def ended(self, finished: Finished, now: float) -> list[Note]:
        if finished.tokens_out > self._counted:  # tokens without text: special ones, or the beginning of a stop string
            self._pieces.append("")
            self._count(finished.tokens_out - self._counted)
        first = now if self._first_token is None else self._first_token
        done = DoneNote(
            id=self.id,
            reason=finished.reason,
            tokens_in=finished.tokens_in,
            tokens_out=finished.tokens_out,
            first_token_ms=(first - self.arrived) * 1000,
            total_ms=(now - self.arrived) * 1000,
            adapters=tuple(AppliedAdapter(a.name, a.digest, a.weight) for a in self.prepared.request.adapters),
            cached=finished.cached,
        )
        return [*self.flushed(), done]

    def failed(self, failed: Failed) -> list[Note]:
        return [*self.flushed(), FailedNote(self.id, failed.error.info)]


def tokens_told(notes: Iterable[Note]) -> int:
    """Tokens that these notes tell of."""
    return sum(note.tokens for note in notes if isinstance(note, DeltaNote))
