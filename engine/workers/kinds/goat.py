"""The kind `goat`: the LLM worker. It puts a task's prompt to its definition's model, lets it call its tools, and streams the answer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from engine.contract.definitions import AdapterUse, Sampling, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.invalid import invalid
from engine.ports import GenerateRequest, Message
from engine.workers.answers import check_schema, data_in
from engine.workers.loop import Talked, talk
from engine.workers.prompting import taught, with_files
from engine.workers.template import TaskInput, TaskOutput, WorkerContext, WorkerTemplate


class GoatPayload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task for the LLM worker may say: a prompt or a conversation, and what differs from the definition's settings.

    `schema` is a JSON Schema that the answer satisfies: the result then has it as `data` too. `call_tools` says whether the model may call
    tools first, or must."""

    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    adapters: tuple[AdapterUse, ...] | None = None
    schema: dict[str, Any] | None = None
    call_tools: Literal["auto", "required"] = "auto"


class GoatWorker(WorkerTemplate):
    """Prompt in, text out, token by token on the way: in one turn, or in as many as its tools take."""

    kind: ClassVar[str] = "goat"
    idempotent: ClassVar[bool] = True
    uses_model: ClassVar[bool] = True

    def check(self, payload: dict[str, Any]) -> None:
        read = read_payload(payload)
        if read.call_tools == "required" and not self.definition.tools_allow:
            raise AiwmError(
                Code.payload_invalid,
                f"payload.call_tools: {self.definition.name} has no tools to call",
                field="payload.call_tools",
                fix="leave it out, or give the definition tools_allow",
            )

    async def process(self, task: TaskInput, context: WorkerContext) -> TaskOutput:
        payload = read_payload(task.payload)
        request = request_for(payload, self.definition, task.deadline_ms)
        if task.files:
            request = msgspec.structs.replace(request, messages=with_files(request.messages, task.files))
        if task.lessons:
            request = msgspec.structs.replace(request, messages=taught(request.messages, task.lessons))
        if context.tools is not None:
            steps = self.definition.max_steps
            talked = await talk(request, context, context.tools, steps, lambda: _left(task.deadline_ms))
        else:
            generation = await context.generate(request)
            async for delta in generation:
                context.write(delta.text)
            talked = Talked(generation.outcome, (generation.outcome,), ())
        return _output(talked, task, request.schema, tools=context.tools is not None)


def _output(talked: Talked, task: TaskInput, schema: dict[str, Any] | None, *, tools: bool) -> TaskOutput:
    """The last answer, and what all model calls took together."""
    outcome, outcomes = talked.outcome, talked.outcomes
    if outcome.reason == "deadline":
        raise AiwmError(Code.deadline_passed, "the deadline passed while the answer was being made")
    tokens_in, tokens_out = sum(it.tokens_in for it in outcomes), sum(it.tokens_out for it in outcomes)
    result: dict[str, Any] = {
        "text": outcome.text,
        "reason": outcome.reason,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "first_token_ms": round(outcomes[0].first_token_ms, 1),
        "total_ms": round(sum(it.total_ms for it in outcomes), 1),
        "adapters": [msgspec.to_builtins(adapter) for adapter in outcome.adapters],
    }
    if schema is not None:
        result["data"] = data_in(outcome, schema)
    if outcome.route:
        result |= {"route": list(outcome.route), "process": outcome.process}
    if tools:
        result |= {"steps": len(outcomes), "tool_calls": list(talked.tool_calls)}
    if task.lessons:
        result["lessons"] = [f"{lesson.id}@{lesson.version}" for lesson in task.lessons]
    return TaskOutput(result=result, summary=outcome.text[:200], tokens_in=tokens_in, tokens_out=tokens_out)


def read_payload(payload: dict[str, Any]) -> GoatPayload:
    """The payload as data; `payload_invalid` naming the field otherwise."""
    try:
        read = msgspec.convert(payload, GoatPayload)
    except msgspec.ValidationError as error:
        raise invalid(error, GoatPayload, Code.payload_invalid, "payload") from None
    if (read.prompt is None) == (read.messages is None):
        raise AiwmError(
            Code.payload_invalid,
            "payload: give either prompt or messages",
            field="payload.prompt",
            fix='{"prompt": "…"}',
        )
    _check_numbers(read)
    if read.schema is not None:
        check_schema(read.schema, "payload.schema")
    return read


def _check_numbers(payload: GoatPayload) -> None:
    bounds = (("temperature", 0.0, 10.0), ("top_p", 1e-6, 1.0), ("max_tokens", 1, 1_000_000))
    for name, low, high in bounds:
        value = getattr(payload, name)
        if value is not None and not low <= value <= high:
            raise AiwmError(
                Code.payload_invalid,
                f"payload.{name} is {value}, but must lie between {low:g} and {high:g}",
                field=f"payload.{name}",
            )


def request_for(payload: GoatPayload, definition: WorkerDefinition, deadline_ms: int | None) -> GenerateRequest:
    """What to ask the model: the task's own settings win over the definition's. An answer by a schema ends where the schema says, so stop
    strings, which would cut it, are left out."""
    base = definition.sampling
    schema = definition.answer_schema or None if payload.schema is None else payload.schema
    sampling = Sampling(
        temperature=base.temperature if payload.temperature is None else payload.temperature,
        top_p=base.top_p if payload.top_p is None else payload.top_p,
        max_tokens=base.max_tokens if payload.max_tokens is None else payload.max_tokens,
        seed=base.seed if payload.seed is None else payload.seed,
        stop=() if schema is not None else base.stop if payload.stop is None else payload.stop,
    )
    system = definition.system if payload.system is None else payload.system
    turns = payload.messages if payload.messages is not None else (Message(role="user", content=payload.prompt or ""),)
    if system and not any(turn.role == "system" for turn in turns):
        turns = (Message(role="system", content=system), *turns)
    adapters = definition.adapters if payload.adapters is None else payload.adapters
    return GenerateRequest(
        messages=turns,
        sampling=sampling,
        adapters=adapters,
        deadline_ms=_left(deadline_ms),
        schema=schema,
        call_tools=payload.call_tools,
    )


def _left(deadline_ms: int | None) -> int | None:
    if deadline_ms is None:
        return None
    import time

    return max(1, deadline_ms - time.time_ns() // 1_000_000)
