"""All keys for where one is: from the table of actions, changing ones dimmed when this console may not change anything."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen

from aiwm_tui.actions import Action, Group, available
from aiwm_tui.live.text import Line, cut_line, fit, line_width
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.states import GLYPHS
from aiwm_tui.widgets.lines import TextBlock

_WORDS = {
    "works": "works",
    "rests": "rests",
    "coming": "on its way",
    "held": "held by a limit",
    "later": "later",
    "paused": "paused by someone",
    "asks": "asks you",
    "wrong": "works but wrong",
    "broken": "broken",
    "done": "done",
    "cancelled": "cancelled",
}


class HelpScreen(ModalScreen[None]):
    DEFAULT_CSS = """
    HelpScreen { background: $background; }
    HelpScreen TextBlock { height: 1fr; }
    """
    BINDINGS = [
        Binding("escape,q,question_mark,f1,enter,space", "dismiss", "close", id="help.close", priority=True),
        Binding("down,j", "scroll(1)", "down", id="help.down", priority=True),
        Binding("up,k", "scroll(-1)", "up", id="help.up", priority=True),
        Binding("pagedown", "scroll(10)", "page down", id="help.page_down", priority=True),
        Binding("pageup", "scroll(-10)", "page up", id="help.page_up", priority=True),
    ]

    def __init__(
        self, screen: str, table: str, lacks: frozenset[str], read_only: bool, actions: Sequence[Action]
    ) -> None:
        super().__init__()
        self._where = screen
        self._table = table
        self._lacks = lacks
        self._read_only = read_only
        self._actions = actions
        self._first = 0

    def compose(self) -> ComposeResult:
        yield TextBlock(id="help")

    def on_resize(self) -> None:
        self._show()

    def action_scroll(self, lines: int) -> None:
        self._first += lines
        self._show()

    def _show(self) -> None:
        lines = help_lines(self._where, self._table, self._lacks, self._read_only, self._actions, self.size.width)
        self._first = max(0, min(self._first, len(lines) - self.size.height))
        self.query_one(TextBlock).show(lines[self._first :])


def help_lines(
    screen: str, table: str, lacks: frozenset[str], read_only: bool, table_of_actions: Sequence[Action], cells: int
) -> list[Line]:
    """The help as lines: two columns of groups where there is room, one below the other where not."""
    actions = available(table, lacks, table_of_actions)
    where = f"on :{screen}" + (f", with the cursor on one of the {table}" if table and table != screen else "")
    lines: list[Line] = [((" All keys ", "title"), (where, "dim"), ("   esc closes", "faint"))]
    if read_only:
        lines.append(((" This console is read-only: keys that change something are dimmed and refused.", "held_mode"),))
    half = cells // 2 if cells >= 110 else 0
    wide = half - 1 if half else cells

    def group(name: Group) -> list[Line]:
        return [*_group(name, actions, read_only, wide), ()]

    left = [*group(Group.look), *group(Group.change), *_language()]
    right = [*group(Group.move), *group(Group.general), *group(Group.replay), *_looks()]
    if not half:
        return [*lines, (), *left, (), *right]
    for place in range(max(len(left), len(right))):
        a = left[place] if place < len(left) else ()
        b = right[place] if place < len(right) else ()
        a = cut_line(a, half - 1)
        lines.append((*a, (" " * (half - line_width(a)), ""), *b))
    return lines


def _group(group: Group, actions: list[Action], read_only: bool, wide: int) -> list[Line]:
    """A group as lines of at most `wide` cells; what does not fit goes on below its beginning."""
    lines: list[Line] = [((f" {group.value.upper()}", "title"),)]
    members = [action for action in actions if action.group is group and action.help]
    cells = max([len(action.shown) for action in members], default=6) + 2
    for action in members:
        if action.help:
            off = read_only and action.changes
            text = (
                action.help
                if action.label in action.help or len(action.help) > 24
                else f"{action.label}: {action.help}"
            )
        line: Line = (("  " + fit(action.shown, cells), "off" if off else "key"), (text, "off" if off else "text"))
        lines += wrapped(line, wide, cells + 2)
    return lines if len(lines) > 1 else [*lines, (("  nothing here", "faint"),)]


def _looks() -> list[Line]:
    lines: list[Line] = [((" WHAT THE SIGNS SAY", "title"),)]
    looks = list(_WORDS.items())
    for place in range(0, len(looks), 2):
        line: Line = (("  ", ""),)
        for style, word in looks[place : place + 2]:
            line = (*line, (GLYPHS[style] + " ", style), (fit(word, 20), "dim"))
        lines.append(line)
    return lines


def _language() -> list[Line]:
    examples = (
        ("demo", "a word: id, queue, worker, …"),
        ("state:failed,retrying", "one of these values"),
        ("queue:in*  !batch:b-*", "a pattern; not that one"),
        ("age>5m  tokens_out>=1k", "older, more"),
        ("is:fault  sort:-age,id", "only what is broken; the order"),
    )
    views = (
        (":save night", "keeps where you are, with filter and order"),
        (":night  :night queue:a", "goes there; with a filter more"),
        (":views  :forget night", "lists them; lets go of one"),
    )
    return [
        ((" THE FILTER LANGUAGE of / and :", "title"),),
        *((("  " + fit(text, 24), "key"), (meaning, "text")) for text, meaning in examples),
        (),
        ((" SAVED VIEWS at :", "title"),),
        *((("  " + fit(text, 24), "key"), (meaning, "text")) for text, meaning in views),
    ]
