"""Server-sent events out of bytes in any pieces, as the HTML standard parses them (section 9.2.6, "Interpreting an event stream")."""

from __future__ import annotations

import msgspec

MAX_EVENT_BYTES = 4 * 2**20
"""No event of a model's answer is larger; a server that sends one is not speaking the protocol."""

_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True):
    """One event: its name (`message` where none was given) and its data, lines joined by \\n."""

    name: str
    data: str


class TooLong(Exception):
    """An event grew beyond MAX_EVENT_BYTES."""


class SseReader:
    """Feed it what arrives; it gives the events that are whole. What is left at the end is discarded, as the standard says: an event ends
    with an empty line. Lines end with \\r\\n, \\n or \\r; comments, ids and retry times are skipped; broken UTF-8 becomes U+FFFD."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._name = ""
        self._data: list[str] = []
        self._size = 0
        self._start = True
        self._after_cr = False

    def feed(self, piece: bytes) -> list[Event]:
        """The events that this piece completes. Raises TooLong."""
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if b"\n" not in piece and b"\r" not in piece:
            self._rest += piece
            return self._bounded([])
        data = bytes(self._rest) + piece
        # The last line is whole only if it ends; a \n that follows a final \r is still on its way.
        self._after_cr = data.endswith(b"\r")
        *lines, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = bytearray(rest)
        found = [event for line in lines if (event := self._line(line)) is not None]
        return self._bounded(found)

    def _bounded(self, found: list[Event]) -> list[Event]:
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise TooLong
        return found

    def _line(self, line: bytes) -> Event | None:
        if self._start:
            self._start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatched()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._size += len(line)
            if self._size > MAX_EVENT_BYTES:
                raise TooLong
            self._data.append(value.decode("utf-8", "replace"))
        elif field == b"event":
            self._name = value[:100].decode("utf-8", "replace")
        return None

    def _dispatched(self) -> Event | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return Event(name, "\n".join(data)) if data else None
