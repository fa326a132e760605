"""What both protocols' answers are made of, and how they are put together: pure."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON
from engine.ports import ToolCall
from engine.secret import Secret

MAX_TEXT = 4 * 2**20
"""No answer is longer, in characters: a server that never ends must not fill our memory."""

MAX_CALLS = 128
_HIDDEN = "[key]"


class Malformed(Exception):
    """The server does not speak its protocol. The text says what was wrong, in our words."""


class ServerError(Exception):
    """The server told of an error in the midst of its answer. `error` is what it sent: data."""

    def __init__(self, error: Any) -> None:
        super().__init__("error")
        self.error = error


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the server counted them: of the prompt (`cached` among them), of the answer."""

    tokens_in: int = 0
    tokens_out: int = 0
    cached: int = 0


class Guard:
    """Takes a key out of a text that comes in pieces: some servers say back what they were sent. It holds what may be the beginning of
    the key."""

    def __init__(self, secret: Secret | None) -> None:
        self._secret = secret
        self._held = ""

    def push(self, text: str) -> str:
        """What of the text so far is certain."""
        if self._secret is None:
            return text
        key = self._secret.reveal()
        text = (self._held + text).replace(key, _HIDDEN)
        at = text.find(key[0], max(0, len(text) - len(key) + 1))
        while at >= 0 and not key.startswith(text[at:]):
            at = text.find(key[0], at + 1)
        self._held = text[at:] if at >= 0 else ""
        return text[:at] if at >= 0 else text

    def rest(self) -> str:
        """What was held: it was not the key."""
        held, self._held = self._held, ""
        return held

    def whole(self, text: str) -> str:
        """A text that is all there."""
        return text if self._secret is None else text.replace(self._secret.reveal(), _HIDDEN)


class Answer:
    """An answer that grows; `secret` is what must not come back in it. `reason` is a word of `ports.Outcome`, empty while it is not known;
    `withheld` is the server's word for why it says no more, if it will not. `usage` is None until the server has told it."""

    def __init__(self, secret: Secret | None = None) -> None:
        self._guard = Guard(secret)
        self.reason = ""
        self.withheld = ""
        self.ended = False
        self.usage: Usage | None = None
        self._parts: list[str] = []
        self._length = 0
        self._calls: dict[int, _Call] = {}

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def length(self) -> int:
        """Characters so far, those of tool calls among them."""
        return self._length

    def say(self, text: str) -> str:
        """More text; returns what of it may be shown now."""
        self._grow(len(text))
        text = self._guard.push(text)
        self._parts.append(text)
        return text

    def close(self) -> str:
        """No more text comes: what was held of it."""
        rest = self._guard.rest()
        self._parts.append(rest)
        return rest

    def call(self, index: int, *, id: str = "", name: str = "", arguments: str = "") -> None:
        """More of the tool call at this place. Some servers say its id and name again with every piece."""
        if index not in self._calls and len(self._calls) >= MAX_CALLS:
            raise Malformed(f"more than {MAX_CALLS} tool calls in one answer")
        call = self._calls.setdefault(index, _Call())
        self._grow(len(arguments) + len(name) + len(id))
        call.id = call.id or id
        call.name = call.name or name
        call.arguments.append(arguments)

    @property
    def last_call(self) -> int:
        """The place of the call that was heard of last; -1 when there is none."""
        return max(self._calls, default=-1)

    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(call.made(self._guard) for _, call in sorted(self._calls.items()))

    def _grow(self, by: int) -> None:
        self._length += by
        if self._length > MAX_TEXT:
            raise Malformed(f"the answer has more than {MAX_TEXT:,} characters")


class _Call:
    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def made(self, guard: Guard) -> ToolCall:
        written = guard.whole("".join(self.arguments)) or "{}"
        try:
            arguments, wrong = msgspec.json.decode(written), ""
        except NOT_JSON as error:
            arguments, wrong = {}, f"the arguments are no JSON: {error}"[:200]
        if not isinstance(arguments, dict):
            arguments, wrong = {}, "the arguments are no JSON object"
        name, id_ = guard.whole(self.name)[:200], guard.whole(self.id)[:200]
        return ToolCall(name=name, arguments=arguments, id=id_, wrong=wrong)


def decoded(data: str) -> dict[str, Any]:
    """An event's data as an object. Raises Malformed."""
    try:
        document = msgspec.json.decode(data)
    except NOT_JSON as error:
        raise Malformed(f"an event's data is no JSON: {error}"[:200]) from None
    if not isinstance(document, dict):
        raise Malformed("an event's data is no JSON object")
    return document


def piece(document: dict[str, Any], name: str) -> dict[str, Any]:
    """An object inside another; {} where it is null or absent. Raises Malformed for anything else."""
    found = document.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Malformed(f"{name} is no object")
    return found


def objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects inside another; [] where it is null or absent. Raises Malformed for anything else."""
    found = document.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise Malformed(f"{name} is no list of objects")
    return found


def text_of(document: dict[str, Any], name: str) -> str:
    """A text inside an object; "" where it is null or absent. Raises Malformed for anything else."""
    found = document.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise Malformed(f"{name} is no text")
    return found


def count_of(document: dict[str, Any], name: str) -> int:
    """A count inside an object; 0 where it is none."""
    found = document.get(name)
    return min(found, 2**31) if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0
