"""OpenAI's protocol (platform.openai.com/docs/api-reference/chat, "Create chat completion" and "Streaming"), as other servers speak it too:
vLLM, llama.cpp's server, Ollama, TabbyAPI, LM Studio, Google's compatible endpoint. Pure: bodies out, events in."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from engine.inference.remote.answer import (
    Answer,
    Malformed,
    ServerError,
    Usage,
    count_of,
    decoded,
    objects,
    piece,
    text_of,
)
from engine.inference.remote.sse import Event
from engine.ports import GenerateRequest, Message, ToolDeclaration
from engine.secret import Secret

_DONE = "[DONE]"
_REASONS = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}
_OWN_HOST = "api.openai.com"


class OpenAI:
    """How requests are put to a server at this address (which ends before /chat/completions)."""

    def __init__(self, url: str) -> None:
        self.address = f"{url.rstrip('/')}/chat/completions"
        # OpenAI itself calls the bound on tokens so (its reasoning models refuse the old name); the others know max_tokens.
        self._bound = "max_completion_tokens" if urlsplit(url).hostname == _OWN_HOST else "max_tokens"

    def headers(self, secret: Secret | None) -> dict[str, str]:
        return {} if secret is None else {"authorization": f"Bearer {secret.reveal()}"}

    def body(self, request: GenerateRequest, remote: str) -> dict[str, Any]:
        """The request's body, `remote` being the model's name there."""
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": remote,
            "messages": [_message(message) for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": sampling.temperature,
            self._bound: sampling.max_tokens,
        }
        if sampling.top_p != 1.0:
            body["top_p"] = sampling.top_p
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
            body["tool_choice"] = request.call_tools
        if request.schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": request.schema, "strict": is_strict(request.schema)},
            }
        return body

    def reader(self, _: GenerateRequest, secret: Secret | None, /) -> OpenAIReader:
        """For the answer to a request that was sent with this key."""
        return OpenAIReader(secret)


class OpenAIReader:
    """Reads the events of one answer."""

    def __init__(self, secret: Secret | None = None) -> None:
        self.answer = Answer(secret)

    def read(self, event: Event) -> str:
        """The text that an event adds. Raises Malformed, ServerError."""
        answer = self.answer
        if event.data.strip() == _DONE:
            answer.ended = True
            return ""
        chunk = decoded(event.data)
        if chunk.get("error"):
            raise ServerError(chunk["error"])
        usage = piece(chunk, "usage")
        if usage:
            cached = count_of(piece(usage, "prompt_tokens_details"), "cached_tokens")
            answer.usage = Usage(count_of(usage, "prompt_tokens"), count_of(usage, "completion_tokens"), cached)
        choices = objects(chunk, "choices")
        if not choices and not usage and event.name == "error":
            raise ServerError(chunk)
        return self._choice(choices[0]) if choices else ""

    def finish(self) -> str:
        """The stream is over: the text that only now can be told. Raises Malformed for an answer that is not."""
        if not self.answer.reason and not self.answer.withheld:
            raise Malformed("ended before the answer did")
        if self.answer.last_call >= 0 and self.answer.reason == "stop":
            # Some servers end an answer that calls tools with "stop".
            self.answer.reason = "tool_calls"
        return self.answer.close()

    def _choice(self, choice: dict[str, Any]) -> str:
        answer = self.answer
        delta = piece(choice, "delta")
        said = text_of(delta, "content") + text_of(delta, "refusal")
        for call in objects(delta, "tool_calls"):
            self._call(call)
        finish = text_of(choice, "finish_reason")
        if finish:
            answer.reason = _REASONS.get(finish, "")
            answer.withheld = "" if answer.reason else finish[:80]
        return answer.say(said) if said else ""

    def _call(self, call: dict[str, Any]) -> None:
        function, answer = piece(call, "function"), self.answer
        index, id_ = call.get("index"), text_of(call, "id")
        if not isinstance(index, int):
            # Without a place it is a new call where it has an id, else more of the last one.
            index = answer.last_call + 1 if id_ or answer.last_call < 0 else answer.last_call
        answer.call(index, id=id_, name=text_of(function, "name"), arguments=text_of(function, "arguments"))


def is_strict(schema: Any) -> bool:
    """Whether OpenAI takes a schema as a strict one: every object lists all its properties as required and allows no others
    (platform.openai.com/docs/guides/structured-outputs, "Supported schemas"). Where not, the model is asked without that promise."""
    if isinstance(schema, list):
        return all(is_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties", {})
    if schema.get("type") == "object" or properties:
        closed = isinstance(properties, dict) and schema.get("additionalProperties") is False
        if not closed or set(schema.get("required") or ()) != set(properties):
            return False
    definitions = schema.get("$defs", {})
    inner = [properties, definitions] if isinstance(definitions, dict) else [properties]
    return all(is_strict(list(part.values())) for part in inner) and all(
        is_strict(schema[name]) for name in ("items", "anyOf") if name in schema
    )


def _message(message: Message) -> dict[str, Any]:
    """A turn. An answer of a tool that no native call asked for is told as the user's words: the protocol has no other place for it."""
    if message.role == "tool":
        if not message.tool_call_id:
            return {"role": "user", "content": message.content}
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if not message.tool_calls:
        return {"role": message.role, "content": message.content}
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": msgspec.json.encode(call.arguments).decode()},
        }
        for call in message.tool_calls
    ]
    return {"role": message.role, "content": message.content or None, "tool_calls": calls}


def _tool(tool: ToolDeclaration) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
