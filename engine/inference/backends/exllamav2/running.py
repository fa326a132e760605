"""One admitted request: exllamav2's job for it, and what becomes of the tokens that the job samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from exllamav2.generator import ExLlamaV2DynamicJob, ExLlamaV2Sampler
from exllamav2.generator.filters import ExLlamaV2Filter

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.answer import Answer
from engine.inference.backends.base import Constraint, Delta, Event, Failed, Prepared, Sampling
from engine.inference.backends.exllamav2.plan import PAGE

if TYPE_CHECKING:
    from collections.abc import Collection

    from engine.inference.backends.reference.text import Decode


class Watch(ExLlamaV2Filter):  # type: ignore[misc]  # exllamav2 has no types
    """Sees a request's logits before they are sampled: allows what the constraint allows, and finds numbers that are none.

    It must not raise there, in the middle of a batch: `error` says afterwards what was wrong."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(None, None)
        self._prepared = prepared
        self._constraint: Constraint | None = prepared.constraint
        self._allowed: bytes | None = None
        self.token: Any = None  # what was sampled last, until it is taken
        self.error: AiwmError | None = None

    def look_ahead(self) -> None:
        """Ask the constraint what may come next. Raises its error."""
        if self._constraint is not None:
            self._allowed = self._constraint.mask()

    def can_mask_logits(self) -> bool:
        return True

    def begin(self, prefix_str: str) -> None:
        """A new text; nothing to do, it was asked about when it was admitted."""

    def feed(self, token: torch.Tensor) -> None:
        """A token was sampled. The constraint hears of it from the answer, which knows the end tokens."""
        self.token = token

    def prepare_logit_mask(self) -> bool:
        return True

    def mask_logits(self, logits: torch.Tensor) -> torch.Tensor:
        if self._allowed is not None:
            bits = np.unpackbits(np.frombuffer(self._allowed, np.uint8), count=len(logits), bitorder="little")
            logits.masked_fill_(torch.from_numpy(bits == 0), float("-inf"))
        best = float(logits.max())
        if not np.isfinite(best):
            self.error = _nothing_allowed() if best == float("-inf") else _not_a_number(self._prepared)
            logits.zero_()  # any token will do: it is not used
        return logits


class Running:
    """`job` is exllamav2's, `answer` the text."""

    __slots__ = ("_watch", "answer", "id", "job", "prepared")

    def __init__(self, prepared: Prepared, decode: Decode, ends: Collection[int], context: int) -> None:
        request = prepared.request
        self.prepared = prepared
        self.id = request.id
        self.answer = Answer(prepared, decode, ends, context)
        self._watch = Watch(prepared)
        self._watch.look_ahead()
        self.job: Any = ExLlamaV2DynamicJob(
            input_ids=torch.tensor([prepared.tokens], dtype=torch.long),
            max_new_tokens=self.answer.limit,
            gen_settings=_settings(request.sampling),
            seed=request.sampling.seed,
            stop_conditions=list(ends),
            filters=[self._watch],
            identifier=self.id,
        )

    def news(self) -> list[Event]:
        """What the last step made of it. It has ended if the last event is no delta."""
        watch = self._watch
        if watch.token is None:
            return []
        token, watch.token = int(watch.token), None
        if not self.answer.written:
            self.answer.cached = min(self.job.cached_pages * PAGE + self.job.cached_tokens, len(self.prepared.tokens))
        try:
            if watch.error is not None:
                raise watch.error
            events = self.answer.take(token)
            if not events or isinstance(events[-1], Delta):
                watch.look_ahead()
        except AiwmError as error:
            return [Failed(self.id, error)]
        return events


def _settings(sampling: Sampling) -> Any:
    """exllamav2's settings for ours; its own defaults are not neutral."""
    if sampling.temperature == 0.0 or sampling.top_p == 0.0:
        return ExLlamaV2Sampler.Settings.greedy()
    return ExLlamaV2Sampler.Settings(
        temperature=sampling.temperature, top_k=0, top_p=sampling.top_p, token_repetition_penalty=1.0
    )


def _nothing_allowed() -> AiwmError:
    return AiwmError(Code.schema_unsupported, "the schema allows no token that this model has here", field="schema")


def _not_a_number(prepared: Prepared) -> AiwmError:
    names = ", ".join(adapter.name for adapter in prepared.request.adapters)
    cause = f"the weights or adapter {names}" if names else "the weights"
    return AiwmError(
        Code.model_invalid,
        f"the model computed something that is not a number; {cause} may be damaged, or need more than 16 bits",
        fix="check the files against where they came from",
    )
