"""The reference backend: continuous batching over `model.Model`.

    prepare   text → tokens (any thread)
    admit     a request takes a slot and waits for its prompt to be read
    step      one pass over the weights: the newest token of every request that writes, and the next stretch of the prompts
              that wait (`roster`); then a new token for each (`sampling`), and its text (`running`)

Requests join and leave between any two steps; nothing waits for a batch to be full or to finish."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.contract.errors import AiwmError, Code
from engine.inference.adapter_files import verified_files
from engine.inference.backends.base import (
    AdapterRef,
    Event,
    Failed,
    Finished,
    FinishReason,
    Loaded,
    LoadSpec,
    MemoryPlan,
    MemoryReport,
    Prepared,
    Progress,
    Request,
    ResidentAdapter,
    StagedAdapter,
    quietly,
)
from engine.inference.backends.reference.adapters import Adapters, FusedLayers, fused_bytes
from engine.inference.backends.reference.blend import Blender
from engine.inference.backends.reference.cache import KVCache
from engine.inference.backends.reference.config import ModelConfig, read_config
from engine.inference.backends.reference.memory import plan_memory
from engine.inference.backends.reference.model import Model
from engine.inference.backends.reference.roster import LARGEST_CHUNK, Roster
from engine.inference.backends.reference.running import Running
from engine.inference.backends.reference.safetensors import TensorDirectory
from engine.inference.backends.reference.sampling import check_sampling
from engine.inference.backends.reference.tokenizer import Tokenizer
from engine.inference.backends.reference.weights import FloatArray, read_weights
from engine.inference.constrained.constrainer import Constrainer


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Everything that belongs to the loaded model."""

    model: Model
    tokenizer: Tokenizer
    roster: Roster
    constrainer: Constrainer
    adapters: Adapters


@dataclass(slots=True)
class _Resident:
    layers: FusedLayers
    size_bytes: int


class ReferenceBackend:
    """See `base.Backend`. Everything but `plan`, `prepare`, `stage` and `upload` belongs to one thread."""

    name = "reference"

    def __init__(self) -> None:
        self._current: _Loaded | None = None
        self._adapters: dict[str, _Resident] = {}
        self._layers: dict[str, FusedLayers] = {}
        self._blender = Blender(self._layers)

    # -- the model -------------------------------------------------------------------------------------------------

    def plan(self, spec: LoadSpec) -> MemoryPlan:
        return self._plan(spec)[0]

    def _plan(self, spec: LoadSpec) -> tuple[MemoryPlan, ModelConfig, TensorDirectory]:
        config = read_config(spec.model)
        tensors = TensorDirectory(spec.model)
        return plan_memory(config, tensors, spec, LARGEST_CHUNK), config, tensors

    def load(self, spec: LoadSpec, progress: Progress = quietly) -> Loaded:
        if spec.slots < 1 or (spec.context is not None and spec.context < 2):
            raise AiwmError(Code.bad_request, "a model needs at least 1 slot and a context of 2", field="slots")
        self.unload()
        progress("reading the headers", None)
        plan, config, tensors = self._plan(spec)
        if not plan.fits:
            message = f"{spec.model.name} does not fit here: {plan.reason}"
            raise AiwmError(Code.model_too_big, message, field="model", fix=plan.advice)
        context = min(spec.context or config.context, config.context)
        tokenizer = Tokenizer(spec.model, config.vocabulary)
        weights = read_weights(tensors, config, progress)
        cache = KVCache(config, spec.slots, context)
        constrainer = Constrainer(spec.model / "tokenizer.json", config.vocabulary, config.end_tokens)
        roster = Roster(cache, plan.parameters)
        model, adapters = Model(config, weights, context), Adapters(config, weights.layers)
        self._current = _Loaded(model, tokenizer, roster, constrainer, adapters)
        return Loaded(
            backend=self.name,
            context=context,
            slots=spec.slots,
            parameters=plan.parameters,
            weights_bytes=weights.nbytes,
            kv_bytes=cache.data.nbytes,
            vocabulary=config.vocabulary,
            chat_template=tokenizer.has_template,
        )

    def unload(self) -> None:
        self._current = None
        self._adapters.clear()
        self._layers.clear()
        self._blender = Blender(self._layers)

    def _loaded(self) -> _Loaded:
        if self._current is None:
            raise AiwmError(Code.model_unavailable, "no model is loaded in this process", retryable=True)
        return self._current

    # -- requests and adapters, before they take part ----------------------------------------------------------------

    def prepare(self, request: Request) -> Prepared:
        loaded = self._loaded()
        check_sampling(request.sampling)
        for adapter in request.adapters:
            if not math.isfinite(adapter.weight):
                raise AiwmError(
                    Code.bad_request, f"the weight of adapter {adapter.name} is {adapter.weight}", field="adapters"
                )
        if (request.prompt is None) == (request.messages is None):
            raise AiwmError(Code.bad_request, "a request has either a prompt or messages", field="messages")
        if request.messages is not None:
            prompt, tokens = loaded.tokenizer.converse(request.messages, request.tools)
        else:
            prompt = request.prompt or ""
            tokens = loaded.tokenizer.encode(prompt)
        if not tokens:
            raise AiwmError(Code.bad_request, "the prompt is empty", field="prompt")
        context = loaded.roster.cache.context
        if len(tokens) >= context:
            raise AiwmError(
                Code.prompt_too_long,
                f"the prompt has {len(tokens)} tokens; this model holds {context}, the answer included",
                field="messages",
                fix="shorten the prompt or load the model with a longer context",
            )
        constraint = loaded.constrainer.constraint(request.schema, request.tools, request.call_tools)
        return Prepared(request, prompt, tokens, constraint)

    def stage(self, ref: AdapterRef) -> StagedAdapter:
        adapters = self._loaded().adapters
        with verified_files(ref.name, ref.path, ref.digest, ref.marks) as files:
            layers = adapters.load(files)
        size = fused_bytes(layers)
        return StagedAdapter(ref, size, size, layers)

    def upload(self, staged: StagedAdapter) -> ResidentAdapter:
        """The host's memory is where steps use it: it is there."""
        return ResidentAdapter(staged.ref, staged.resident_bytes, staged.content)

    def attach(self, resident: ResidentAdapter) -> None:
        layers = resident.content
        assert isinstance(layers, tuple)
        self._adapters[resident.ref.digest] = _Resident(layers, resident.size_bytes)
        self._layers[resident.ref.digest] = layers

    def detach(self, digest: str) -> int:
        everyone = self._current.roster.everyone() if self._current else []
        if any(digest == used for running in everyone for used, _ in running.adapters):
            return 0
        resident = self._adapters.pop(digest, None)
        self._layers.pop(digest, None)
        self._blender.forget(digest)
        return resident.size_bytes if resident else 0

    # -- the batch -------------------------------------------------------------------------------------------------

    def admit(self, prepared: Prepared) -> bool:
        loaded = self._loaded()
        roster = loaded.roster
        if len(roster) == roster.cache.rows:
            return False
        for adapter in prepared.request.adapters:
            if adapter.digest not in self._adapters:
                raise AiwmError(Code.adapter_not_found, f"adapter {adapter.name} is not attached", field="adapters")
        ends = loaded.model.config.end_tokens
        roster.add(Running(prepared, len(roster), loaded.tokenizer.decode, ends, roster.cache.context))
        return True

    def cancel(self, request_id: str, reason: FinishReason = "cancelled") -> Finished | None:
        roster = self._loaded().roster
        for running in roster.everyone():
            if running.id == request_id:
                roster.remove(running)
                return running.finished(reason)
        return None

    def active(self) -> int:
        return len(self._current.roster) if self._current else 0

    def step(self) -> list[Event]:
        if not self.active():
            return []
        model, roster = self._loaded().model, self._loaded().roster
        turn = roster.next_turn()
        logits = model.forward(turn.batch, roster.cache, self._blender.blend(turn.shares()))
        roster.done(turn)
        return self._write(turn.sampled, logits) if turn.sampled else []

    def _write(self, sampled: tuple[Running, ...], logits: FloatArray) -> list[Event]:
        """Choose a token for each of these requests and say what became of it."""
        loaded = self._loaded()
        events: list[Event] = []
        for running, scores, best in zip(sampled, logits, logits.argmax(axis=1).tolist(), strict=True):
            try:
                if not math.isfinite(scores[best]):
                    raise _not_a_number(running)
                outcome = running.take(running.choose(scores, best))
            except AiwmError as error:
                outcome = [Failed(running.id, error)]
            if outcome and isinstance(outcome[-1], Finished | Failed):
                loaded.roster.remove(running)
            events += outcome
        return events

    def memory(self) -> MemoryReport:
        if self._current is None:
            return MemoryReport(0, 0, 0, 0)
        cache = self._current.roster.cache
        return MemoryReport(
            weights_bytes=self._current.model.weights.nbytes,
            kv_bytes=cache.data.nbytes,
            kv_used_bytes=sum(running.length for running in self._current.roster.everyone()) * cache.token_bytes,
            adapters_bytes=sum(resident.size_bytes for resident in self._adapters.values()),
        )


def _not_a_number(running: Running) -> AiwmError:
    names = ", ".join(adapter.name for adapter in running.prepared.request.adapters)
    cause = f"the weights or adapter {names}" if names else "the weights"
    return AiwmError(
        Code.model_invalid,
        f"the model computed something that is not a number; {cause} may be damaged",
        fix="check the files against where they came from",
    )
