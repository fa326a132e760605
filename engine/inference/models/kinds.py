"""What a model's directory or file is, from its configuration and headers alone; weights are never read."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ModelKind(StrEnum):
    """How the weights are stored. `plain` are unquantised safetensors (F32, F16, BF16); `other` is a
    quantisation that nothing here runs."""

    plain = "fp16"
    exl2 = "EXL2"
    gptq = "GPTQ"
    gguf = "GGUF"
    exl3 = "EXL3"
    awq = "AWQ"
    other = "other"
    unknown = "unknown"


QUANTISATIONS = {"exl2": ModelKind.exl2, "gptq": ModelKind.gptq, "exl3": ModelKind.exl3, "awq": ModelKind.awq}
"""`quant_method` of a config.json's quantization_config → kind."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers that decide how big keys, values and scratch are. 0: not known. `context` is what the model was made for."""

    layers: int = 0
    hidden: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_size: int = 0
    intermediate: int = 0
    vocabulary: int = 0
    context: int = 0


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A chat template as it lies in the model, and the special tokens that it may name."""

    source: str
    tokens: dict[str, str] = {}


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A model as its files say it is. Sizes in bytes; `parameters` counts what is stored (0: not known). `quant` is how exactly the weights
    are stored (`BF16`, `Q4_K_M`, `4.65 bpw`). `damaged` are files that are not whole, each with why; `refused` says why it must not be
    opened at all (pickled weights); `notes` are what else one should know."""

    path: str
    name: str
    kind: ModelKind
    quant: str = ""
    architecture: str = ""
    shape: Shape = Shape()
    parameters: int = 0
    weights_bytes: int = 0
    template: Template | None = None
    has_tokenizer: bool = True
    damaged: tuple[str, ...] = ()
    refused: str = ""
    notes: tuple[str, ...] = ()
