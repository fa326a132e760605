"""Answers side by side: which words of one differ from another's, and how wide columns of them wrap. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from aiwm_tui.live.text import clean_lines

_PIECES = re.compile(r"\s+|\S+")
MOST_WORDS = 4_000
"""Longer answers are compared as a whole: word by word would take seconds."""


class Span(NamedTuple):
    """A piece of a line; `differs`: it is not in the answer that it is held against."""

    text: str
    differs: bool


Line = list[Span]


def difference(first: str, other: str) -> tuple[int, int]:
    """How many words of `other` are not in `first` in that place, and how many it has."""
    words = other.split()
    return sum(_flags(first.split(), words)), len(words)


def lines_of(first: str, other: str, width: int) -> list[Line]:
    """`other` in lines of at most `width` characters, every word marked that differs from `first`. Harmless for a terminal."""
    shown = "\n".join(clean_lines(other))
    flags = iter(_flags("\n".join(clean_lines(first)).split(), shown.split()))
    lines: list[Line] = []
    for text in shown.split("\n"):
        pieces = [Span(piece, not piece.isspace() and next(flags)) for piece in _PIECES.findall(text)]
        lines += _wrapped(pieces, max(1, width))
    return lines


def _flags(first: list[str], words: list[str]) -> list[bool]:
    """Of each word, whether it differs."""
    import difflib

    if first == words:
        return [False] * len(words)
    if len(first) + len(words) > MOST_WORDS:
        return [True] * len(words)
    flags = [True] * len(words)
    for block in difflib.SequenceMatcher(None, first, words, autojunk=False).get_matching_blocks():
        flags[block.b : block.b + block.size] = [False] * block.size
    return flags


def _wrapped(pieces: list[Span], width: int) -> list[Line]:
    from rich.cells import cell_len, chop_cells

    lines: list[Line] = [[]]
    used = 0
    for piece in pieces:
        for part in chop_cells(piece.text, width) if cell_len(piece.text) > width else [piece.text]:
            size = cell_len(part)
            if used + size > width:
                lines.append([])
                used = 0
                if part.isspace():
                    continue
            lines[-1].append(Span(part, piece.differs))
            used += size
    return lines
