"""What may follow in the prompt: screens and saved views, fields, states, values that exist. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aiwm_tui.states import known_states
from aiwm_tui.widgets.prompt import last_token
from engine.contract.errors import AiwmError
from engine.contract.fields import Kind, fields_of
from engine.contract.query import WITH_AROUND

ValuesOf = Callable[[str, str], Iterable[str]]
"""The values that a field of a table has now: (table, field) → as they would be typed."""


def no_values(table: str, name: str) -> list[str]:  # noqa: ARG001 (it stands for an engine that is not asked)
    return []


def complete_filter(table: str, text: str, values: ValuesOf = no_values) -> list[str]:
    """What the last token of a filter may become: fields, states, then `sort:` and `is:fault`; after a field its values."""
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
    if colon:
        return _values(table, name, token, values)
    if ">" in typed or "<" in typed:
        return []
    endings = {
        field.name: ":" if field.kind in (Kind.text, Kind.texts, Kind.words, Kind.chain) else ">"
        for field in fields.values()
    }
    words = sorted({f"{bang}{name}{endings[field.name]}" for name, field in fields.items()})
    # Who types a state means it, whatever the field is called.
    states = [f"{bang}{_state_field(table)}:{state}" for state in _states(table) if typed and state.startswith(typed)]
    return [*_starting(words, token), *states, *_starting(["is:fault", *_around(table), "sort:"], token)]


def _around(table: str) -> list[str]:
    return ["around:"] if table in WITH_AROUND else []


def _state_field(table: str) -> str:
    return "level" if table == "events" else "state"


def _states(table: str) -> list[str]:
    return [f'"{state}"' if " " in state else state for state in known_states(table)]


def _values(table: str, name: str, token: str, values: ValuesOf) -> list[str]:
    """`token` with its last value completed: those that begin as it does, else those that contain it."""
    known = ["fault"] if name == "is" else _states(table) if name == _state_field(table) else list(values(table, name))
    head, _, typed = token.partition(":")
    before, comma, last = typed.rpartition(",")
    front, wanted = f"{head}:{before}{comma}", last.lower().removeprefix('"')
    bare = [(value, value.lower().removeprefix('"')) for value in known if value not in before.split(",")]
    starting = [front + value for value, text in bare if text.startswith(wanted) and value != last]
    if starting or any(value == last for value, _ in bare):
        return starting
    return [front + value for value, text in bare if wanted in text]


def complete_jump(
    names: Iterable[str], text: str, views: Mapping[str, str] | None = None, values: ValuesOf = no_values
) -> list[str]:
    """What the last token of a location may become: a name first, then the filter of its table. `views` are locations by their names."""
    name, space, rest = text.lstrip().partition(" ")
    if not space:
        return _starting((f":{each}" for each in names), name if name.startswith(":") else ":" + name)
    name = name.removeprefix(":")
    if name == "forget":
        return _starting(sorted(views or {}), rest)
    table = (views or {}).get(name, name).removeprefix(":").partition(" ")[0]
    return complete_filter(table.partition("/")[0], rest, values)


def _starting(words: Iterable[str], token: str = "") -> list[str]:
    return [word for word in words if word.startswith(token) and word != token]
