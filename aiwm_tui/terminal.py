"""What the terminal can show: colours, glyphs, how far away it is. Read from the environment; loads nothing of the console."""

from __future__ import annotations

import locale
import os
import sys

from aiwm_tui.live.text import width
from aiwm_tui.states import ASCII


def no_colour() -> bool:
    """NO_COLOR counts when it is set and not empty; a dumb terminal has no colours either."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def ascii_only() -> bool:
    """Whether glyphs must be ASCII: asked for by AIWM_ASCII, a dumb or console terminal, or a locale that has no others.

    Under LC_ALL=C Python itself counts everything as UTF-8, so the variable is looked at too."""
    if os.environ.get("AIWM_ASCII"):
        return True
    if os.environ.get("TERM") in ("dumb", "linux") or os.environ.get("LC_ALL") in ("C", "POSIX"):
        return True
    encoding = getattr(sys.__stdout__, "encoding", None) or locale.getpreferredencoding(False)
    return "utf" not in encoding.lower()


def ascii_text(text: str) -> str:
    """The text with twins in place of the console's glyphs; other characters become as many `?` as they are cells wide."""
    if text.isascii():
        return text
    return "".join(each if each.isascii() else "?" * width(each) for each in text.translate(ASCII))


def far_away() -> bool:
    """Whether the terminal is at the other end of an ssh connection."""
    return bool(os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"))
