"""A LoRA adapter as PEFT writes it: its settings checked, its factors by projection. What would change the result and is not computed
by our backends is refused by name.

A LoRA adds to a projection y = x·W the low-rank product (x·Aᵀ·Bᵀ)·scale, where A is [rank, inputs], B [outputs, rank] and
scale = alpha / rank (or alpha / √rank, "rsLoRA"). Both may differ from projection to projection (rank_pattern, alpha_pattern)."""

from __future__ import annotations

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
    from engine.inference.backends.reference.weights import FloatArray

# Beyond this a product could overflow, and infinity times a gate of zero would reach the other requests of a batch.
LARGEST_VALUE = 1e6
_TENSOR = re.compile(r"base_model\.model\.([\w.]+)\.lora_([AB])(?:\.\w+)?\.weight")
_PLAIN_PATTERN = re.compile(r"\^?[\w.\\]+")


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
        self._file = TensorFile(files.directory / WEIGHTS_FILE, Code.adapter_invalid, files)
        self._sizes = sizes
        self._both = self._halves(sizes)

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
        for path, both in self._both.items():
            yield self._projection(path, self._file.read(both["A"]), self._file.read(both["B"]), self._sizes[path])

    def passing(self) -> Iterator[Projection]:
        """As `projections`, quicker: each is there only until the next one is asked for."""
        for path, both in self._both.items():
            a, b = self._file.read_passing((both["A"], both["B"]))
            yield self._projection(path, a, b, self._sizes[path])

    def ranks(self) -> dict[str, int]:
        """The rank of every projection that it changes, from the header of the file: how much there will be to hold."""
        return {path: self._file.tensors[both["A"]].shape[0] for path, both in self._both.items()}

    def _halves(self, sizes: dict[str, tuple[int, int]]) -> dict[str, dict[str, str]]:
        """The names of the tensors A and B, by path, in the order of the file."""
        tensors, halves = self._file.tensors, dict[str, dict[str, str]]()
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
            if len(tensors[both["A"]].shape) != 2:
                raise self.invalid(f"lora_A of {path} has shape {tensors[both['A']].shape}")
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

    def _projection(self, path: str, a: FloatArray, b: FloatArray, size: tuple[int, int]) -> Projection:
        inputs, outputs = size
        rank = self._pattern("rank_pattern", path, self._settings.get("r"))
        alpha = self._pattern("alpha_pattern", path, self._settings.get("lora_alpha"))
        if not isinstance(rank, int) or rank <= 0 or not isinstance(alpha, int | float):
            raise self.invalid(f"r={rank!r} and lora_alpha={alpha!r} of {path} are not numbers to use")
        for half, shape, expected in (("A", a.shape, (rank, inputs)), ("B", b.shape, (outputs, rank))):
            if shape != expected:
                raise self.invalid(f"lora_{half} of {path} has shape {shape}, for this model it must be {expected}")
        if not _bounded(a, b):
            raise self.invalid(
                f"{path} has numbers that no trained adapter has (not finite, or above {LARGEST_VALUE:g})"
            )
        return Projection(path, a, b, float(alpha) / (rank**0.5 if self._settings.get("use_rslora") else rank))


def _bounded(a: FloatArray, b: FloatArray) -> bool:
    """Whether no number is beyond LARGEST_VALUE. None is larger than the root of the sum of all squares, which is found in one quick pass;
    only when that is too large does each have to be looked at."""
    import numpy as np

    first, second = a.reshape(-1), b.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        if float(np.dot(first, first)) + float(np.dot(second, second)) <= LARGEST_VALUE**2:
            return True
    return all(-LARGEST_VALUE <= flat.min() <= flat.max() <= LARGEST_VALUE for flat in (first, second))
