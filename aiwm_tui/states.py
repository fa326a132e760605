"""How a state looks: one glyph, its word and a style name, everywhere the same.

`● works · ○ rests · ◐ on its way · ◌ held by a limit · ◷ later · ‖ paused by someone · ? asks you · ! works but wrong · ✗ broken ·
✓ done · ⊘ cancelled`. The style names are keys of a theme. `ASCII` maps every glyph the console draws to a twin of one cell."""

from __future__ import annotations

from typing import Final

from aiwm_tui.live.text import Span, clean

GLYPHS: Final[dict[str, str]] = {
    "works": "●",
    "rests": "○",
    "coming": "◐",
    "held": "◌",
    "later": "◷",
    "paused": "‖",
    "asks": "?",
    "wrong": "!",
    "broken": "✗",
    "done": "✓",
    "cancelled": "⊘",
}
"""Style name → glyph. A look is both, so that no colour is ever the only difference."""

_LOOKS: Final[dict[str, dict[str, str]]] = {
    "tasks": {
        "pending": "held",
        "scheduled": "later",
        "processing": "works",
        "retrying": "coming",
        "completed": "done",
        "failed": "broken",
        "cancelled": "cancelled",
    },
    "queues": {
        "open": "works",
        "paused": "paused",
        "draining": "coming",
        "held": "held",
        "stuck": "broken",
    },
    "pools": {
        "ok": "works",
        "busy": "works",
        "idle": "rests",
        "empty": "rests",
        "starting": "coming",
        "draining": "coming",
        "paused": "paused",
        "limited": "held",
        "held": "held",
        "at max": "wrong",
        "broken": "broken",
    },
    "instances": {
        "starting": "coming",
        "idle": "rests",
        "busy": "works",
        "stuck": "wrong",
        "limited": "held",
        "spent": "held",
        "full": "wrong",
        "broken": "broken",
        "retiring": "coming",
        "completed": "done",
        "exhausted": "rests",
        "failed": "broken",
    },
    "retired": {
        "completed": "done",
        "exhausted": "rests",
        "failed": "broken",
        "full": "wrong",
        "spent": "held",
    },
    "sources": {
        "usable": "works",
        "missing": "wrong",
        "denied": "broken",
    },
    "limits": {
        "open": "works",
        "limited": "held",
        "disabled": "paused",
        "archived": "rests",
    },
    "models": {
        "stopped": "rests",
        "starting": "coming",
        "ready": "works",
        "busy": "works",
        "draining": "coming",
        "backoff": "wrong",
        "limited": "held",
        "paused": "paused",
        "absent": "rests",
        "refused": "broken",
        "failed": "broken",
        "unreachable": "broken",
    },
    "adapters": {
        "pinned": "works",
        "resident": "works",
        "staged": "coming",
        "absent": "rests",
        "refused": "broken",
    },
    "needs": {
        "broken": "broken",
        "wrong": "wrong",
        "asks": "asks",
        "held": "held",
        "paused": "paused",
    },
    "operations": {
        "waiting": "later",
        "running": "works",
        "canary": "coming",
        "done": "done",
        "held": "held",
        "failed": "broken",
        "undone": "cancelled",
    },
    "approvals": {
        "pending": "asks",
        "approved": "coming",
        "done": "done",
        "failed": "broken",
        "rejected": "cancelled",
        "expired": "cancelled",
        "unknown": "wrong",
    },
    "batches": {
        "pending": "held",
        "processing": "works",
        "completed": "done",
        "failed": "wrong",
        "cancelled": "cancelled",
    },
    "events": {
        "debug": "faint",
        "info": "dim",
        "warn": "wrong",
        "error": "broken",
        "audit": "key",
        "ask": "asks",
    },
}

ASCII: Final[dict[int, str]] = str.maketrans(
    {
        "●": "*",
        "○": "o",
        "◐": "~",
        "◌": ".",
        "◷": "@",
        "‖": "=",
        "✗": "x",
        "✓": "+",
        "⊘": "/",
        "›": ">",
        "‹": "<",
        "▪": "#",
        "▌": "_",
        "▲": "^",
        "▼": "v",
        "│": "|",
        "─": "-",
        "└": "`",
        "–": "-",
        "…": "~",
        "↵": "^",
        "→": ">",
        "←": "<",
        "↑": "^",
        "↓": "v",
        "·": ".",
        "×": "x",
        "≥": ">",
        "≤": "<",
        "•": "*",
        "├": "|",
        "┤": "|",
        "▁": "_",
        "▂": ".",
        "▃": ",",
        "▄": "-",
        "▅": "=",
        "▆": "+",
        "▇": "*",
        "█": "#",
        "°": "o",
        "±": "~",
        "░": ".",
        "▒": ":",
        "▓": "#",
        "—": "-",
        "«": "<",
        "»": ">",
        # What Textual's own widgets draw: borders, scroll bars, the palette's glass (two cells).
        "▔": "-",
        "▀": "'",
        "▐": "|",
        "▍": "|",
        "▎": "|",
        "▊": "|",
        "━": "-",
        "┃": "|",
        "╸": "-",
        "╺": "-",
        "┌": "+",
        "┐": "+",
        "┘": "+",
        "╭": "+",
        "╮": "+",
        "╯": "+",
        "╰": "+",
        "🔎": "? ",
    }
)


def look(table: str, state: str) -> str:
    """The style name of a state of a table; an unknown state is drawn plainly instead of failing."""
    return _LOOKS.get(table, {}).get(state, "text")


def glyph(style: str) -> str:
    return GLYPHS.get(style, "·")


def state_span(table: str, state: str) -> Span:
    """`● processing` with its style; levels of events are a word only."""
    style = look(table, state)
    word = clean(state, 40)
    return (word if table == "events" else f"{glyph(style)} {word}", style)


def known_states(table: str) -> list[str]:
    """The states of a table's rows, for completion."""
    return list(_LOOKS.get(table, {}))
