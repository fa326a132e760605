"""The operator's own keys: `[keymap]` in the configuration gives an action, by its id, other keys than those of the table.

A key that means two things on one screen, an action that there is not, a key that no terminal sends: each is refused by name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from textual.binding import Binding
from textual.keys import KEY_NAME_REPLACEMENTS, Keys

from aiwm_tui.actions import ACTIONS, Action
from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp

_WORDS = {
    "esc": "escape",
    "pgup": "pageup",
    "pgdn": "pagedown",
    "↵": "enter",
    "return": "enter",
    "del": "delete",
    "ins": "insert",
}
_NAMES = frozenset(key.value for key in Keys if "+" not in key.value and not key.value.startswith("<"))
_ALIASES = {"ctrl+i": "Tab", "ctrl+m": "enter", "ctrl+h": "backspace", "ctrl+left_square_bracket": "escape"}
_MODIFIED = re.compile(r"(ctrl|alt|shift|ctrl\+shift|alt\+shift|ctrl\+alt)\+(.+)")
_ALWAYS = "ctrl+c"
"""Leaves the console whatever else does: nobody may lock themselves in."""


def keyed(overrides: Mapping[str, str], actions: Sequence[Action] = ACTIONS) -> tuple[Action, ...]:
    """The table with these keys: action id → keys with commas between. Raises `config_invalid`."""
    known = {action.id: action for action in actions}
    keys: dict[str, tuple[str, ...]] = {}
    for identifier, text in overrides.items():
        if identifier not in known:
            raise _wrong(identifier, f'there is no action "{identifier[:40]}"', nearest(identifier, known))
        named = dict.fromkeys(_key(identifier, part.strip()) for part in _parts(text))
        if identifier == "quit":
            named[_ALWAYS] = None
        keys[identifier] = tuple(named)
    changed = [_with_keys(action, keys[action.id]) if action.id in keys else action for action in actions]
    _check_clashes(changed, known, keys)
    return tuple(_told_apart(changed, keys))


def console_class(kind: type[ConsoleApp], actions: tuple[Action, ...]) -> type[ConsoleApp]:
    """The console with the bindings of a table of actions."""
    return type(
        "ConsoleApp",
        (kind,),
        {"BINDINGS": bindings(actions), "actions": actions},
        inherit_bindings=False,
    )


def bindings(actions: Sequence[Action]) -> list[Binding]:
    """Priority: a key is acted on in the order it was typed, before the next one is looked at, so typing ahead works."""
    return [
        Binding(action.keys, f"do('{action.id}')", action.label, id=action.id, show=False, priority=True)
        for action in actions
    ]


def _parts(text: str) -> list[str]:
    """Keys between commas; a comma alone is the key."""
    return [","] if text.strip() == "," else text.split(",")


def _key(identifier: str, text: str) -> str:
    """A key as Textual names it: `/`, `R`, `f5`, `ctrl+r`, `esc`."""
    modified = _MODIFIED.fullmatch(text.lower()) if len(text) > 1 else None
    name = f"{modified[1]}+{_plain(modified[2])}" if modified else _plain(text)
    if name in _ALIASES:
        raise _wrong(
            identifier, f"terminals send {_ALIASES[name]} for {text}", f"{_ALIASES[name]} itself, or another key"
        )
    if not (_plain_key(name) or (modified and _plain_key(name.rpartition("+")[2]))):
        raise _wrong(identifier, f'"{text[:40]}" is no key', 'such as "R", "ctrl+r", "f5", "space"')
    return name


def _plain(text: str) -> str:
    if len(text) != 1:
        return _WORDS.get(text.lower(), text.lower())
    if text.isalnum() or not text.isprintable():
        return text
    name = unicodedata.name(text, "").lower().replace("-", "_").replace(" ", "_")
    return KEY_NAME_REPLACEMENTS.get(name, name)


def _plain_key(name: str) -> bool:
    return (len(name) == 1 and name.isalnum()) or name in _NAMES or name in _punctuation()


def _punctuation() -> frozenset[str]:
    return frozenset(_plain(chr(code)) for code in range(33, 127) if not chr(code).isalnum())


def _with_keys(action: Action, keys: tuple[str, ...]) -> Action:
    return msgspec.structs.replace(action, keys=",".join(keys), shown=_shown(keys[0]))


def _shown(key: str) -> str:
    """As people read it: `/` for `slash`."""
    characters = {_plain(chr(code)): chr(code) for code in range(33, 127)}
    modifier, plus, name = key.rpartition("+")
    return modifier + plus + characters.get(name, {"escape": "esc", "enter": "↵", "tab": "Tab"}.get(name, name))


def _check_clashes(
    actions: Sequence[Action], before: Mapping[str, Action], given: Mapping[str, tuple[str, ...]]
) -> None:
    """Two actions may share a key where no row is under the cursor that both work on: `R` retries a task and restarts a model."""
    for action in (each for each in actions if each.id in given):
        # What it had in the table it may have beside the others that have it there.
        new = set(given[action.id]) - set(before[action.id].keys.split(","))
        for other in actions:
            shared = new & set(other.keys.split(","))
            if other is action or not shared or not _meet(action, other):
                continue
            key = _shown(sorted(shared)[0])
            raise _wrong(
                action.id,
                f'{key} is the key of "{other.id}" ({other.label}) too',
                f"another key, or other keys for {other.id}",
            )


def _meet(one: Action, other: Action) -> bool:
    return not one.tables or not other.tables or bool(one.tables & other.tables)


def _told_apart(actions: Sequence[Action], given: Mapping[str, tuple[str, ...]]) -> Iterator[Action]:
    """Actions that the help lists on one line (`↑ ↓`) have lines of their own once one of them has other keys."""
    groups: list[list[Action]] = []
    for action in actions:
        if action.help or not groups:
            groups.append([action])
        else:
            groups[-1].append(action)
    for group in groups:
        if len(group) == 1 or not any(action.id in given for action in group):
            yield from group
            continue
        for action in group:
            yield msgspec.structs.replace(action, shown=_shown(action.keys.split(",")[0]), help=action.label)


def _wrong(identifier: str, text: str, fix: str | None) -> AiwmError:
    field = f"keymap.{identifier[:40]}"
    return AiwmError(
        Code.config_invalid, f"{field}: {text}", field=field, fix=fix or "the ids are in `aiwm info --keys`"
    )
