"""Model and adapter names, and the directories they stand for.

A definition, written by the operator, may name a model by an absolute path. An adapter's name may come from a task, so it is
never a path."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from engine.contract.definitions import NAME_PATTERN
from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest
from engine.inference.adapter_files import CONFIG_FILE, WEIGHTS_FILE, adapter_digest, missing_part

SHIPPED = Path(__file__).parent / "shipped"

# An adapter's directory may name its version: `invoice-de@v3`.
_NAME = re.compile(NAME_PATTERN.removesuffix("$") + r"(@v[0-9]{1,9})?$")


class Library:
    """The models and adapters of one home and those that ship with aiwm. A home's own come first."""

    def __init__(self, home: Path, shipped: Path = SHIPPED) -> None:
        self._models = (home / "models", shipped)
        self._adapters = (home / "adapters", shipped / "adapters")
        self._digests: dict[Path, tuple[tuple[int, ...], str]] = {}

    def model(self, name: str) -> Path:
        """The directory of a model. Raises model_not_found."""
        if name.startswith("/"):
            path = Path(name)
            if path.is_dir():
                return path
            raise AiwmError(
                Code.model_not_found,
                f"model directory {name} does not exist",
                field="model",
                fix="correct the path in ai_worker_definitions.json",
            )
        found = _find(name, self._models, "config.json")
        if found is None:
            raise AiwmError(
                Code.model_not_found,
                f'model "{name}" is not in {self._models[0]} and does not ship with aiwm',
                field="model",
                fix=nearest(name, self.models()) or f"copy or link its directory to {self._models[0] / 'NAME'}",
            )
        return found

    def models(self) -> list[str]:
        """The names of every model that is here."""
        return _names(self._models, "config.json")

    def adapters(self) -> list[str]:
        return _names(self._adapters, CONFIG_FILE)

    async def adapter(self, name: str) -> tuple[Path, str]:
        """An adapter's directory and the digest of its content. Raises adapter_not_found, adapter_invalid."""
        path = _find(name, self._adapters, CONFIG_FILE)
        if path is None:
            raise AiwmError(
                Code.adapter_not_found,
                f'adapter "{name[:80]}" is not in {self._adapters[0]} and does not ship with aiwm',
                field="adapters",
                fix=nearest(name, self.adapters()) or f"copy or link its directory to {self._adapters[0] / 'NAME'}",
            )
        marks = _marks(path)
        known = self._digests.get(path)
        if known is None or known[0] != marks:
            known = self._digests[path] = (marks, await asyncio.to_thread(adapter_digest, path))
        return path, known[1]


def _find(name: str, folders: tuple[Path, ...], file: str) -> Path | None:
    if not _NAME.fullmatch(name):
        return None
    return next((folder / name for folder in folders if (folder / name / file).is_file()), None)


def _names(folders: tuple[Path, ...], file: str) -> list[str]:
    found = {
        entry.name for folder in folders if folder.is_dir() for entry in folder.iterdir() if (entry / file).is_file()
    }
    return sorted(name for name in found if _NAME.fullmatch(name))


def _marks(path: Path) -> tuple[int, ...]:
    """What changes when an adapter's files change: their times and sizes."""
    marks: list[int] = []
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            stat = (path / name).stat()
        except OSError as error:
            raise missing_part(path, name) from error
        marks += (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return tuple(marks)
