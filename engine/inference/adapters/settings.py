"""What PEFT's settings may ask for that a plain LoRA is not: what no backend of this program computes is refused by name.

Facts: peft 0.21, `LoraConfig`; the list of harmless keys is what PEFT writes about training and naming."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Keys that say how an adapter was trained or what it is called, or that every backend decides about itself (patterns, rsLoRA).
# Every other key must be known below or empty.
_HARMLESS = frozenset({
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "eva_config", "exclude_modules", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "peft_type",
    "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules", "task_type",
    "use_rslora",
})  # fmt: skip
# Initialisations that also change the base weights, which such an adapter then needs: any name not listed here.
_PLAIN_INITIALISATIONS = (True, False, None, "gaussian", "eva", "orthogonal")


def unsupported(settings: Mapping[str, Any]) -> str | None:
    """What an adapter_config.json asks for that is not computed here, in words that follow "uses"; None for a plain LoRA."""
    kind = settings.get("peft_type")
    if kind != "LORA":
        return f"peft_type {kind!r}"
    if settings.get("use_dora"):
        return "DoRA (use_dora)"
    if settings.get("bias", "none") != "none":
        return f"trained biases (bias={settings['bias']!r})"
    initialisation = settings.get("init_lora_weights", True)
    if not any(initialisation is plain or initialisation == plain for plain in _PLAIN_INITIALISATIONS):
        return f"init_lora_weights={initialisation!r}, which changes the base weights,"
    return next((f"{key}={value!r}" for key, value in settings.items() if value and key not in _HARMLESS), None)
