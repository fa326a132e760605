"""Tool calls as models write them: found strictly, so that no answer is taken for a call and no call for an answer."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON

MOST_AT_ONCE = 8
_TAG, _END_TAG = "<tool_call>", "</tool_call>"
_LISTED = "[TOOL_CALLS]"


class Call(msgspec.Struct, frozen=True):
    """A call as it was written: a name and arguments, neither of them checked by anyone yet. `id` pairs it with its answer, where the
    model's protocol has ids; `wrong` says what is wrong with arguments that are no JSON object."""

    tool: str
    arguments: dict[str, Any]
    id: str = ""
    wrong: str = ""


class Malformed(msgspec.Struct, frozen=True):
    """A text that was meant as a call and is none."""

    why: str


def calls_in(text: str) -> tuple[Call, ...] | Malformed:
    """The calls that an answer consists of; () for an answer that is plain text, or JSON of another shape.

    Known forms: one JSON object, or a list of them, that is the whole answer and says exactly `tool` and `args`, or `name` and
    `arguments` (or `parameters`); the same in <tool_call> tags at the end of an answer; the same behind [TOOL_CALLS]."""
    plain = text.strip()
    if _TAG in plain:
        return _tagged(plain)
    if plain.startswith(_LISTED):
        return _whole(plain.removeprefix(_LISTED).strip(), meant=True)
    if plain.startswith(("{", "[")):
        return _whole(plain, meant=re.match(r'\[?\s*\{\s*"tool"\s*:', plain) is not None)
    return ()


class Withheld:
    """A text that is still coming, of which nothing is shown that may turn out to be a call: an answer that begins as one, whatever
    follows a tag, and an end that may become a tag."""

    def __init__(self) -> None:
        self.rest = ""
        self._whole: bool | None = (
            None  # whether the answer as a whole may be a call; None: it has only white space so far
        )

    def push(self, piece: str) -> str:
        """What may be shown now. `rest` is what may not: it is shown at the end, if no call came of it."""
        text = self.rest + piece
        if self._whole is None and (begun := text.lstrip()):
            self._whole = begun[0] in "{["
        if self._whole is not False:
            shown = 0
        elif (at := text.find(_TAG)) >= 0:
            shown, self._whole = at, True
        else:
            shown = len(text) - next((n for n in range(len(_TAG) - 1, 0, -1) if text.endswith(_TAG[:n])), 0)
        self.rest = text[shown:]
        return text[:shown]


def _tagged(text: str) -> tuple[Call, ...] | Malformed:
    found: list[Call] = []
    rest = text[text.index(_TAG) :]
    while rest:
        body, closed, after = rest.removeprefix(_TAG).partition(_END_TAG)
        if not rest.startswith(_TAG) or not closed:
            return Malformed("text follows a tool call, or a <tool_call> is not closed")
        read = _whole(body.strip(), meant=True)
        if isinstance(read, Malformed):
            return read
        found += read
        if len(found) > MOST_AT_ONCE:
            break
        rest = after.lstrip()
    return _bounded(found)


def _whole(text: str, *, meant: bool) -> tuple[Call, ...] | Malformed:
    try:
        document = msgspec.json.decode(text.encode())
    except NOT_JSON as error:
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
