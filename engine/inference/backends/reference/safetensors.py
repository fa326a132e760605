"""A reader for safetensors files, the only weight format this backend opens.

A file is 8 bytes of header length (little endian), a JSON header {name: {dtype, shape, data_offsets}}, then raw tensors.
There is nothing to execute, which is the point: pickle files (.bin, .pt) run code when they are opened and are refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.inference.adapter_files import UNSAFE_SUFFIXES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from engine.inference.adapter_files import AdapterFiles

    FloatArray = npt.NDArray[np.float32]

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One header entry. `begin` and `end` are byte positions in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class TensorFile:
    """One safetensors file: its header is read and checked at once, tensors only when asked for. `source` reads it instead, if it is given.

    Raises AiwmError(`code`) that names the file and what is wrong with it."""

    def __init__(self, path: Path, code: Code = Code.model_invalid, source: AdapterFiles | None = None) -> None:
        self.path = path
        self._code = code
        self._source = source
        self._data: npt.NDArray[np.uint8] | None = None
        self.tensors: dict[str, TensorInfo] = {}
        try:
            self._size = path.stat().st_size if source is None else source.size
            header_bytes = int.from_bytes(self._beginning(0, min(self._size, 8)), "little")
            if self._size < 8 or header_bytes > min(self._size - 8, MAX_HEADER_BYTES):
                raise self._corrupt("its header is longer than the file")
            header = msgspec.json.decode(self._beginning(8, 8 + header_bytes))
        except OSError as error:
            raise AiwmError(code, f"{path} cannot be read: {error.strerror}", field="path") from error
        except NOT_JSON as error:
            raise self._corrupt("its header is not JSON") from error
        if not isinstance(header, dict):
            raise self._corrupt("its header is not an object")
        for name, entry in header.items():
            if name != "__metadata__":
                self.tensors[name] = self._checked(name, entry, 8 + header_bytes)

    def _beginning(self, begin: int, end: int) -> bytes:
        if self._source is not None:
            return self._source.read(begin, end)
        with self.path.open("rb") as file:
            file.seek(begin)
            return file.read(end - begin)

    def _corrupt(self, why: str) -> AiwmError:
        return AiwmError(
            self._code,
            f"{self.path} is not a whole safetensors file: {why}",
            field="path",
            fix="copy the file again from where it came",
        )

    def _checked(self, name: str, entry: Any, base: int) -> TensorInfo:
        try:
            dtype, shape = str(entry["dtype"]), tuple(map(int, entry["shape"]))
            begin, end = map(int, entry["data_offsets"])
            begin, end = base + begin, base + end
        except (KeyError, TypeError, ValueError) as error:
            raise self._corrupt(f"the entry of tensor {name} is malformed") from error
        if not base <= begin <= end <= self._size:
            raise self._corrupt(f"tensor {name} lies outside it, the file is cut short")
        info = TensorInfo(name, dtype, shape, begin, end)
        if dtype in ITEM_BYTES and info.elements * ITEM_BYTES[dtype] != end - begin:
            raise self._corrupt(f"tensor {name} has another size than its shape says")
        return info

    def read(self, name: str) -> FloatArray:
        """A tensor as float32. The array of a float32 tensor is a view of the file and must not be written to."""
        import numpy as np

        info = self.info(name)
        if self._source is not None:
            return numbers(info.dtype, self._source.read(info.begin, info.end)).reshape(info.shape)
        if self._data is None:
            self._data = np.memmap(self.path, np.uint8, mode="r")
        return numbers(info.dtype, self._data[info.begin : info.end]).reshape(info.shape)

    def info(self, name: str) -> TensorInfo:
        """What the header says of a tensor. Raises for one that is not there or of another type."""
        info = self.tensors.get(name)
        if info is None:
            raise AiwmError(self._code, f"{self.path} has no tensor {name}", field="path")
        if info.dtype not in ITEM_BYTES:
            raise AiwmError(
                self._code,
                f"tensor {name} in {self.path} has type {info.dtype}; this backend reads F32, F16 and BF16",
                field="path",
                fix="convert the weights to F16, or run them on a GPU backend",
            )
        return info


def numbers(dtype: str, raw: Any) -> FloatArray:
    """The numbers, in one row, from anything that holds their bytes. Those of F32 are a view of it."""
    import numpy as np

    if dtype == "BF16":  # bfloat16 is the upper half of a float32
        wide = np.frombuffer(raw, np.uint16).astype(np.uint32)
        wide <<= np.uint32(16)
        return wide.view(np.float32)
    return np.frombuffer(raw, np.float32 if dtype == "F32" else np.float16).astype(np.float32, copy=False)


class TensorDirectory:
    """All tensors of a model directory, in one file or in shards."""

    def __init__(self, directory: Path) -> None:
        paths = sorted(directory.glob("*.safetensors"))
        if not paths:
            unsafe = next((p.name for p in sorted(directory.iterdir()) if p.suffix in UNSAFE_SUFFIXES), None)
            why = f"only {unsafe}, a pickle that could run code" if unsafe else "no weights"
            raise AiwmError(
                Code.model_invalid,
                f"{directory} has {why}; weights must be *.safetensors",
                field="model",
                fix="convert the weights to safetensors",
            )
        self.files = [TensorFile(path) for path in paths]
        self._owner = {name: file for file in self.files for name in file.tensors}
        self._directory = directory

    def __contains__(self, name: str) -> bool:
        return name in self._owner

    def infos(self) -> Iterator[TensorInfo]:
        for file in self.files:
            yield from file.tensors.values()

    def read(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """A tensor as float32, of exactly this shape. Raises model_invalid."""
        if name not in self._owner:
            raise AiwmError(Code.model_invalid, f"{self._directory} has no tensor {name}", field="model")
        info = self._owner[name].tensors[name]
        if info.shape != shape:
            raise AiwmError(
                Code.model_invalid,
                f"tensor {name} has shape {info.shape}; config.json says {shape}",
                field="model",
            )
        return self._owner[name].read(name)
