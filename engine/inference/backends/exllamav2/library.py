"""Importing exllamav2: once, in a process that runs a model, and after what it needs is in place."""

from __future__ import annotations

import importlib
import os
import sys

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.base import Progress
from engine.inference.backends.exllamav2 import availability

VISIBLE = "CUDA_VISIBLE_DEVICES"


def import_library(devices: tuple[int, ...], progress: Progress) -> None:
    """Make `import exllamav2` work on these GPUs (none: on all), building its extension if need be.

    Raises backend_unavailable with what is missing and the fix."""
    for problem in availability.problems():
        raise AiwmError(
            Code.backend_unavailable, f"exllamav2 cannot run here: {problem.reason}", field="backend", fix=problem.fix
        )
    _choose_devices(devices)
    progress("importing torch", None)
    from engine.inference.backends.exllamav2.attention import standing_in
    from engine.inference.backends.exllamav2.extension import load_extension

    load_extension(progress)
    progress("importing exllamav2", None)
    os.environ["EXLLAMA_NO_XFORMERS"] = "1"  # ignores masks
    os.environ["EXLLAMA_NO_SDPA"] = "1"  # is not causal
    try:
        with standing_in():
            importlib.import_module("exllamav2.generator")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise AiwmError(
            Code.backend_unavailable,
            f"exllamav2 cannot be imported: {type(error).__name__}: {error}",
            field="backend",
            fix=f"install it again: {availability.INSTALL} --force",
        ) from error


def _choose_devices(devices: tuple[int, ...]) -> None:
    """Show CUDA only these GPUs, in this order. It looks once, at its first use."""
    if not devices:
        return
    wanted = ",".join(map(str, devices))
    if "torch" in sys.modules and os.environ.get(VISIBLE) != wanted:
        raise AiwmError(
            Code.conflict,
            "this process already uses other GPUs",
            field="devices",
            fix="restart the model: aiwm model restart",
        )
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the driver's numbers, which NVML and nvidia-smi show
    os.environ[VISIBLE] = wanted
