"""Tool calls as models write them: found strictly, so that no answer is taken for a call and no call for an answer."""

from __future__ import annotations

import re
from typing import Any

import msgspec

MOST_AT_ONCE = 8
_TAGGED = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_LISTED = "[TOOL_CALLS]"
_OPENINGS = ("{", "[", "<tool_call>", _LISTED)


class Call(msgspec.Struct, frozen=True):
    """A call as it was written: a name and arguments, neither of them checked by anyone yet. `id` pairs it with its answer, where the
    model's protocol has ids."""

    tool: str
    arguments: dict[str, Any]
    id: str = ""


class Malformed(msgspec.Struct, frozen=True):
    """A text that was meant as a call and is none."""

    why: str


def calls_in(text: str) -> tuple[Call, ...] | Malformed:
    """The calls that an answer consists of; () for an answer that is plain text, or JSON of another shape.

    Known forms: one JSON object, or a list of them, that is the whole answer and says exactly `tool` and `args`, or `name` and
    `arguments` (or `parameters`); the same in <tool_call> tags at the end of an answer; the same behind [TOOL_CALLS]."""
    plain = text.strip()
    if "<tool_call>" in plain:
        return _tagged(plain)
    if plain.startswith(_LISTED):
        return _whole(plain.removeprefix(_LISTED).strip(), meant=True)
    if plain.startswith(("{", "[")):
        return _whole(plain, meant=re.match(r'\[?\s*\{\s*"tool"\s*:', plain) is not None)
    return ()


def may_be_call(text: str) -> bool:
    """Whether a text that is still coming could turn out to be a call: it is not shown before that is known."""
    plain = text.lstrip()
    return (
        any(plain.startswith(opening) or opening.startswith(plain) for opening in _OPENINGS) or "<tool_call>" in plain
    )


def _tagged(text: str) -> tuple[Call, ...] | Malformed:
    if _TAGGED.sub("", text[text.index("<tool_call>") :]).strip():
        return Malformed("text follows a tool call, or a <tool_call> is not closed")
    found: list[Call] = []
    for body in _TAGGED.findall(text):
        read = _whole(body.strip(), meant=True)
        if isinstance(read, Malformed):
            return read
        found += read
    return _bounded(found)


def _whole(text: str, *, meant: bool) -> tuple[Call, ...] | Malformed:
    try:
        document = msgspec.json.decode(text.encode())
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        return Malformed(f"a tool call is one JSON object: {error}"[:200]) if meant else ()
    items = document if isinstance(document, list) and document else [document]
    found = [_call(item) for item in items]
    calls = [call for call in found if call is not None]
    if len(calls) == len(found):
        return _bounded(calls)
    return Malformed('a tool call says exactly "tool" (a name) and "args" (an object)') if meant else ()


def _bounded(calls: list[Call]) -> tuple[Call, ...] | Malformed:
    return tuple(calls) if len(calls) <= MOST_AT_ONCE else Malformed(f"at most {MOST_AT_ONCE} calls at once")


def _call(item: Any) -> Call | None:
    if not isinstance(item, dict):
        return None
    for name, arguments in (("tool", "args"), ("name", "arguments"), ("name", "parameters")):
        if item.keys() - {"id", "type"} == {name, arguments}:
            tool, given = item[name], item[arguments]
            return Call(tool, given) if isinstance(tool, str) and isinstance(given, dict) else None
    return None
