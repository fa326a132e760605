"""One prompt under several adapters: the same text, the same seed, each variant a call of its own with leave from the budget."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from typing import Any

import msgspec

from engine.contract.definitions import WorkerDefinition
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.ids import task_id, task_seq
from engine.contract.models import model_name
from engine.contract.requests.comparisons import (
    AdapterCompare,
    Answer,
    AppliedAdapter,
    Comparison,
    PromptText,
    TaskCompare,
)
from engine.control.adapters.variants import Variant, variants
from engine.control.budget import Budget
from engine.control.catalogue import Catalogue
from engine.control.execution import TaskContext
from engine.control.fleet import ModelKeeper
from engine.control.slots import Slots
from engine.inference.adapters.book import AdapterBook
from engine.ports import EventSink, GenerateRequest, Keys, Models, Outcome
from engine.store.readers import Readers
from engine.store.rows import StoredTask
from engine.workers.kinds.goat import read_payload, request_for
from engine.workers.template import TaskInput

_SEEDS = 2**31
_KIND = "goat"


class Comparing:
    """Compares. `ensure` brings a model up in the background."""

    def __init__(
        self,
        models: Models,
        budget: Budget,
        slots: Slots,
        keeper: ModelKeeper,
        catalogue: Catalogue,
        book: AdapterBook,
        readers: Readers,
        events: EventSink,
        keys: Keys | None,
    ) -> None:
        self._models = models
        self._budget = budget
        self._slots = slots
        self._keeper = keeper
        self._catalogue = catalogue
        self._book = book
        self._readers = readers
        self._events = events
        self._keys = keys
        self._numbers = itertools.count(1)

    # -- what was read -----------------------------------------------------------------------------------------------

    def prompt(self, identifier: str) -> PromptText:
        """What a task's model read. Raises not_found, `conflict` before it has run, `bad_request` when its kind reads no prompt."""
        stored, payload = self._stored(identifier)
        kept = self._readers.prompt(stored.seq)
        if kept is not None:
            return PromptText(id=identifier, text=kept, kept=True)
        if not stored.attempt:
            raise AiwmError(
                Code.conflict, f"{identifier} has not run yet: no model has read it", field="id", retryable=True
            )
        request = self._request(stored, payload)
        text = "\n".join(f"[{message.role}]\n{message.content}" for message in request.messages)
        note = "not kept: these are the messages that would be sent now"
        return PromptText(id=identifier, text=text, kept=False, note=note)

    # -- comparing ---------------------------------------------------------------------------------------------------

    async def task(self, asked: TaskCompare, by: str) -> Comparison:
        """A task's prompt again. Raises what is wrong with the task or what is asked; what fails in one variant is its answer."""
        stored, payload = self._stored(asked.id)
        request = self._request(stored, payload)
        kept = self._readers.prompt(stored.seq)
        if kept is not None:
            request = msgspec.structs.replace(request, prompt=kept)
        chosen = await self._variants(asked.adapters, asked.weights, "adapters")
        found = await self._compare(self._definition(stored), request, chosen, asked, by, asked.id)
        result, _ = self._readers.result(stored.seq)
        original = msgspec.json.decode(result) if result is not None else None
        text = original.get("text") if isinstance(original, dict) else None
        return msgspec.structs.replace(found, original=text if isinstance(text, str) else "", kept=kept is not None)

    async def given(self, asked: AdapterCompare, by: str) -> Comparison:
        """A prompt that was given. Raises as `task` does."""
        if not asked.prompt:
            raise AiwmError(Code.bad_request, "a prompt is needed", field="prompt", fix='--prompt "…"')
        names = asked.names if len(asked.names) > 1 or asked.weights else ("base", *asked.names)
        chosen = await self._variants(names, asked.weights, "names")
        definition = self._catalogue.worker(asked.definition) if asked.definition else self._of_base(chosen)
        request = request_for(read_payload({"prompt": asked.prompt}), definition, None)
        return await self._compare(definition, request, chosen, asked, by, "")

    async def _compare(
        self,
        definition: WorkerDefinition,
        request: GenerateRequest,
        chosen: list[Variant],
        asked: TaskCompare | AdapterCompare,
        by: str,
        about: str,
    ) -> Comparison:
        request = _drawn(request, asked)
        model = model_name(definition)
        self._keeper.check(model)
        self._keeper.ensure(model)
        texts = "; ".join(variant.label for variant in chosen)
        self._events.emit("info", "adapter.compared", about or model, texts[:500], who=by)
        runs = await asyncio.gather(*(self._run(definition, request, variant) for variant in chosen))
        prompt = request.prompt or next((outcome.prompt for outcome, _ in runs if outcome is not None), "")
        answers = [_answer(variant, *run, prompt) for variant, run in zip(chosen, runs, strict=True)]
        seed = request.sampling.seed
        assert seed is not None
        return Comparison(
            about=about,
            model=model,
            definition=definition.name,
            prompt=prompt or "\n".join(message.content for message in request.messages),
            kept=False,
            seed=seed,
            answers=answers,
        )

    async def _run(
        self, definition: WorkerDefinition, request: GenerateRequest, variant: Variant
    ) -> tuple[Outcome | None, ErrorInfo | None]:
        """One variant, as one call of the definition's."""
        work = TaskInput(id=f"compare/{next(self._numbers)}", attempt=1, payload={})
        context = TaskContext(self._models, self._budget, definition, work, _unheard, _unheard, keys=self._keys)
        names = tuple(use.name for use in variant.adapters)
        try:
            with self._slots.held(model_name(definition), names) as context.replica:
                generation = await context.generate(msgspec.structs.replace(request, adapters=variant.adapters))
                async for _ in generation:
                    pass
                return generation.outcome, None
        except AiwmError as error:
            return None, error.info
        finally:
            await asyncio.shield(context.close())

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _variants(self, texts: tuple[str, ...], weights: tuple[float, ...], field: str) -> list[Variant]:
        """What is compared, by exact names. Raises `bad_request`, adapter_not_found, what is wrong with an adapter."""
        exact = []
        try:
            for variant in variants(texts, weights, field):
                uses = [
                    msgspec.structs.replace(use, name=(await self._book.resolve(use.name)).name)
                    for use in variant.adapters
                ]
                exact.append(Variant(variant.label, tuple(uses)))
        except AiwmError as error:
            raise AiwmError.of(msgspec.structs.replace(error.info, field=field)) from None
        return exact

    def _of_base(self, chosen: list[Variant]) -> WorkerDefinition:
        """A worker for the base model of the adapters, where nobody is named."""
        for variant in chosen:
            for use in variant.adapters:
                base = self._book.get(use.name).base
                if base:
                    return WorkerDefinition(name="compare", kind=_KIND, model=base)
        raise AiwmError(
            Code.bad_request, "nobody says which model is to be asked", field="definition", fix="--definition NAME"
        )

    def _stored(self, identifier: str) -> tuple[StoredTask, dict[str, Any]]:
        seq = task_seq(identifier)
        stored, payload = self._readers.task(seq), self._readers.payload(seq)
        if stored is None or payload is None:
            raise AiwmError(Code.not_found, f'task "{task_id(seq)}" does not exist', field="id", fix="aiwm task list")
        decoded: dict[str, Any] = msgspec.json.decode(payload)
        return stored, decoded

    def _definition(self, stored: StoredTask) -> WorkerDefinition:
        name = stored.definition or stored.wanted
        if name is None:
            raise AiwmError(
                Code.bad_request,
                f"{task_id(stored.seq)} has not run: nobody knows which worker would take it",
                field="id",
            )
        definition = self._catalogue.worker(name)
        if definition.kind != _KIND:
            raise AiwmError(
                Code.bad_request, f"{name} is of the kind {definition.kind}, which reads no prompt", field="id"
            )
        return definition

    def _request(self, stored: StoredTask, payload: dict[str, Any]) -> GenerateRequest:
        definition = self._definition(stored)
        return request_for(read_payload(payload), definition, None)


def _drawn(request: GenerateRequest, asked: TaskCompare | AdapterCompare) -> GenerateRequest:
    """With the sampling that is asked for, and a seed that all variants share."""
    sampling = request.sampling
    bounds = (("max_tokens", 1, 1_000_000), ("temperature", 0, 10), ("seed", 0, 2**63 - 1))
    for name, low, high in bounds:
        value = getattr(asked, name)
        if value is None:
            continue
        if not low <= value <= high:
            raise AiwmError(Code.bad_request, f"{name} is {value}, but must lie between {low} and {high}", field=name)
        sampling = msgspec.structs.replace(sampling, **{name: value})
    if sampling.seed is None:
        sampling = msgspec.structs.replace(sampling, seed=secrets.randbelow(_SEEDS))
    return msgspec.structs.replace(request, sampling=sampling)


def _answer(variant: Variant, outcome: Outcome | None, error: ErrorInfo | None, prompt: str) -> Answer:
    answer = Answer(label=variant.label, asked=variant.adapters, error=error)
    if outcome is None:
        return answer
    return msgspec.structs.replace(
        answer,
        adapters=tuple(AppliedAdapter(name=it.name, digest=it.digest, weight=it.weight) for it in outcome.adapters),
        text=outcome.text,
        reason=outcome.reason,
        tokens_in=outcome.tokens_in,
        tokens_out=outcome.tokens_out,
        first_token_ms=round(outcome.first_token_ms, 1),
        total_ms=round(outcome.total_ms, 1),
        process=outcome.process,
        same_prompt=outcome.prompt == prompt,
    )


def _unheard(_: object) -> None:
    """Nobody follows a variant's text while it is made, or sees it wait for its budget."""
