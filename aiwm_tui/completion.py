"""What may follow in the prompt: tables, fields, states. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from aiwm_tui.states import known_states
from aiwm_tui.widgets.prompt import last_token
from engine.contract.errors import AiwmError
from engine.contract.fields import Kind, fields_of


def complete_filter(table: str, text: str) -> list[str]:
    """What the last token of a filter may become: fields, then `sort:` and `is:fault`; after a field its states or how to go on."""
    token = last_token(text)
    bang = "!" if token.startswith("!") else ""
    typed = token.removeprefix("!").lower()
    try:
        fields = fields_of(table)
    except AiwmError:
        return []
    name, colon, value = typed.partition(":")
    if colon and name == "sort":
        head, comma, last = value.rpartition(",")
        minus = "-" if last.startswith("-") else ""
        return _starting((f"sort:{head}{comma}{minus}{each}" for each in fields), token)
    if colon and name in ("state", "level"):
        before, comma, _ = value.rpartition(",")
        return _starting((f"{bang}{name}:{before}{comma}{state}" for state in known_states(table)), token)
    if colon or ">" in typed or "<" in typed:
        return []
    endings = {
        field.name: ":" if field.kind in (Kind.text, Kind.texts, Kind.words) else ">" for field in fields.values()
    }
    words = {f"{bang}{name}{endings[field.name]}" for name, field in fields.items()}
    return _starting([*sorted(words), "is:fault", "sort:"], token)


def complete_jump(screens: Iterable[str], text: str) -> list[str]:
    """What the last token of a location may become: a screen first, then its filter."""
    name, space, rest = text.lstrip().partition(" ")
    if not space:
        return _starting((f":{screen}" for screen in screens), name if name.startswith(":") else ":" + name)
    return complete_filter(name.removeprefix(":").partition("/")[0], rest)


def _starting(words: Iterable[str], token: str = "") -> list[str]:
    return [word for word in words if word.startswith(token) and word != token]
