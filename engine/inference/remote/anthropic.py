"""Anthropic's protocol (docs.anthropic.com/en/api/messages and /messages-streaming, version 2023-06-01). Pure: bodies out, events in.

It has no seed: one that is asked for is not sent. An answer after a schema is had by forcing a call of a tool whose input is the
schema (docs.anthropic.com/en/docs/build-with-claude/tool-use, "Forcing tool use"); what is streamed is that input."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON
from engine.inference.remote.answer import (
    MAX_TEXT,
    Answer,
    Malformed,
    ServerError,
    Usage,
    count_of,
    decoded,
    piece,
    text_of,
)
from engine.inference.remote.sse import Event
from engine.ports import GenerateRequest, Message, ToolDeclaration
from engine.secret import Secret

VERSION = "2023-06-01"
_ANSWER = "final_answer"
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class Anthropic:
    """How requests are put to a server at this address (which ends before /messages, with or without the version)."""

    def __init__(self, url: str) -> None:
        base = url.rstrip("/")
        self.address = f"{base}/messages" if base.endswith("/v1") else f"{base}/v1/messages"

    def headers(self, secret: Secret | None) -> dict[str, str]:
        named = {"anthropic-version": VERSION}
        return named if secret is None else {**named, "x-api-key": secret.reveal()}

    def body(self, request: GenerateRequest, remote: str) -> dict[str, Any]:
        """The request's body, `remote` being the model's name there."""
        sampling = request.sampling
        system = "\n\n".join(message.content for message in request.messages if message.role == "system")
        body: dict[str, Any] = {
            "model": remote,
            "max_tokens": sampling.max_tokens,
            "messages": _messages(request.messages),
            "stream": True,
            "temperature": sampling.temperature,
        }
        if system:
            body["system"] = system
        if sampling.top_p != 1.0:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop_sequences"] = list(sampling.stop)
        return body | _tools(request)

    def reader(self, request: GenerateRequest, secret: Secret | None, /) -> AnthropicReader:
        """For the answer to a request that was sent with this key."""
        return AnthropicReader(secret, wrapped=request.schema is not None and not _is_object(request.schema))


class AnthropicReader:
    """Reads the events of one answer. The forced call's input is the answer's text; of a `wrapped` one, what is in its `value`."""

    def __init__(self, secret: Secret | None, *, wrapped: bool) -> None:
        self.answer = Answer(secret)
        self._wrapped = wrapped
        self._kinds: dict[int, str] = {}
        self._wrapping: list[str] = []
        self._held = 0
        self._usage = Usage()

    def read(self, event: Event) -> str:
        """The text that an event adds. Raises Malformed, ServerError."""
        document = decoded(event.data)
        kind = text_of(document, "type") or event.name
        if kind == "error":
            raise ServerError(document.get("error"))
        if kind == "message_start":
            self._count(piece(piece(document, "message"), "usage"))
        elif kind == "content_block_start":
            return self._begin(_place(document), piece(document, "content_block"))
        elif kind == "content_block_delta":
            return self._more(_place(document), piece(document, "delta"))
        elif kind == "message_delta":
            self._count(piece(document, "usage"))
            self._stop(text_of(piece(document, "delta"), "stop_reason"))
        elif kind == "message_stop":
            self.answer.ended = True
        return ""  # ping, content_block_stop, and what may be added later

    def finish(self) -> str:
        """The stream is over: the text that only now can be told. Raises Malformed for an answer that is not."""
        answer = self.answer
        if not answer.reason and not answer.withheld:
            raise Malformed("ended before the answer did")
        if answer.reason == "tool_calls" and answer.last_call < 0:
            answer.reason = "stop"  # the one call was the answer itself
        said = answer.say(_unwrapped("".join(self._wrapping))) if self._wrapping else ""
        return said + answer.close()

    def _begin(self, place: int, block: dict[str, Any]) -> str:
        kind, name = text_of(block, "type"), text_of(block, "name")
        if kind == "tool_use" and name == _ANSWER:
            kind = _ANSWER
        elif kind == "tool_use":
            self.answer.call(place, id=text_of(block, "id"), name=name)
        self._kinds[place] = kind
        text = text_of(block, "text") if kind == "text" else ""
        return self.answer.say(text) if text else ""

    def _more(self, place: int, delta: dict[str, Any]) -> str:
        kind = self._kinds.get(place)
        if kind is None:
            raise Malformed("a content block goes on that never began")
        written = text_of(delta, "partial_json")
        if kind == "tool_use":
            self.answer.call(place, arguments=written)
        elif kind == _ANSWER and self._wrapped:
            self._held += len(written)
            if self._held > MAX_TEXT:
                raise Malformed(f"the answer has more than {MAX_TEXT:,} characters")
            self._wrapping.append(written)
        elif kind in ("text", _ANSWER):
            said = written if kind == _ANSWER else text_of(delta, "text")
            return self.answer.say(said) if said else ""
        return ""

    def _stop(self, reason: str) -> None:
        if reason:
            self.answer.reason = _REASONS.get(reason, "")
            self.answer.withheld = "" if self.answer.reason else reason[:80]

    def _count(self, usage: dict[str, Any]) -> None:
        """Input tokens come without those of the prompt cache; later events repeat what they change."""
        if not usage:
            return
        before = self._usage
        cached = count_of(usage, "cache_read_input_tokens")
        read = count_of(usage, "input_tokens") + cached + count_of(usage, "cache_creation_input_tokens")
        self._usage = self.answer.usage = Usage(
            max(before.tokens_in, read),
            max(before.tokens_out, count_of(usage, "output_tokens")),
            max(before.cached, cached),
        )


def _place(document: dict[str, Any]) -> int:
    index = document.get("index")
    if not isinstance(index, int) or not 0 <= index < 10_000:
        raise Malformed("a content block has no index")
    return index


def _tools(request: GenerateRequest) -> dict[str, Any]:
    tools = [_tool(tool) for tool in request.tools]
    choice: dict[str, Any] = {"type": "any" if request.call_tools == "required" else "auto"}
    if request.schema is not None:
        # With other tools at hand it may call them first; it must end with the answer.
        choice = {"type": "any"} if tools else {"type": "tool", "name": _ANSWER}
        schema = request.schema if _is_object(request.schema) else _wrapping(request.schema)
        tools.append({"name": _ANSWER, "description": "Give the final answer.", "input_schema": schema})
    return {"tools": tools, "tool_choice": choice} if tools else {}


def _tool(tool: ToolDeclaration) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}


def _is_object(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "object"


def _wrapping(schema: dict[str, Any]) -> dict[str, Any]:
    """A tool's input must be an object. Definitions move up, so that references to them still find them."""
    inner = {name: value for name, value in schema.items() if name != "$defs"}
    outer: dict[str, Any] = {"type": "object", "properties": {"value": inner}, "required": ["value"]}
    return outer | ({"$defs": schema["$defs"]} if "$defs" in schema else {})


def _unwrapped(written: str) -> str:
    try:
        document = msgspec.json.decode(written, type=dict[str, msgspec.Raw])
    except NOT_JSON:
        return written
    value = document.get("value")
    return written if value is None else bytes(value).decode()


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The turns without the system's. Turns of one side that follow each other become one: results of tools must all stand in the turn
    after the calls."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool" and message.tool_call_id:
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}]
    # Blocks without text are refused.
    blocks: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content.strip() else []
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in message.tool_calls
    ]
    return blocks
