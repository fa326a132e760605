"""A LoRA adapter as PEFT writes it: its settings checked, its factors by projection. What would change the result and is not computed
by our backends is refused by name.

A LoRA adds to a projection y = x·W the low-rank product (x·Aᵀ·Bᵀ)·scale, where A is [rank, inputs], B [outputs, rank] and
scale = alpha / rank (or alpha / √rank, "rsLoRA"). Both may differ from projection to projection (rank_pattern, alpha_pattern)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.contract.errors import AiwmError, Code
from engine.inference.adapter_files import CONFIG_FILE, WEIGHTS_FILE, AdapterFiles
from engine.inference.adapters.settings import unsupported
from engine.inference.backends.reference.config import parse_json
from engine.inference.backends.reference.safetensors import TensorFile

if TYPE_CHECKING:
    from engine.inference.backends.reference.safetensors import TensorInfo
    from engine.inference.backends.reference.weights import FloatArray

# Beyond this a product could overflow, and infinity times a gate of zero would reach the other requests of a batch.
LARGEST_VALUE = 1e6
_TENSOR = re.compile(r"base_model\.model\.([\w.]+)\.lora_([AB])(?:\.\w+)?\.weight")
_PLAIN_PATTERN = re.compile(r"\^?[\w.\\]+")


# What of the settings decides how factors are scaled and which ranks they must have; `unsupported` has looked at the rest.
_DECISIVE = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")


@dataclass(frozen=True, slots=True)
class Part:
    """A projection that an adapter changes, as the header and the settings have it: where a [rank, inputs] and b [outputs, rank] are."""

    path: str
    a: TensorInfo
    b: TensorInfo
    scale: float


@dataclass(frozen=True, slots=True)
class Projection:
    """What an adapter adds to the projection `path` (such as model.layers.0.self_attn.q_proj). a [rank, inputs], b [outputs, rank]."""

    path: str
    a: FloatArray
    b: FloatArray
    scale: float


class PeftFiles:
    """One adapter's files; every refusal names the adapter and what it asks for. Raises adapter_invalid, adapter_unsupported.

    `sizes` has (inputs, outputs) of the projections that may be changed, by path."""

    def __init__(self, files: AdapterFiles, backend: str, sizes: dict[str, tuple[int, int]]) -> None:
        self._directory = files.directory
        self._backend = backend
        self._settings = parse_json(files.config, files.directory / CONFIG_FILE, Code.adapter_invalid)
        what = unsupported(self._settings)
        if what is not None:
            raise self.unsupported(what)
        self._files = files
        self._sizes = sizes

    def unsupported(self, what: str) -> AiwmError:
        return AiwmError(
            Code.adapter_unsupported,
            f"adapter {self._directory} uses {what}, which the {self._backend} backend does not compute",
            field="adapters",
            fix="train or export it as a plain LoRA of the linear projections",
        )

    def invalid(self, why: str) -> AiwmError:
        return AiwmError(Code.adapter_invalid, f"adapter {self._directory}: {why}", field="adapters")

    def projections(self) -> Iterator[Projection]:
        """Every projection that it changes, read and checked, in the order of the file."""
        file = self._open()
        for part in self._parts(file):
            a, b = file.read(part.a.name), file.read(part.b.name)
            if not (bounded(a) and bounded(b)):
                raise self.beyond(part.path)
            yield Projection(part.path, a, b, part.scale)

    def parts(self) -> list[Part]:
        """Every projection that it changes, checked as far as settings and header tell, in the order of the file."""
        return self._parts(self._open())

    def likeness(self, most: int) -> tuple[bytes, int, str] | None:
        """Adapters that are equal in this have equal parts: the header, the size of the file, and the settings that decide. None if the
        header has more than `most` bytes, or is none."""
        header = self._files.header(most)
        if header is None:
            return None
        return header, self._files.size, json.dumps([self._settings.get(name) for name in _DECISIVE])

    def beyond(self, path: str) -> AiwmError:
        """The refusal of a projection that is not `bounded`."""
        return self.invalid(f"{path} has numbers that no trained adapter has (not finite, or above {LARGEST_VALUE:g})")

    def _open(self) -> TensorFile:
        return TensorFile(self._directory / WEIGHTS_FILE, Code.adapter_invalid, self._files)

    def _parts(self, file: TensorFile) -> list[Part]:
        halves = self._halves(file)
        return [self._part(path, file.info(both["A"]), file.info(both["B"])) for path, both in halves.items()]

    def _halves(self, file: TensorFile) -> dict[str, dict[str, str]]:
        """The names of the tensors A and B, by path, in the order of the file."""
        sizes, tensors, halves = self._sizes, file.tensors, dict[str, dict[str, str]]()
        for name in sorted(tensors, key=lambda name: tensors[name].begin):
            match = _TENSOR.fullmatch(name)
            if match is None:
                raise self.unsupported(f"tensor {name!r}")
            if match[1] not in sizes:
                raise self._unknown(match[1], sizes)
            halves.setdefault(match[1], {})[match[2]] = name
        if not halves:
            raise self.invalid("it has no tensors")
        for path, both in halves.items():
            if len(both) < 2:
                raise self.invalid(f"{path} has only lora_{next(iter(both))}")
        return halves

    def _unknown(self, path: str, sizes: dict[str, tuple[int, int]]) -> AiwmError:
        """A projection that this model does not have, or not this backend."""
        layers = {int(found[1]) for known in sizes if (found := re.search(r"\.layers\.(\d+)\.", known))}
        layer = re.search(r"\.layers\.(\d+)\.", path)
        if layer is not None and int(layer[1]) not in layers:
            return self.invalid(f"it changes layer {layer[1]}, the model has {len(layers)} layers")
        return self.unsupported(f"a change of {path}")

    def _pattern(self, name: str, module: str, default: object) -> object:
        """PEFT's rule: the first pattern that equals the module's dotted name or a tail of it."""
        patterns = self._settings.get(name) or {}
        if not isinstance(patterns, dict):
            raise self.invalid(f"{name} must be an object")
        for pattern, value in patterns.items():
            if not _PLAIN_PATTERN.fullmatch(pattern):
                raise self.unsupported(f"the regular expression {pattern!r} in {name}")
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module):
                return value
        return default

    def _part(self, path: str, a: TensorInfo, b: TensorInfo) -> Part:
        inputs, outputs = self._sizes[path]
        rank = self._pattern("rank_pattern", path, self._settings.get("r"))
        alpha = self._pattern("alpha_pattern", path, self._settings.get("lora_alpha"))
        if not isinstance(rank, int) or rank <= 0 or not isinstance(alpha, int | float):
            raise self.invalid(f"r={rank!r} and lora_alpha={alpha!r} of {path} are not numbers to use")
        for half, shape, expected in (("A", a.shape, (rank, inputs)), ("B", b.shape, (outputs, rank))):
            if shape != expected:
                raise self.invalid(f"lora_{half} of {path} has shape {shape}, for this model it must be {expected}")
        return Part(path, a, b, float(alpha) / (rank**0.5 if self._settings.get("use_rslora") else rank))


def bounded(numbers: FloatArray) -> bool:
    """Whether no number is beyond LARGEST_VALUE. None is larger than the root of the sum of all squares, which is found in one quick pass;
    only when that is too large does each have to be looked at."""
    import numpy as np

    flat = numbers.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        if float(np.dot(flat, flat)) <= LARGEST_VALUE**2:
            return True
    return bool(-LARGEST_VALUE <= flat.min() <= flat.max() <= LARGEST_VALUE)
