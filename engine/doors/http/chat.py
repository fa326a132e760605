"""OpenAI's chat completions as data: what a client asks becomes a task's payload, a task's result becomes the answer.

The shapes are those of https://platform.openai.com/docs/api-reference/chat; fields that change nothing here are ignored, those that
would change the answer and are not served are refused by name."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.contract.requests.tasks import TaskOutcome, TaskSubmit

_CLIENTS_TOOLS = ("tools", "functions", "tool_choice", "function_call")
_REFUSED = ("logit_bias", "logprobs", "top_logprobs", "audio", "prediction", "modalities")
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_REASONS = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


class Part(msgspec.Struct, frozen=True):
    """A piece of a message's content."""

    type: str
    text: str = ""


class ChatMessage(msgspec.Struct, frozen=True):
    role: str
    content: str | list[Part] | None = None
    tool_calls: list[Any] | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`, as far as it is understood. `user` becomes the task's tenant: users of one
    queue take turns."""

    model: str
    messages: list[ChatMessage]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None
    user: str | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def read(body: bytes) -> ChatRequest:
    """A body as a request. Raises `bad_request` naming the field."""
    try:
        raw = msgspec.json.decode(body, type=dict[str, Any])
        request = msgspec.convert(raw, ChatRequest)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        raise AiwmError(Code.bad_request, text, field=where.rstrip("`") or None) from None
    except NOT_JSON:
        raise AiwmError(Code.bad_request, "the body is not JSON") from None
    for name in _CLIENTS_TOOLS:
        if raw.get(name) not in (None, [], "none", "auto"):
            text = f"{name}: the tools of clients are not called here; a model calls those that its worker is allowed"
            raise AiwmError(Code.bad_request, text, field=name, fix="aiwm tool list; aiwm worker show NAME")
    for name in _REFUSED:
        if raw.get(name):
            raise AiwmError(Code.bad_request, f"{name} is not served here", field=name, fix=f"leave {name} out")
    if request.n not in (None, 1):
        raise AiwmError(Code.bad_request, f"n is {request.n}; one answer at a time is served", field="n", fix="n=1")
    if not request.messages:
        raise AiwmError(Code.bad_request, "messages is empty", field="messages")
    return request


def submission(request: ChatRequest, queue: str, definition: str | None, adapter: str | None) -> TaskSubmit:
    """The task that a request stands for. Raises `bad_request` for what a worker cannot be asked."""
    payload: dict[str, Any] = {"messages": [_message(index, it) for index, it in enumerate(request.messages)]}
    limit = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    stop = [request.stop] if isinstance(request.stop, str) else request.stop
    said = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": limit,
        "seed": request.seed,
        "stop": stop,
        "schema": _schema(request.response_format),
        "adapters": None if adapter is None else [{"name": adapter}],
    }
    payload |= {name: value for name, value in said.items() if value is not None}
    return TaskSubmit(queue=queue, payload=payload, definition=definition, tenant=(request.user or "")[:64])


def _message(index: int, message: ChatMessage) -> dict[str, str]:
    field = f"messages[{index}]"
    role = _ROLES.get(message.role)
    if role is None:
        roles = ", ".join(_ROLES)
        raise AiwmError(Code.bad_request, f'{field}.role is "{message.role[:40]}"; it is one of {roles}', field=field)
    if message.tool_calls:
        text = f"{field}.tool_calls: calls of a client's own tools are not read here"
        raise AiwmError(Code.bad_request, text, field=field, fix="say in words what was called and what came of it")
    if isinstance(message.content, list):
        for part in message.content:
            if part.type != "text":
                text = f'{field}.content has a part of type "{part.type[:40]}"; only text is read'
                raise AiwmError(Code.bad_request, text, field=field)
        return {"role": role, "content": "".join(part.text for part in message.content)}
    return {"role": role, "content": message.content or ""}


def _schema(wanted: dict[str, Any] | None) -> dict[str, Any] | None:
    """The JSON Schema of a `response_format`; {"type": "object"} for the one that only asks for JSON."""
    if wanted is None or wanted.get("type") == "text":
        return None
    if wanted.get("type") == "json_object":
        return {"type": "object"}
    inner = wanted.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    if wanted.get("type") != "json_schema" or not isinstance(schema, dict):
        fix = '{"type": "json_schema", "json_schema": {"schema": {…}}}'
        raise AiwmError(
            Code.bad_request,
            "response_format is none of text, json_object, json_schema",
            field="response_format",
            fix=fix,
        )
    return schema


# -- answers -----------------------------------------------------------------------------------------------------------------


def completion(request: ChatRequest, outcome: TaskOutcome, created: int) -> dict[str, Any]:
    """The answer to a request that did not ask for a stream. `created` in Unix seconds."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text_of(outcome)},
        "logprobs": None,
        "finish_reason": finish_reason(outcome),
    }
    return {
        **_head(outcome.id, "chat.completion", request.model, created),
        "choices": [choice],
        "usage": usage(outcome),
    }


def chunk(
    task: str, request: ChatRequest, created: int, *, delta: dict[str, str] | None, reason: str | None = None
) -> dict[str, Any]:
    """One event of a stream; with no `delta` the one that ends it."""
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": reason}
    return {**_head(task, "chat.completion.chunk", request.model, created), "choices": [choice]}


def usage_chunk(request: ChatRequest, outcome: TaskOutcome, created: int) -> dict[str, Any]:
    """The last event of a stream whose client asked for the usage."""
    head = _head(outcome.id, "chat.completion.chunk", request.model, created)
    return {**head, "choices": [], "usage": usage(outcome)}


def _head(task: str, kind: str, model: str, created: int) -> dict[str, Any]:
    return {"id": f"chatcmpl-{task}", "object": kind, "created": created, "model": model, "system_fingerprint": None}


def text_of(outcome: TaskOutcome) -> str:
    """The answer's text; a result without one is given as JSON."""
    result = outcome.result
    if isinstance(result, dict) and isinstance(result.get("text"), str):
        return str(result["text"])
    return msgspec.json.encode(result).decode()


def finish_reason(outcome: TaskOutcome) -> str:
    reason = outcome.result.get("reason") if isinstance(outcome.result, dict) else None
    return _REASONS.get(str(reason), "stop")


def usage(outcome: TaskOutcome) -> dict[str, int]:
    read, written = outcome.tokens_in or 0, outcome.tokens_out or 0
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
