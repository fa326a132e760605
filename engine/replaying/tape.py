"""A recording's file, or the files of a ring: its header, its snapshot, and where in it each moment lies.

Every line is read once when it is opened, so that damage is found then and not in the middle of the night. A last line without its end
is what a killed engine leaves: it is left out, and said."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.recording import lines
from engine.recording.lines import Header, Line
from engine.store.image import Part

_LONGEST_HEADER = 65_536
_LONGEST = 2**30
_SAMPLES = b'[[{"op":"PutSamples"'


class _Place(msgspec.Struct, frozen=True, gc=False):
    """Where a line is: which file, its offset and length in bytes, its number."""

    file: int
    offset: int
    length: int
    number: int


class Tape:
    """An opened recording. `at` are the times of its changes (Unix ms), rising; `steps` those of them at which something was committed that
    is no sample. Raises `recording_invalid` when it cannot be played."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files: list[BinaryIO] = []
        self._places: list[_Place] = []
        self._snapshot: tuple[int, int] = (0, 0)
        self.at: list[int] = []
        self.steps: list[int] = []
        self.left_out = ""
        self.ends = ""
        self.cut = False
        try:
            headers = [self._index(number, path) for number, path in enumerate(paths)]
        except BaseException:
            self.close()
            raise
        self.header: Header = headers[0]
        self.from_ms = self.header.started_ms
        self.to_ms = max(self.at[-1] if self.at else 0, self.from_ms)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def __len__(self) -> int:
        return len(self.at)

    def parts(self) -> Iterator[Part]:
        """The rows of the snapshot."""
        file = self._files[0]
        offset, end = self._snapshot
        file.seek(offset)
        number = 1
        while file.tell() < end:
            number += 1
            line = lines.read_line(file.readline(), number)
            yield Part(line.put, line.columns, line.rows)

    def line(self, index: int) -> tuple[Line, int]:
        """The change with this index, and its line's number."""
        place = self._places[index]
        file = self._files[place.file]
        file.seek(place.offset)
        return lines.read_line(file.read(place.length), place.number), place.number

    def until(self, at_ms: int) -> int:
        """How many changes have happened at a moment, those of the moment included."""
        return bisect_right(self.at, at_ms)

    def _index(self, which: int, path: Path) -> Header:
        """Look at every line of a file; its header."""
        file = _open(path)
        self._files.append(file)
        try:
            return self._read(which, file)
        except AiwmError as error:
            info = error.info
            raise AiwmError(info.code, f"{path}: {info.message}", field=info.field, fix=info.fix) from None
        except OSError as error:
            raise _unreadable(path, error) from None

    def _read(self, which: int, file: BinaryIO) -> Header:
        first = file.readline(_LONGEST_HEADER)
        header = lines.read_header(first)
        offset, number, whole = len(first), 1, False
        self.ends, self.cut = "", False
        for data in iter(lambda: file.readline(_LONGEST), b""):
            number += 1
            if len(data) == _LONGEST:
                raise lines.damaged(number, f"it is longer than {_LONGEST >> 20} MB")
            if not data.endswith(b"\n"):
                self.ends, self.cut = "in the middle of a line: the engine or its machine stopped there", True
                break
            line = lines.read_line(data, number)
            if line.left_out is not None and not whole:
                whole = True
                if not which:
                    self._snapshot, self.left_out = (len(first), offset), line.left_out
            elif line.put and whole:
                raise lines.damaged(number, f"rows of {line.put[:40]} after the snapshot")
            elif not line.put:
                self._note(line, _Place(which, offset, len(data), number))
            offset += len(data)
        if not whole:
            message = "it ends inside its snapshot: there is nothing to play"
            raise AiwmError(Code.recording_invalid, message, field="file", fix="record again, a little longer")
        if not self.ends and header.ring:
            self.ends = "where the ring was opened"
        elif not self.ends:
            self.ends, self.cut = "without an end: the engine was killed, or records still", True
        return header

    def _note(self, line: Line, place: _Place) -> None:
        """Something changed, or the recording ends."""
        if line.end is not None:
            self.ends = line.end or "it was stopped"
            return
        self.at.append(max(line.at, self.at[-1] if self.at else 0))
        self._places.append(place)
        if line.ops and not bytes(line.ops).startswith(_SAMPLES):
            self.steps.append(self.at[-1])


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> AiwmError:
    message = f"{path} cannot be read: {error.strerror}"
    return AiwmError(Code.file_not_found, message, field="file", fix="aiwm record FILE makes one")
