"""How adapters are written: `invoice-de` is whatever version is current, `invoice-de@v4` that one and no other."""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.contract.definitions import NAME_PATTERN

BASE = "base"
"""What stands for no adapter at all where adapters are listed. No adapter can be called so."""

_SPELLING = re.compile(rf"(?P<name>{NAME_PATTERN.strip('^$')})(@v(?P<version>[1-9][0-9]{{0,8}}))?")


class Spelling(NamedTuple):
    """`version` is None for a name that follows the current one."""

    name: str
    version: int | None

    @property
    def exact(self) -> bool:
        return self.version is not None


def spelled(text: str) -> Spelling | None:
    """A name taken apart; None for what is no adapter's name (a path, say: names come from tasks)."""
    match = _SPELLING.fullmatch(text)
    if match is None or match["name"] == BASE:
        return None
    return Spelling(match["name"], int(match["version"]) if match["version"] else None)


def exact(name: str, version: int) -> str:
    return f"{name}@v{version}"
