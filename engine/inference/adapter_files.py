"""Adapter directories as every part of this room knows them: which files make one, and the digest that names its content.

Cheap to import: the engine uses it without numpy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.contract.errors import AiwmError, Code

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


_HASHED = 1 << 20  # bytes at a time
_LENGTH = 8  # bytes that say how long a safetensors header is


def adapter_digest(directory: Path) -> str:
    """Hex SHA-256 of what an adapter does: its configuration and its weights. Raises adapter_not_found, adapter_invalid."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            with (directory / name).open("rb", buffering=0) as file:
                digest.update(os.fstat(file.fileno()).st_size.to_bytes(8, "little"))
                while piece := file.read(_HASHED):
                    digest.update(piece)
        except OSError as error:
            raise missing_part(directory, name) from error
    return digest.hexdigest()


class AdapterFiles:
    """An adapter's files while it is loaded: `config` is the configuration's content, `size` the bytes of the weights."""

    def __init__(self, directory: Path, config: bytes, weights: int) -> None:
        """`weights` is the open file, which stays the caller's."""
        self.directory = directory
        self.config = config
        self.size = os.fstat(weights).st_size
        self._weights = weights
        self._window = memoryview(b"")
        if hasattr(os, "posix_fadvise"):  # the disk reads on while what has come is checked and laid out
            os.posix_fadvise(weights, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def read(self, begin: int, end: int) -> bytes:
        """These bytes of the weights. A copy, not a map: a file that is cut meanwhile must not end the process. Raises adapter_invalid."""
        pieces: list[bytes] = []
        while begin < end:
            piece = os.pread(self._weights, end - begin, begin)
            if not piece:
                raise self._cut()
            pieces.append(piece)
            begin += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def header(self, most: int) -> bytes | None:
        """The safetensors header with the eight bytes of its length, unchecked; None if that says more than `most`, or than there is."""
        if self.size < _LENGTH:
            return None
        end = _LENGTH + int.from_bytes(self.read(0, _LENGTH), "little")
        return self.read(0, end) if end <= min(self.size, most) else None

    def passing(self, begin: int, end: int) -> memoryview:
        """These bytes of the weights, which may be read until the next call: the memory is used again, so what is read piece by piece is
        still in the processor's cache when it is looked at. Raises adapter_invalid."""
        size, done = end - begin, 0
        if len(self._window) < size:
            self._window = memoryview(bytearray(size))
        window = self._window[:size]
        while done < size:
            count = os.preadv(self._weights, [window[done:]], begin + done)
            if not count:
                raise self._cut()
            done += count
        return window

    def _cut(self) -> AiwmError:
        return AiwmError(Code.adapter_invalid, f"{self.directory / WEIGHTS_FILE} was cut short", field="adapters")


@contextmanager
def verified_files(name: str, directory: Path, digest: str, marks: tuple[int, ...] = ()) -> Iterator[AdapterFiles]:
    """The files of the adapter that has this digest, for reading within the context; leaving it raises if they changed meanwhile.

    `marks` are those of the files that the digest was taken of: where they are still the same, it is not taken again. Raises
    adapter_not_found, adapter_invalid."""

    def changed() -> AiwmError:
        return AiwmError(
            Code.adapter_invalid,
            f"adapter {name} at {directory} changed on disk while it was asked for",
            field="adapters",
            retryable=True,
        )

    before = file_marks(directory)
    if before != marks and adapter_digest(directory) != digest:
        raise changed()
    try:
        config = (directory / CONFIG_FILE).read_bytes()
        weights = (directory / WEIGHTS_FILE).open("rb", buffering=0)
    except OSError as error:
        raise missing_part(directory, WEIGHTS_FILE) from error
    with weights:
        yield AdapterFiles(directory, config, weights.fileno())
        if file_marks(directory) != before:
            raise changed()


def file_marks(directory: Path) -> tuple[int, ...]:
    """What changes when an adapter's files change: their times, sizes and inodes. Raises adapter_not_found, adapter_invalid."""
    marks: list[int] = []
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            stat = (directory / name).stat()
        except OSError as error:
            raise missing_part(directory, name) from error
        marks += (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return tuple(marks)


def missing_part(directory: Path, name: str) -> AiwmError:
    """The error for an adapter directory without this file, or that is no directory at all."""
    if not directory.is_dir():
        return AiwmError(
            Code.adapter_not_found,
            f"adapter directory {directory} does not exist",
            field="adapters",
            fix="correct the path, or put the adapter's directory there",
        )
    if name == WEIGHTS_FILE:
        unsafe = next((p.name for p in sorted(directory.iterdir()) if p.suffix in UNSAFE_SUFFIXES), None)
        if unsafe:
            return AiwmError(
                Code.adapter_unsupported,
                f"adapter {directory} has only {unsafe}, a pickle that could run code",
                field="adapters",
                fix="save the adapter again as safetensors",
            )
    return AiwmError(Code.adapter_invalid, f"adapter {directory} has no readable {name}", field="adapters")
