"""A reader for the header of GGUF files (version 2 and 3): metadata and the table of tensors, never their data.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A header is little endian: `GGUF`, version, number of tensors, number of
metadata pairs, the pairs, then (name, dimensions, type, offset) of each tensor. Long arrays (the vocabulary) are skipped, not kept."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

import msgspec

MAGIC = b"GGUF"
_MAX_PAIRS, _MAX_TENSORS, _MAX_DIMENSIONS, _MAX_DEPTH = 100_000, 1_000_000, 8, 4
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_KEPT_ITEMS, _LONGEST_TEXT, _MOST_ELEMENTS = 64, 4_000_000, 2**50
_TOKENS = "tokenizer.ggml.tokens"
_SPECIAL = {
    "bos_token": "bos_token",
    "eos_token": "eos_token",
    "padding_token": "pad_token",
    "unknown_token": "unk_token",
}
"""GGUF's names of special tokens (with `_id` behind) → those that templates use."""

_BLOCKS: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""ggml's tensor types: name, elements of a block, bytes of a block (ggml.h, ggml-common.h)."""

FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L",
    14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M",
    32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip
"""`general.file_type` → the name that people call the quantisation by (llama.h, enum llama_ftype)."""


class BadGguf(Exception):
    """A file that is not, or not wholly, a GGUF file; the message says why."""


class Header(msgspec.Struct, frozen=True):
    """`metadata` without long arrays, of which `lengths` says how many items they have. `special` are the texts of the tokens that a chat
    template may name (bos_token, …). `parameters` are those of all tensors, `weights_bytes` what their data takes, `widest` the
    type that most bytes have. `missing_bytes` is what the file lacks at its end."""

    metadata: dict[str, Any]
    lengths: dict[str, int]
    special: dict[str, str]
    tensors: int
    parameters: int
    weights_bytes: int
    widest: str
    missing_bytes: int


def read_header(path: Path) -> Header:
    """Raises BadGguf, OSError."""
    if path.exists() and not path.is_file():
        raise BadGguf("it is no file")
    with path.open("rb") as file:
        size = path.stat().st_size
        if file.read(4) != MAGIC:
            raise BadGguf("it does not begin with GGUF")
        if size < 24:
            raise BadGguf("it is cut short")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _read(data, size)
            except (struct.error, IndexError, UnicodeDecodeError) as error:
                raise BadGguf("its header is cut short or damaged") from error


class _Cursor:
    """A place in the file that moves on with what is read."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = 4

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        begin, end = self._span()
        if end - begin > _LONGEST_TEXT:
            raise BadGguf("its header is damaged")
        return self._data[begin:end].decode("utf-8", "replace")

    def _span(self) -> tuple[int, int]:
        length = self.number("<Q")
        begin = self.at
        if length > len(self._data) - begin:
            raise IndexError(length)
        self.at += length
        return begin, self.at

    def skip_texts(self, count: int) -> None:
        """A vocabulary has hundreds of thousands: everything is at hand in the loop."""
        data, at, end = self._data, self.at, len(self._data)
        length_at = struct.Struct("<Q").unpack_from
        for _ in range(count):
            at += 8 + length_at(data, at)[0]
            if at > end:
                raise IndexError(at)
        self.at = at

    def skip(self, count: int) -> None:
        if count > len(self._data) - self.at:
            raise IndexError(count)
        self.at += count


def _read(data: mmap.mmap, size: int) -> Header:
    cursor = _Cursor(data)
    version = cursor.number("<I")
    if version not in (2, 3):
        raise BadGguf(f"its version is {version}, not 2 or 3")
    tensors, pairs = cursor.number("<Q"), cursor.number("<Q")
    if tensors > _MAX_TENSORS or pairs > _MAX_PAIRS:
        raise BadGguf("its header is damaged")
    metadata: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    tokens_at = 0
    for _ in range(pairs):
        key = cursor.text()
        kind = cursor.number("<I")
        if kind == _ARRAY:
            tokens_at = cursor.at if key == _TOKENS else tokens_at
            items, count = _array(cursor, 0)
            lengths[key] = count
            if items is not None:
                metadata[key] = items
        else:
            metadata[key] = _scalar(cursor, kind)
    special = _special(data, tokens_at, metadata) if tokens_at else {}
    return _with_tensors(cursor, size, tensors, metadata, lengths, special)


def _special(data: mmap.mmap, at: int, metadata: dict[str, Any]) -> dict[str, str]:
    """The texts of the special tokens, whose numbers may stand after the vocabulary that they are of."""
    cursor = _Cursor(data)
    cursor.at = at
    kind, count = cursor.number("<I"), cursor.number("<Q")
    wanted = {metadata.get(f"tokenizer.ggml.{name}_id"): name for name in _SPECIAL}
    numbers = sorted(number for number in wanted if isinstance(number, int) and 0 <= number < count)
    found: dict[str, str] = {}
    if kind == _STRING:
        passed = 0
        for number in numbers:
            cursor.skip_texts(number - passed)
            found[_SPECIAL[wanted[number]]] = cursor.text()
            passed = number + 1
    return found


def _scalar(cursor: _Cursor, kind: int) -> Any:
    if kind == _STRING:
        return cursor.text()
    form = _SCALARS.get(kind)
    if form is None:
        raise BadGguf(f"it has a value of unknown type {kind}")
    return cursor.number(form)


def _array(cursor: _Cursor, depth: int) -> tuple[list[Any] | None, int]:
    """The items of a short array (None: it is long, and skipped) and how many there are."""
    kind, count = cursor.number("<I"), cursor.number("<Q")
    if kind == _ARRAY:
        if depth >= _MAX_DEPTH or count > _MAX_PAIRS:
            raise BadGguf("its header is damaged")
        for _ in range(count):
            _array(cursor, depth + 1)
        return None, count
    if count <= _KEPT_ITEMS:
        return [_scalar(cursor, kind) for _ in range(count)], count
    form = _SCALARS.get(kind)
    if form is not None:
        cursor.skip(struct.calcsize(form) * count)
    elif kind == _STRING:
        cursor.skip_texts(count)
    else:
        raise BadGguf(f"it has an array of unknown type {kind}")
    return None, count


def _with_tensors(
    cursor: _Cursor,
    size: int,
    tensors: int,
    metadata: dict[str, Any],
    lengths: dict[str, int],
    special: dict[str, str],
) -> Header:
    parameters = end = 0
    by_type: dict[str, int] = {}
    for _ in range(tensors):
        cursor.skip_texts(1)
        dimensions = cursor.number("<I")
        if dimensions > _MAX_DIMENSIONS:
            raise BadGguf("its table of tensors is damaged")
        elements = 1
        for _ in range(dimensions):
            elements *= cursor.number("<Q")
        if elements > _MOST_ELEMENTS:
            raise BadGguf("its table of tensors is damaged")
        kind, offset = cursor.number("<I"), cursor.number("<Q")
        name, block, block_bytes = _BLOCKS.get(kind, (f"type {kind}", 1, 0))
        taken = -(-elements // block) * block_bytes
        parameters += elements
        by_type[name] = by_type.get(name, 0) + taken
        end = max(end, offset + taken)
    alignment = metadata.get("general.alignment", 32)
    alignment = alignment if isinstance(alignment, int) and 0 < alignment <= 2**20 else 32
    data_begin = -(-cursor.at // alignment) * alignment
    widest = max(by_type, key=lambda name: by_type[name], default="")
    return Header(
        metadata, lengths, special, tensors, parameters, sum(by_type.values()), widest, max(0, data_begin + end - size)
    )
