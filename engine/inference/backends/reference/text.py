"""From tokens back to text, piece by piece: nothing half is ever shown.

A token may end in the middle of a character, so bytes are held until they are whole. A stop string may begin in one token and
end in another, so text that could be the beginning of one is held until it is certain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"  # what decoders put for bytes that are not (yet) a character
LONGEST_HELD = 3  # a character has at most 4 bytes, so at most 3 marks stand for one that is still coming
MAX_PENDING = 64  # a model that writes bytes which never become text is shown as it is after so many tokens

Decode = Callable[[Sequence[int]], str]


class Detokenizer:
    """Turns the tokens of one text into pieces of it. Decoding the newest few tokens only keeps a step's cost constant; the
    tokens of the piece before stay in the window because some decoders treat the first token of a text differently."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._settled = 0  # tokens at the window's start whose text has been given out
        self._given = 0  # characters of the window's text that have been given out

    def push(self, token: int) -> str:
        """The text that this token makes certain, often a word, sometimes nothing."""
        self._window.append(token)
        text = self._decode(self._window)
        if text.endswith(REPLACEMENT) and len(self._window) - self._settled < MAX_PENDING:
            marks = len(text) - len(text.rstrip(REPLACEMENT))
            piece = text[self._given : len(text) - min(marks, LONGEST_HELD)]
            self._given += len(piece)
            return piece
        piece = text[self._given :]
        del self._window[: self._settled]
        self._settled = len(self._window)
        self._given = len(self._decode(self._window))
        return piece

    def finish(self) -> str:
        """What is still held at the end: bytes that never became a character, as replacement marks."""
        piece = self._decode(self._window)[self._given :]
        self._window, self._settled, self._given = [], 0, 0
        return piece


class StopStrings:
    """Finds the first stop string in a text that comes in pieces, and cuts the text before it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str) -> tuple[str, bool]:
        """(text that is certain, whether a stop string was found). After it was found nothing more may be pushed."""
        if not self._stops or not piece:
            return piece, False
        text = self._held + piece
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def finish(self) -> str:
        """The held text: it was the beginning of a stop string that never came."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` with which `stop` begins, short of the whole."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
