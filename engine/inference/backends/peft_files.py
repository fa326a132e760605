"""A LoRA adapter as PEFT writes it: its settings checked, its factors by projection. What would change the result and is not computed
by our backends is refused by name.

A LoRA adds to a projection y = x·W the low-rank product (x·Aᵀ·Bᵀ)·scale, where A is [rank, inputs], B [outputs, rank] and
scale = alpha / rank (or alpha / √rank, "rsLoRA"). Both may differ from projection to projection (rank_pattern, alpha_pattern)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.errors import AiwmError, Code
from engine.inference.adapter_files import CONFIG_FILE, WEIGHTS_FILE, missing_part
from engine.inference.backends.reference.config import read_json
from engine.inference.backends.reference.safetensors import TensorFile

if TYPE_CHECKING:
    from engine.inference.backends.reference.weights import FloatArray

# Keys that say how an adapter was trained or what it is called. Every other key must be known below or empty.
_HARMLESS = frozenset({
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "eva_config", "exclude_modules", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "peft_type",
    "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules", "task_type",
    "use_rslora",
})  # fmt: skip
# Beyond this a product could overflow, and infinity times a gate of zero would reach the other requests of a batch.
LARGEST_VALUE = 1e6
# Initialisations that also change the base weights, which such an adapter then needs: any name not listed here.
_PLAIN_INITIALISATIONS = (True, False, None, "gaussian", "eva", "orthogonal")
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
    """One adapter directory; every refusal names the adapter and what it asks for.

    Raises adapter_not_found, adapter_invalid, adapter_unsupported."""

    def __init__(self, directory: Path, backend: str) -> None:
        self._directory = directory
        self._backend = backend
        if not (directory / CONFIG_FILE).is_file():
            raise missing_part(directory, CONFIG_FILE)
        self._settings = read_json(directory / CONFIG_FILE, Code.adapter_invalid)
        self._check_settings()

    def unsupported(self, what: str) -> AiwmError:
        return AiwmError(
            Code.adapter_unsupported,
            f"adapter {self._directory} uses {what}, which the {self._backend} backend does not compute",
            field="adapters",
            fix="train or export it as a plain LoRA of the linear projections",
        )

    def invalid(self, why: str) -> AiwmError:
        return AiwmError(Code.adapter_invalid, f"adapter {self._directory}: {why}", field="adapters")

    def projections(self, sizes: dict[str, tuple[int, int]]) -> Iterator[Projection]:
        """Every projection that it changes, read and checked. `sizes` has (inputs, outputs) of those that may be changed, by path."""
        if not (self._directory / WEIGHTS_FILE).is_file():
            raise missing_part(self._directory, WEIGHTS_FILE)
        file = TensorFile(self._directory / WEIGHTS_FILE, Code.adapter_invalid)
        halves: dict[str, dict[str, str]] = {}
        for name in file.tensors:
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
            yield self._projection(path, file.read(both["A"]), file.read(both["B"]), sizes[path])

    def _unknown(self, path: str, sizes: dict[str, tuple[int, int]]) -> AiwmError:
        """A projection that this model does not have, or not this backend."""
        layers = {int(found[1]) for known in sizes if (found := re.search(r"\.layers\.(\d+)\.", known))}
        layer = re.search(r"\.layers\.(\d+)\.", path)
        if layer is not None and int(layer[1]) not in layers:
            return self.invalid(f"it changes layer {layer[1]}, the model has {len(layers)} layers")
        return self.unsupported(f"a change of {path}")

    def _check_settings(self) -> None:
        settings = self._settings
        kind = settings.get("peft_type")
        if kind != "LORA":
            raise self.unsupported(f"peft_type {kind!r}")
        if settings.get("use_dora"):
            raise self.unsupported("DoRA (use_dora)")
        if settings.get("bias", "none") != "none":
            raise self.unsupported(f"trained biases (bias={settings['bias']!r})")
        initialisation = settings.get("init_lora_weights", True)
        if not any(initialisation is plain or initialisation == plain for plain in _PLAIN_INITIALISATIONS):
            raise self.unsupported(f"init_lora_weights={initialisation!r}, which changes the base weights,")
        for key, value in settings.items():
            if value and key not in _HARMLESS:
                raise self.unsupported(f"{key}={value!r}")

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
        import numpy as np

        inputs, outputs = size
        rank = self._pattern("rank_pattern", path, self._settings.get("r"))
        alpha = self._pattern("alpha_pattern", path, self._settings.get("lora_alpha"))
        if not isinstance(rank, int) or rank <= 0 or not isinstance(alpha, int | float):
            raise self.invalid(f"r={rank!r} and lora_alpha={alpha!r} of {path} are not numbers to use")
        for half, shape, expected in (("A", a.shape, (rank, inputs)), ("B", b.shape, (outputs, rank))):
            if shape != expected:
                raise self.invalid(f"lora_{half} of {path} has shape {shape}, for this model it must be {expected}")
        if not max(np.abs(a).max(), np.abs(b).max()) <= LARGEST_VALUE:
            raise self.invalid(f"{path} has numbers that no trained adapter has (not finite, or above {LARGEST_VALUE:g})")
        return Projection(path, a, b, float(alpha) / (rank**0.5 if self._settings.get("use_rslora") else rank))
