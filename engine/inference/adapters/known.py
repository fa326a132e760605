"""What the book knows of an adapter's version, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.contract.errors import Code, ErrorInfo
from engine.inference.adapters.facts import Facts
from engine.inference.adapters.spelling import exact
from engine.inference.adapters.versions import Adapter, Found, Version


class Resolved(msgspec.Struct, frozen=True):
    """What a name means now: `name` is exact (`invoice-de@v4`), `digest` the hex SHA-256 of the content in `path`."""

    name: str
    path: Path
    digest: str
    size_bytes: int


class Known(msgspec.Struct, frozen=True):
    """One version as the book has it. `facts` are None where its files cannot be read; with a `problem` it is refused. `base` is the
    model of this home that it was made for, or what its settings call it."""

    adapter: Adapter
    version: Version
    base: str
    digest: str
    facts: Facts | None = None
    problem: ErrorInfo | None = None

    @property
    def name(self) -> str:
        return exact(self.adapter.name, self.version.n)

    @property
    def current(self) -> bool:
        return self.adapter.current == self.version.n


def as_known(adapter: Adapter, version: Version, found: Found | None, base: str, misfit: ErrorInfo | None) -> Known:
    """A version with what was found where it lies; `misfit` is why it does not fit its base, if it does not."""
    digest = version.digest or (found.digest if found is not None else "")
    facts = found.facts if found is not None else None
    return Known(adapter, version, base, digest, facts, _problem(adapter, version, found) or misfit)


def _problem(adapter: Adapter, version: Version, found: Found | None) -> ErrorInfo | None:
    name = exact(adapter.name, version.n)
    if version.replaced:
        return ErrorInfo(code=Code.adapter_not_found, message=f"{name} is no more: its files were replaced")
    if found is None or not found.marks:
        return ErrorInfo(
            code=Code.adapter_not_found,
            message=f"{name}: {version.path} is gone",
            fix=f"put it back, or aiwm adapter remove {name}",
        )
    if found.problem is not None:
        return found.problem
    if version.digest and found.digest != version.digest:
        return ErrorInfo(
            code=Code.adapter_invalid,
            message=f"{name}: {version.path} has other content than when it got its number"
            f" ({version.digest[:12]} then, {found.digest[:12]} now)",
            fix=f"aiwm adapter add {version.path} --name {adapter.name}, which makes it v{adapter.next}",
        )
    return None
