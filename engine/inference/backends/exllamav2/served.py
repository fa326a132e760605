"""A model that was loaded and passed its probes, with its lanes and adapters."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.base import Event, Failed, LoadSpec, MemoryReport, Prepared, Progress
from engine.inference.backends.exllamav2 import probes, staging
from engine.inference.backends.exllamav2.failures import Failures, give_back, out_of_memory
from engine.inference.backends.exllamav2.lanes import Lane, Lanes, Parts
from engine.inference.backends.exllamav2.loading import Model, load_model
from engine.inference.backends.exllamav2.loras import Loras, Weights
from engine.inference.backends.exllamav2.plan import PAGE
from engine.inference.backends.exllamav2.running import Running

if TYPE_CHECKING:
    from engine.inference.adapter_files import AdapterFiles
    from engine.inference.backends.base import AdapterRef
    from engine.inference.backends.exllamav2.files import ModelFacts
    from engine.inference.backends.exllamav2.staging import Linear, Piece
    from engine.inference.backends.reference.tokenizer import Tokenizer
    from engine.inference.constrained.constrainer import Constrainer


@dataclass(frozen=True, slots=True)
class Served:
    """Everything that belongs to the loaded model. `linears` are the projections that adapters may change, none if exllamav2 applies no
    adapters to such models."""

    facts: ModelFacts
    tokenizer: Tokenizer
    constrainer: Constrainer
    model: Model
    linears: dict[str, Linear]
    loras: Loras
    lanes: Lanes
    failures: Failures = field(default_factory=Failures)

    @classmethod
    def load(
        cls, spec: LoadSpec, facts: ModelFacts, tokenizer: Tokenizer, constrainer: Constrainer, progress: Progress
    ) -> Served:
        """Raises model_invalid, model_refused, model_too_big."""
        model = load_model(spec, facts, progress)
        progress("checking what it computes", None)
        narrow = model.model.config.arch.lm.residual_stream_fp32
        linears = {} if narrow else staging.linears_of(model.model)
        loras = Loras(model.model, linears)
        tokens = min(facts.vocabulary, model.tokenizer.get_vocab_size())
        probe = probes.Probe(model.model, model.store.cache, model.store.count, spec.kv, tokens)
        probes.check_attention(probe)
        if linears:
            probes.check_adapters(probe, linears, loras)
        parts = Parts(model.model, model.tokenizer, model.store, loras, spec.slots, model.chunk)
        return cls(facts, tokenizer, constrainer, model, linears, loras, Lanes(parts))

    @property
    def context(self) -> int:
        return self.model.context

    @property
    def where(self) -> str:
        return ", ".join(_words(device) for device in self.model.devices)

    @property
    def kv_bytes(self) -> int:
        return self.model.store.size_bytes

    def unload(self) -> None:
        for lane in self.lanes.open:
            self.lanes.close(lane)
        self.model.model.unload()
        give_back()

    # -- adapters ------------------------------------------------------------------------------------------------------

    def stage(self, files: AdapterFiles) -> tuple[Piece, ...]:
        if not self.linears:
            raise staging.refuse_architecture(self.facts.architecture)
        return staging.stage(files, self.linears, "exllamav2")

    def upload(self, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        try:
            return staging.upload(pieces)
        except torch.OutOfMemoryError as error:
            failure = out_of_memory(error)
        give_back()
        raise failure

    # -- requests ------------------------------------------------------------------------------------------------------

    def admit(self, prepared: Prepared) -> bool:
        for adapter in prepared.request.adapters:
            if adapter.digest not in self.loras:
                raise AiwmError(Code.adapter_not_found, f"adapter {adapter.name} is not attached", field="adapters")
        weights = weights_of(prepared.request.adapters)
        if not self.lanes.has_room(weights):
            return False
        return self.lanes.admit(Running(prepared, self.tokenizer.decode, self.facts.end_tokens, self.context), weights)

    def step(self) -> list[Event]:
        events: list[Event] = []
        before = self.failures.count
        for lane in self.lanes.open:
            if lane.running:
                events += self._step(lane)
        if self.failures.count == before:
            self.failures.fine()
        return events

    def _step(self, lane: Lane) -> list[Event]:
        """A lane whose step fails is closed and its requests fail: what its generator holds is not known any more."""
        try:
            return lane.step()
        except Exception as error:
            failure = self.failures.met(error)
        failed: list[Event] = [Failed(request, failure) for request in lane.running]
        self.lanes.close(lane)
        give_back()
        return failed

    def memory(self) -> MemoryReport:
        devices = [device for device in self.model.devices if device.startswith("cuda")]
        tokens = self.lanes.pages_used * PAGE
        contexts = [context for context in self.model.model.device_context if context is not None]
        scratch = [
            tensor for it in contexts for tensor in (it.scratch, *(it.sin or ()), *(it.cos or ())) if tensor is not None
        ]
        return MemoryReport(
            weights_bytes=self.model.weights_bytes,
            kv_bytes=self.kv_bytes,
            kv_used_bytes=tokens * self.kv_bytes // (self.model.store.count * PAGE),
            adapters_bytes=self.loras.size_bytes,
            scratch_bytes=sum(tensor.nbytes for tensor in scratch),
            allocated_bytes=sum(torch.cuda.memory_allocated(device) for device in devices),
            reserved_bytes=sum(torch.cuda.memory_reserved(device) for device in devices),
        )


def weights_of(adapters: tuple[AdapterRef, ...]) -> Weights:
    """Which adapters work together and how strongly, however a request names and orders them."""
    weights: dict[str, float] = {}
    for adapter in adapters:
        weights[adapter.digest] = weights.get(adapter.digest, 0.0) + adapter.weight
    return tuple(sorted((digest, weight) for digest, weight in weights.items() if weight))


def _words(device: str) -> str:
    """GPU1 for a cuda:0 that is the driver's second GPU, as it numbers them."""
    if not device.startswith("cuda"):
        return device.upper()
    index = int(device.removeprefix("cuda:"))
    numbers = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return f"GPU{numbers[index] if index < len(numbers) and numbers[index].isdigit() else index}"
