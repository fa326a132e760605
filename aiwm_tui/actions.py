"""The one table of actions: from it come the keys, the footer, the help, the palette and the requests.

Lower case looks, upper case changes (`G`, to the end, is the one exception); the same verb has the same key on every screen. An
action applies to rows of certain tables; what it does is in `deeds.py` under the same id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from engine.contract.requests.base import Request
from engine.contract.requests.fleet import WorkerReload
from engine.contract.states import Effect, TaskState


class Group(StrEnum):
    look = "looking"
    change = "changing"
    move = "moving"
    general = "general"
    replay = "replaying"


class Action(msgspec.Struct, frozen=True):
    """`keys` in Textual's names, `shown` as people read them. `tables`: the rows it works on, none = everywhere. `foot`: place in the
    footer, 0 = not there. `fits` says why it does not fit a row (None: it does). `build` makes its request of rows, if it needs
    nothing else. Without `help` it is listed with the action before it."""

    id: str
    keys: str
    shown: str
    label: str
    group: Group
    help: str
    tables: frozenset[str] = frozenset()
    foot: int = 0
    effect: Effect = Effect.read
    fits: Callable[[Any], str | None] | None = None
    build: Callable[[list[Any]], Request[Any]] | None = None

    @property
    def changes(self) -> bool:
        return self.effect is not Effect.read

    def on(self, table: str) -> bool:
        return not self.tables or table in self.tables


def _can_cancel(row: Any) -> str | None:
    return f"{row.id} is {row.state} already" if TaskState(row.state).ended else None


def _can_retry(row: Any) -> str | None:
    fits = row.state in ("failed", "cancelled", "retrying", "scheduled")
    return None if fits else f"{row.id} is {row.state}: only tasks that failed, were cancelled or wait for their time"


def _can_move(row: Any) -> str | None:
    return None if row.state in ("pending", "scheduled", "retrying") else f"{row.id} is {row.state}: only waiting tasks"


def _can_decide(row: Any) -> str | None:
    return None if row.state == "pending" else f"{row.id} is {row.state}: it is decided once"


def _is_up(row: Any) -> str | None:
    return None if row.pid is not None else f"{row.id} is {row.state}: nothing of it is loaded"


def _is_process(row: Any) -> str | None:
    return f"{row.id} is {row.state}: L loads it" if row.state in ("absent", "refused") else None


def _is_usable(row: Any) -> str | None:
    return f"{row.id} is refused: {row.note}" if row.state == "refused" else None


def _is_loaded(row: Any) -> str | None:
    return None if row.processes else f"{row.id} is in no process"


TABLES = frozenset(
    {
        "tasks",
        "queues",
        "pools",
        "instances",
        "models",
        "adapters",
        "devices",
        "workers",
        "events",
        "needs",
        "records",
        "retired",
        "templates",
        "sources",
        "operations",
        "batches",
        "failures",
        "approvals",
        "lessons",
        "reviews",
        "logs",
    }
)
_TASKS = frozenset({"tasks"})
MARKED = _TASKS | {"instances", "approvals", "queues", "models", "adapters", "pools", "templates", "sources"}
"""Tables of which several rows can be changed at once."""
_QUEUES = frozenset({"queues"})
_FOUND = frozenset({"disk"})
_BEGIN = frozenset({"start"}) | _FOUND
_ASKED = frozenset({"charts", "usage"})
_CHARTED = frozenset({"queues", "pools", "models", "adapters", "charts", "usage"})
_DEFINED = frozenset({"queues", "pools", "templates", "sources"})
_LOG = frozenset({"log"})
_CHAINED = frozenset({"tasks", "events"})
_LOGGED = frozenset({"tasks", "instances", "models", "workers", "events", "retired", "engine"})


def _reload(_: list[Any]) -> Request[Any]:
    return WorkerReload()


def _change(
    id: str,
    key: str,
    label: str,
    help: str,
    tables: Iterable[str],
    foot: int = 0,
    effect: Effect = Effect.write,
    **more: Any,
) -> Action:
    """An action that changes something: one key, the same on every screen."""
    return Action(id, key, key, label, Group.change, help, frozenset(tables), foot, effect, **more)


SCREENS: tuple[tuple[str, str, str], ...] = (
    ("1", "overview", "what needs you, queues, models, what changed"),
    ("2", "tasks", "every task, newest first"),
    ("3", "queues", "what waits, and for what"),
    ("4", "pools", "instances of one definition, and their limits"),
    ("5", "instances", "who does what now"),
    ("6", "models", "model processes and their memory"),
    ("7", "adapters", "LoRA versions and caches"),
    ("8", "workers", "worker definitions"),
    ("9", "events", "what happened"),
    ("0", "approvals", "what asks you"),
)
"""Key, name and purpose of every screen with a key."""

WAYS: tuple[str, ...] = (
    "run messages on the toy model, in a home of its own",
    "use the models of a server that runs",
    "use a model from a directory",
    "put a file of prompts through a model",
    "make your first worker, step by step",
)
"""The numbered ways to begin, in their order."""

ACTIONS: tuple[Action, ...] = (
    Action("open", "enter", "↵", "open", Group.look, "open what the cursor is on", foot=1),
    Action("begin", "enter", "↵", "do it", Group.look, "go this way, or use this model", tables=_BEGIN, foot=1),
    *(
        Action(f"way_{number}", str(number), str(number), f"way {number}", Group.look, words, tables=_BEGIN)
        for number, words in enumerate(WAYS, 1)
    ),
    Action("up", "escape,backspace", "esc", "back", Group.look, "back to where you came from", foot=2),
    Action("why", "w", "w", "why", Group.look, "the strip: close it, grow it, bring it back", foot=3, tables=TABLES),
    Action(
        "events",
        "e",
        "e",
        "events",
        Group.look,
        "events of this row",
        foot=4,
        tables=TABLES - {"events", "needs"} | _LOG,
    ),
    Action("chain", "c", "c", "chain", Group.look, "all events of what this belongs to", tables=_CHAINED, foot=5),
    Action("log", "l", "l", "log", Group.look, "what the process behind this row wrote", tables=_LOGGED),
    Action("details", "d", "d", "details", Group.look, "everything known about this row", tables=TABLES - {"needs"}),
    Action("this_value", "f", "f", "this value", Group.look, "only rows with this cell's value", tables=TABLES),
    Action(
        "not_this_value", "x", "x", "not this", Group.look, "all but the rows with this cell's value", tables=TABLES
    ),
    Action(
        "sort", "s", "s", "sort", Group.look, "sort by this column: ▲, ▼, off; columns stack", tables=TABLES | _ASKED
    ),
    Action("filter", "slash", "/", "filter", Group.look, "filter: word  field:value  field>8G  !field:value", foot=5),
    Action(
        "faults", "exclamation_mark", "!", "faults", Group.look, "only what is broken, and back", foot=6, tables=TABLES
    ),
    Action(
        "zoom",
        "z",
        "z",
        "zoom",
        Group.look,
        "look back over 10 minutes, 1 hour, 24 hours, 7 days",
        foot=4,
        tables=_CHARTED,
    ),
    Action(
        "search", "slash", "/", "search", Group.look, "search: word  !word  -C 3: only matches", tables=_LOG, foot=4
    ),
    Action("next_match", "n", "n", "next match", Group.look, "the next match, and the one before", tables=_LOG, foot=5),
    Action("match_before", "b", "b", "match before", Group.look, "the match before", tables=_LOG),
    Action(
        "only_matches", "h", "h", "only matches", Group.look, "hide what does not match, or not", tables=_LOG, foot=6
    ),
    Action(
        "trouble", "exclamation_mark", "!", "trouble", Group.look, "only errors and around them", tables=_LOG, foot=7
    ),
    Action("copy_text", "y", "y", "copy", Group.look, "copy the match, else what is on the screen", tables=_LOG),
    Action("wrap", "w", "w", "wrap", Group.look, "wrap long lines, or cut them", tables=_LOG),
    Action("times", "t", "t", "times", Group.look, "when lines came", tables=_LOG),
    Action("hold", "p", "p", "hold", Group.look, "hold the view; changes are counted", tables=TABLES | _LOG),
    Action(
        "copy",
        "y",
        "y",
        "copy",
        Group.look,
        "copy the id; y again: this cell, the row, the location",
        tables=TABLES | _ASKED,
    ),
    Action("columns", "o", "o", "columns", Group.look, "choose the columns and their order; it is kept", tables=TABLES),
    Action(
        "inspect",
        "i",
        "i",
        "inspect",
        Group.look,
        "all fields of the row beside the table; on a task's page its prompt",
        tables=TABLES,
    ),
    Action("export", "ctrl+s", "ctrl+s", "export", Group.look, "write this view to a file: csv, json, text, svg"),
    Action(
        "mark", "space", "space", "mark", Group.look, "mark this row for a change of several", tables=MARKED, foot=7
    ),
    Action(
        "mark_to_here", "m", "m", "mark to here", Group.look, "mark from the last marked row to here", tables=MARKED
    ),
    Action("mark_all", "asterisk", "*", "mark all", Group.look, "mark all that match, and none again", tables=MARKED),
    _change("look_in", "N", "other directory", "judge the models of another directory", _BEGIN, 8),
    _change("use_found", "L", "use it", "add this model and load it", _FOUND, 7),
    _change("again", "R", "again", "run the messages again", {"demo"}, 7),
    _change("submit", "N", "submit", "put a task into this queue", {"queues", "tasks", "needs", "templates"}, 7),
    _change("feed", "N", "file", "put a file of prompts through a model, as a batch", {"batches"}, 7),
    _change("new", "N", "new", "make a definition by form", {"pools", "sources", "workers"}, 7),
    _change("new_here", "ctrl+n", "new", "make a queue or a template by form", {"queues", "templates"}),
    _change("edit", "E", "edit", "change this definition by form", _DEFINED, 8),
    _change("pause", "P", "pause", "pause this queue, or let it go on", _QUEUES, 8),
    _change("drain", "D", "drain", "let this queue work off what it has and take nothing new", _QUEUES),
    _change("scale", "S", "scale", "how many instances its pool keeps and may have", {"pools", "queues"}, 9),
    _change("retry", "R", "retry", "put failed or cancelled tasks back", _TASKS, 8, fits=_can_retry),
    _change("move", "M", "move", "move waiting tasks to another queue, or to the front", _TASKS, fits=_can_move),
    _change("load", "L", "load", "load this model, by a way of its plan when there is no room", {"models"}, 7),
    _change("unload", "D", "unload gently", "unload it when what it does has ended", {"models"}, 8, fits=_is_up),
    _change(
        "unload_now", "X", "unload now", "unload it now; asks first", {"models"}, 9, Effect.destructive, fits=_is_up
    ),
    _change(
        "edit_model", "E", "edit", "change how this model is run: cache, context, slots; R starts it so", {"models"}, 9
    ),
    _change("keep", "K", "keep", "keep it loaded: for ever, for a time, or no longer", {"models"}, 9),
    _change("restart", "R", "restart", "start it again when what it does has ended", {"models"}, fits=_is_process),
    _change("try_model", "T", "try", "put a prompt to this model", {"models"}, 9),
    _change("version", "V", "set current", "make this version the current one", {"adapters"}, 7, fits=_is_usable),
    _change(
        "keep_adapter", "K", "keep resident", "keep it in the processes of its base", {"adapters"}, 8, fits=_is_usable
    ),
    _change("load_adapter", "L", "load", "bring it into the processes of its base", {"adapters"}, 8, fits=_is_usable),
    _change("evict", "X", "evict", "drop it from every process; what runs keeps it", {"adapters"}, 9, fits=_is_loaded),
    _change("add_adapter", "N", "add", "register a directory as the next version", {"adapters"}, 9),
    _change("compare", "C", "compare", "its prompt under several adapters, side by side", {"adapters", "tasks"}, 8),
    _change("ask_prompt", "T", "another prompt", "compare another prompt", {"compare"}, 7),
    _change("reload", "L", "load again", "read the definitions file again", {"workers"}, 8, build=_reload),
    _change("cancel", "X", "cancel", "cancel tasks; asks first", _TASKS, 9, Effect.destructive, fits=_can_cancel),
    _change("delete", "X", "delete", "delete this definition; asks first", _DEFINED, 0, Effect.destructive),
    _change("quiet", "D", "drain", "start nothing more, for maintenance", {"engine"}, 7),
    _change("go_on", "P", "go on", "end the maintenance: tasks start again", {"engine"}, 8),
    _change("approve", "A", "approve", "allow this request: it is made once, now", {"approvals"}, 7, fits=_can_decide),
    _change("refuse", "B", "refuse", "refuse this request, with a reason", {"approvals"}, 8, fits=_can_decide),
    _change(
        "talk", "T", "talk", "talk to this instance, or to a new one of this definition", {"instances", "workers"}, 7
    ),
    _change("end", "X", "retire", "stop its answer; else retire it", {"instances"}, 8, Effect.destructive),
    _change("undo", "Z", "take back", "take back this operation, or the last thing done here", TABLES),
    Action("cursor_up", "up,k", "↑ ↓ k j", "up", Group.move, "up, down"),
    Action("cursor_down", "down,j", "↓ j", "down", Group.move, ""),
    Action("left", "left", "← →", "column left", Group.move, "choose the column for f and s"),
    Action("right", "right", "→", "column right", Group.move, ""),
    Action("page_up", "pageup", "pgup pgdn", "page up", Group.move, "a page up, down"),
    Action("page_down", "pagedown", "pgdn", "page down", Group.move, ""),
    Action("half_up", "ctrl+u", "ctrl+u ctrl+d", "half a page up", Group.move, "half a page up, down"),
    Action("half_down", "ctrl+d", "ctrl+d", "half a page down", Group.move, ""),
    Action("top", "home,g", "g", "first row", Group.move, "first row, and stay with the newest"),
    Action("bottom", "end,G", "G", "last row", Group.move, "last row"),
    Action("pane", "tab", "Tab", "next part", Group.move, "next part of the screen"),
    Action("back", "left_square_bracket", "[", "back", Group.move, "back in the history, as it was left"),
    Action("forward", "right_square_bracket", "]", "forward", Group.move, "forward in the history"),
    Action("previous", "minus", "-", "previous", Group.move, "to the previous place, and back again"),
    Action(
        "replay", "ctrl+r", "ctrl+r", "replay", Group.replay, "the last minutes as they were, and back to now", foot=8
    ),
    Action("replay_at", "at", "@", "to a moment", Group.replay, "to a moment: 02:40, +5m, -30s, start, end", foot=4),
    Action("replay_play", "semicolon", ";", "play", Group.replay, "let it go on, or stand", foot=1),
    Action("replay_before", "comma", ", .", "change", Group.replay, "the change before, the next one", foot=2),
    Action("replay_after", "full_stop", ".", "next change", Group.replay, ""),
    Action("replay_back", "less_than_sign", "< >", "scrub", Group.replay, "a minute back, forward", foot=3),
    Action("replay_on", "greater_than_sign", ">", "forward", Group.replay, ""),
    Action("replay_slower", "left_curly_bracket", "{ }", "speed", Group.replay, "slower, faster", foot=5),
    Action("replay_faster", "right_curly_bracket", "}", "faster", Group.replay, ""),
    Action("jump", "colon", ":", "go to", Group.general, "go to a location, such as :tasks state:failed"),
    *(
        Action(f"go_{name}", key, key, name, Group.general, purpose, foot=10 if name in ("tasks", "queues") else 0)
        for key, name, purpose in SCREENS
    ),
    Action("palette", "ctrl+p", "ctrl+p", "palette", Group.general, "every action by name"),
    Action("theme", "ctrl+t", "ctrl+t", "theme", Group.general, "try themes"),
    Action("mouse", "f8", "f8", "mouse", Group.general, "give the mouse to the terminal, or take it again"),
    Action(
        "bandwidth", "f9", "f9", "bandwidth", Group.general, "spare a thin line: fewer frames, no drawings; and back"
    ),
    Action("redraw", "ctrl+l", "ctrl+l", "draw again", Group.general, "draw the whole screen again"),
    Action("help", "question_mark,f1", "?", "all keys", Group.general, "this list", foot=12),
    Action("quit", "q,ctrl+q,ctrl+c", "q", "leave", Group.general, "leave; asks what becomes of running work", foot=11),
)

BY_ID = {action.id: action for action in ACTIONS}


def available(table: str, lacks: frozenset[str] = frozenset(), actions: Sequence[Action] = ACTIONS) -> list[Action]:
    """The actions that work where a row of this table ("" for none) is under the cursor, on a page that lacks some."""
    return [action for action in actions if action.on(table) and action.id not in lacks]


def meant(action: Action, table: str, lacks: frozenset[str] = frozenset(), actions: Sequence[Action] = ACTIONS) -> bool:
    """Whether a key means this action here, and not another one that has the same key."""
    if action.on(table) and action.id not in lacks:
        return True
    keys = set(action.keys.split(","))
    return not any(
        keys & set(other.keys.split(",")) and other is not action for other in available(table, lacks, actions)
    )


def footer(
    table: str, lacks: frozenset[str] = frozenset(), actions: Sequence[Action] = ACTIONS, *, replaying: bool = False
) -> list[Action]:
    """At most nine actions for the footer, looking before changing before general; in a recording its own keys before all others."""
    order = {Group.replay: 0, Group.look: 1, Group.change: 2, Group.move: 3, Group.general: 4}
    other = Group.change if replaying else Group.replay
    shown = [action for action in available(table, lacks, actions) if action.foot and action.group is not other]
    shown.sort(key=lambda each: each.foot)
    shown.sort(key=lambda each: order[each.group])
    while len(shown) > 9:
        # What every screen has anyway goes first; changing keys and help stay.
        spare = [each for each in shown if each.id.startswith("go_")] or [each for each in shown if each.id == "quit"]
        spare = spare or [each for each in shown if each.group is Group.look]
        shown.remove(spare[-1])
    return shown
