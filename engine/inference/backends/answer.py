"""The text of one running request, token by token: what may be shown, and where it ends."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from engine.inference.backends.base import Delta, Event, Finished, FinishReason, Prepared
from engine.inference.backends.reference.text import Detokenizer, StopStrings

if TYPE_CHECKING:
    from engine.inference.backends.reference.text import Decode


class Answer:
    """`limit` is the most tokens that it may have; `cached` how many of the prompt's tokens were not read again."""

    __slots__ = ("_ends", "_prepared", "_reported", "_stops", "_text", "cached", "limit", "written")

    def __init__(self, prepared: Prepared, decode: Decode, ends: Collection[int], context: int) -> None:
        sampling = prepared.request.sampling
        self._prepared = prepared
        self._ends = ends
        self._text = Detokenizer(decode)
        self._stops = StopStrings(sampling.stop)
        self._reported = 0  # tokens counted in deltas
        self.limit = min(sampling.max_tokens, context - len(prepared.tokens))
        self.written = 0
        self.cached = 0

    def take(self, token: int) -> list[Event]:
        """What becomes of the text with this token; `Finished` comes last if it ends here. Raises the constraint's error."""
        if token in self._ends:
            return self._end(self._rest(), "stop")
        self.written += 1
        text, stopped = self._stops.push(self._text.push(token))
        if stopped:
            return self._end(text, "stop")
        if (constraint := self._prepared.constraint) is not None:
            constraint.advance(token)
            if constraint.done:
                return self._end(text + self._rest(), "stop")
        if self.written < self.limit:
            return self._delta(text)
        return self._end(text + self._rest(), "length")

    def finished(self, reason: FinishReason) -> Finished:
        return Finished(self._prepared.request.id, reason, len(self._prepared.tokens), self.written, self.cached)

    def _end(self, text: str, reason: FinishReason) -> list[Event]:
        return [*self._delta(text), self.finished(reason)]

    def _delta(self, text: str) -> list[Event]:
        if not text:
            return []
        tokens, self._reported = self.written - self._reported, self.written
        return [Delta(self._prepared.request.id, text, tokens)]

    def _rest(self) -> str:
        """What was held back of a text that has ended: half characters, beginnings of stop strings."""
        text, stopped = self._stops.push(self._text.finish())
        return text if stopped else text + self._stops.finish()
