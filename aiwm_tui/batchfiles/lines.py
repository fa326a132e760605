"""Reading a file of tasks: one JSON object a line, any number of them. What is wrong is found before anything is submitted."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from engine.contract.errors import AiwmError, Code
from engine.contract.requests.batches import BatchItem, BatchRefusal

ITEMS = 500
BYTES = 2 * 2**20
MAX_LINE = 4 * 2**20


class Bad(NamedTuple):
    """A line that cannot be a task, counted from 1."""

    line: int
    why: str


class Line(NamedTuple):
    number: int
    item: BatchItem
    size: int


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """The file, or stdin (`-`) as a file that can be read twice."""
    if name != "-":
        with Path(name).expanduser().open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool)
        yield spool


def read(file: IO[bytes], key: str | None) -> Iterator[Line | Bad]:
    """The file's lines in order, from its beginning; blank ones are skipped. `key` is the field that names a task; it is taken out of
    the payload. A line with a field `payload` that is an object has that for its payload."""
    file.seek(0)
    index = 0
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
            yield Bad(number, f"is longer than {MAX_LINE} bytes")
            continue
        if not line.strip():
            continue
        found = _item(line, key, index)
        index += 1
        yield Bad(number, found) if isinstance(found, str) else Line(number, found, len(line))


def _item(line: bytes, key: str | None, index: int) -> BatchItem | str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}"
    if not isinstance(value, dict):
        return "is not a JSON object"
    name = ""
    if key is not None:
        named = value.pop(key, None)
        if not isinstance(named, (str, int)) or isinstance(named, bool) or not 1 <= len(str(named)) <= 200:
            return (
                f'has no key: the field "{key}" must be a text or a whole number'
                if named is None
                else _bad_key(key, named)
            )
        name = str(named)
    payload = value.get("payload")
    return BatchItem(index=index, key=name, payload=payload if isinstance(payload, dict) else value)


def _bad_key(key: str, value: Any) -> str:
    return f'has no usable key: "{key}" is {json.dumps(value)[:60]}'


class Checking:
    """The first reading of a file: `good` gives the lines that look like tasks, for the engine to judge; what is wrong gathers in `bad`.
    `total` lines were read so far."""

    def __init__(self, file: IO[bytes], key: str | None) -> None:
        self._file = file
        self._key = key
        self._hashes: array[int] = array("Q")
        self.bad: list[Bad] = []
        self.total = 0

    def good(self) -> Iterator[Line]:
        for it in read(self._file, self._key):
            self.total += 1
            if isinstance(it, Bad):
                self.bad.append(it)
                continue
            if self._key is not None:
                self._hashes.append(key_hash(it.item.key))
            yield it

    def judged(self, piece: Sequence[Line], refused: Sequence[BatchRefusal]) -> None:
        """What the engine said of some of them."""
        numbers = {it.item.index: it.number for it in piece}
        for it in refused:
            fix = f" ({it.error.fix})" if it.error.fix else ""
            self.bad.append(Bad(numbers[it.index], f"{it.error.message}{fix}"))

    def finish(self) -> list[Bad]:
        """Everything that is wrong, by line, keys that were there before among it. Raises `payload_invalid` for a file without lines."""
        if not self.total:
            raise AiwmError(
                Code.payload_invalid, "the file has no lines", field="file", fix='{"prompt": "…"} on each line'
            )
        return sorted([*self.bad, *self._repeated(repeats(self._hashes))])

    def _repeated(self, twice: set[int]) -> Iterator[Bad]:
        seen: dict[str, int] = {}
        for it in read(self._file, self._key) if twice else ():
            if isinstance(it, Line) and key_hash(it.item.key) in twice:
                first = seen.setdefault(it.item.key, it.number)
                if first != it.number:
                    yield Bad(it.number, f'has the key "{it.item.key[:60]}" of line {first}')


def repeats(keys: array[int]) -> set[int]:
    """Hashes that occur more than once."""
    import numpy as np

    values, counts = np.unique(np.frombuffer(keys, dtype=np.uint64), return_counts=True) if keys else ((), ())
    return {int(value) for value, count in zip(values, counts, strict=True) if count > 1}


def key_hash(key: str) -> int:
    """64 bits of a key: so that many of them can be compared in little memory."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def chunks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Lines in pieces that one request can carry."""
    piece: list[Line] = []
    size = 0
    for line in lines:
        if piece and (len(piece) >= ITEMS or size + line.size > BYTES):
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += line.size
    if piece:
        yield piece


def bad_file(name: str, bad: list[Bad], total: int) -> AiwmError:
    """Everything that is wrong with a file, as one error."""
    shown = tuple(f"line {it.line} {it.why}" for it in bad[:1_000])
    more = f"; the first {len(shown)} are shown" if len(bad) > len(shown) else ""
    count = f"{len(bad):,} of {total:,} lines are bad{more}; nothing was submitted"
    return AiwmError(
        Code.payload_invalid, f"{name}: {count}", field="file", fix="correct them, or --skip-bad", stderr=shown
    )
