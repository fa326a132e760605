"""The last line: at most nine keys, looking │ changing │ general. Made from the table of actions."""

from __future__ import annotations

from collections.abc import Sequence

from aiwm_tui.actions import Action, Group
from aiwm_tui.live.text import Line, Span, line_width


def footer_line(actions: Sequence[Action], read_only: bool, cells: int) -> Line:
    """The keys in `cells` cells; those of the middle give way first. In read-only mode changing ones are dimmed."""
    shown = list(actions)
    while len(shown) > 1 and line_width(_line(shown, read_only)) > cells:
        shown.pop(len(shown) - 2)
    return _line(shown, read_only)


def _line(actions: Sequence[Action], read_only: bool) -> Line:
    line: list[Span] = [(" ", "")]
    group: Group | None = None
    for place, action in enumerate(actions):
        if place:
            line.append((" │ ", "rule") if action.group is not group else ("  ", ""))
        off = read_only and action.changes
        line += [(action.shown, "off" if off else "key"), (" " + action.label, "off" if off else "dim")]
        group = action.group
    return tuple(line)
