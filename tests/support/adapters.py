"""Adapters for tests: as many as wanted, alike in shape and different in content."""

from __future__ import annotations

import shutil
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "engine" / "inference" / "shipped" / "adapters"


def many_adapters(folder: Path, count: int, *, like: str = "ticket-labels") -> list[str]:
    """Put `count` adapters into a folder, each a copy of a shipped one with other last bits, and so another digest; their names."""
    names = [f"soak-{number:02d}" for number in range(count)]
    for number, name in enumerate(names):
        shutil.copytree(SHIPPED / like, folder / name)
        weights = folder / name / "adapter_model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-4] = number  # the low byte of a weight: a change too small to matter, and a digest of its own
        weights.write_bytes(data)
    return names
