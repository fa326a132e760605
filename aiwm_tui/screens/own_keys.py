"""Keys that sentences name: an operator with keys of their own reads those, not the ones of the table of actions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiwm_tui.actions import BY_ID, Action, available
from aiwm_tui.live.text import Line


def own_keys(table: str, lacks: frozenset[str], actions: Sequence[Action]) -> dict[str, str]:
    """What stands for a key of the table of actions on a page: what it means where the cursor is, else what it means anywhere."""
    if all(action.shown == BY_ID[action.id].shown for action in actions):
        return {}
    own = {BY_ID[action.id].shown: action.shown for action in reversed(actions)}
    here = {BY_ID[action.id].shown: action.shown for action in reversed(available(table, lacks, actions))}
    return own | here


def with_own_keys(lines: Sequence[Line], own: Mapping[str, str]) -> tuple[Line, ...]:
    """The lines with these keys; only a part that is a key and nothing else names one."""
    if not own:
        return tuple(lines)
    return tuple(
        tuple((_named(text, own) if style == "key" else text, style) for text, style in line) for line in lines
    )


def _named(text: str, own: Mapping[str, str]) -> str:
    key = text.strip()
    return text.replace(key, own[key]) if key in own else text
