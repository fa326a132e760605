"""The exllamav2 backend: continuous batching over lanes.

    prepare   text → tokens (any thread)
    admit     a request gets a place in the lane of its adapters, and pages for its whole text
    step      every lane that has requests reads on in their prompts and writes a token for each (`lanes`)

This module imports neither torch nor exllamav2: `load` does, so that a process that cannot have them says why."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.contract.errors import AiwmError, Code
from engine.inference.adapter_files import verified_files
from engine.inference.backends.base import (
    AdapterRef,
    Event,
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
from engine.inference.backends.exllamav2 import plan as planning
from engine.inference.backends.exllamav2.files import check_sizes, read_facts
from engine.inference.backends.exllamav2.library import import_library
from engine.inference.backends.reference.sampling import check_sampling
from engine.inference.backends.reference.tokenizer import Tokenizer
from engine.inference.constrained.constrainer import Constrainer

if TYPE_CHECKING:
    from engine.inference.backends.exllamav2.served import Served


class ExllamaV2Backend:
    """See `base.Backend`. Everything but `plan`, `prepare`, `stage` and `upload` belongs to one thread."""

    name = "exllamav2"

    def __init__(self) -> None:
        self._current: Served | None = None

    # -- the model -------------------------------------------------------------------------------------------------

    def plan(self, spec: LoadSpec) -> MemoryPlan:
        return planning.plan(spec)

    def load(self, spec: LoadSpec, progress: Progress = quietly) -> Loaded:
        if spec.slots < 1 or (spec.context is not None and spec.context < 2):
            raise AiwmError(Code.bad_request, "a model needs at least 1 slot and a context of 2", field="slots")
        self.unload()
        facts = read_facts(spec.model)
        check_sizes(facts)
        tokenizer = Tokenizer(spec.model, facts.vocabulary)
        import_library(spec.devices, progress)
        from engine.inference.backends.exllamav2.served import Served

        constrainer = Constrainer(spec.model / "tokenizer.json", facts.vocabulary, facts.end_tokens)
        self._current = served = Served.load(spec, facts, tokenizer, constrainer, progress)
        return Loaded(
            backend=self.name,
            context=served.context,
            slots=spec.slots,
            parameters=planning.plan(spec).parameters,
            weights_bytes=served.model.weights_bytes,
            kv_bytes=served.kv_bytes,
            vocabulary=facts.vocabulary,
            chat_template=tokenizer.has_template,
            where=served.where,
        )

    def unload(self) -> None:
        if self._current is not None:
            self._current.unload()
        self._current = None

    def _served(self) -> Served:
        if self._current is None:
            raise AiwmError(Code.model_unavailable, "no model is loaded in this process", retryable=True)
        return self._current

    # -- requests and adapters, before they take part ----------------------------------------------------------------

    def prepare(self, request: Request) -> Prepared:
        served = self._served()
        check_sampling(request.sampling)
        for adapter in request.adapters:
            if not math.isfinite(adapter.weight):
                raise AiwmError(
                    Code.bad_request, f"the weight of adapter {adapter.name} is {adapter.weight}", field="adapters"
                )
        if (request.prompt is None) == (request.messages is None):
            raise AiwmError(Code.bad_request, "a request has either a prompt or messages", field="messages")
        if request.messages is not None:
            prompt, tokens = served.tokenizer.converse(request.messages, request.tools)
        else:
            prompt = request.prompt or ""
            tokens = served.tokenizer.encode(prompt)
        if not tokens:
            raise AiwmError(Code.bad_request, "the prompt is empty", field="prompt")
        if len(tokens) >= served.context:
            raise AiwmError(
                Code.prompt_too_long,
                f"the prompt has {len(tokens)} tokens; this model holds {served.context}, the answer included",
                field="messages",
                fix="shorten the prompt or load the model with a longer context",
            )
        constraint = served.constrainer.constraint(request.schema, request.tools, request.call_tools)
        return Prepared(request, prompt, tokens, constraint)

    def stage(self, ref: AdapterRef) -> StagedAdapter:
        with verified_files(ref.name, ref.path, ref.digest, ref.marks) as files:
            content = self._served().stage(files)
        size = sum(piece.data.nbytes for piece in content)
        return StagedAdapter(ref, size, size, content)

    def upload(self, staged: StagedAdapter) -> ResidentAdapter:
        assert isinstance(staged.content, tuple)
        return ResidentAdapter(staged.ref, staged.resident_bytes, self._served().upload(staged.content))

    def attach(self, resident: ResidentAdapter) -> None:
        assert isinstance(resident.content, tuple)
        self._served().loras.attach(resident.ref.digest, resident.content)

    def detach(self, digest: str) -> int:
        served = self._served()
        return served.loras.detach(digest) if served.lanes.release(digest) else 0

    # -- the batch -------------------------------------------------------------------------------------------------

    def admit(self, prepared: Prepared) -> bool:
        return self._served().admit(prepared)

    def cancel(self, request_id: str, reason: FinishReason = "cancelled") -> Finished | None:
        running = self._served().lanes.cancel(request_id)
        return running.answer.finished(reason) if running is not None else None

    def step(self) -> list[Event]:
        return self._current.step() if self._current is not None else []

    def active(self) -> int:
        return len(self._current.lanes) if self._current is not None else 0

    def memory(self) -> MemoryReport:
        return self._current.memory() if self._current is not None else MemoryReport(0, 0, 0, 0)
