"""Splitting a byte stream into lines, without I/O. asyncio's StreamReader.readline breaks at 64 KiB; a line here may have 16 MiB."""

from __future__ import annotations

from collections.abc import Iterator

MAX_LINE_BYTES = 16 * 2**20


class Overlong:
    """Stands in for a line that was longer than the limit; its bytes were dropped as they came."""


OVERLONG = Overlong()


class LineFramer:
    """Feed it bytes, get whole lines without their newline. Memory is bounded by the limit however long a line is."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._held = 0
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[bytes | Overlong]:
        """The lines that `data` completes. A line over the limit yields OVERLONG once, when its newline has come."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            yield from self._complete(data[start:end])
            start = end + 1
        self._hold(data[start:] if start else data)

    def _complete(self, tail: bytes) -> Iterator[bytes | Overlong]:
        self._hold(tail)
        parts, skipping = self._parts, self._skipping
        self._parts, self._held, self._skipping = [], 0, False
        if skipping:
            yield OVERLONG
            return
        line = parts[0] if len(parts) == 1 else b"".join(parts)
        if line.strip():
            yield line

    def _hold(self, data: bytes) -> None:
        if not data or self._skipping:
            return
        self._held += len(data)
        if self._held > self._limit:
            self._parts, self._skipping = [], True
        else:
            self._parts.append(data)

    @property
    def partial(self) -> bool:
        """Whether the stream stands in the middle of a line: at its end that line was cut."""
        return self._held > 0
