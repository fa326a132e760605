"""Adapter directories as every part of this room knows them: which files make one, and the digest that names its content.

Cheap to import: the engine uses it without numpy."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.contract.errors import AiwmError, Code

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def adapter_digest(directory: Path) -> str:
    """Hex SHA-256 of what an adapter does: its configuration and its weights. Raises adapter_not_found, adapter_invalid."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            content = (directory / name).read_bytes()
        except OSError as error:
            raise missing_part(directory, name) from error
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


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
