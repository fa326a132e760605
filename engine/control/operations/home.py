"""What a home has of its own: what differs from what every new home begins with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.contract.requests.home import HomeLook, HomeReport
from engine.contract.states import TaskState
from engine.control.catalogue import SHIPPED, Catalogue
from engine.control.tally import Tally
from engine.inference.models.book import ModelBook
from engine.requests.caller import Caller
from engine.requests.table import RequestTable

_MOST_FILES = 20_000


class HomeOperations:
    """Answers `home.look` from what is in memory, and from the sizes of the home's files."""

    def __init__(self, home: Path, catalogue: Catalogue, book: ModelBook, tally: Tally) -> None:
        self._home = home
        self._catalogue = catalogue
        self._book = book
        self._tally = tally

    def register(self, table: RequestTable) -> None:
        table.register(HomeLook, self.look)

    async def look(self, _: HomeLook, __: Caller) -> HomeReport:
        now = self._catalogue.now
        models = tuple(name for name in self._book.names() if self._book.own(name))
        own = {
            "workers": _own(now.workers, SHIPPED.workers),
            "pools": _own(now.pools, SHIPPED.pools),
            "queues": _own(now.queues, SHIPPED.queues),
            "templates": _own(now.templates, SHIPPED.templates),
        }
        tasks = self._tally.total(*TaskState)
        return HomeReport(
            home=str(self._home),
            bytes=await asyncio.to_thread(_bytes, self._home),
            models=models,
            **own,
            tasks=tasks,
            pristine=not (models or tasks or any(own.values())),
        )


def _own(now: Mapping[str, Any], shipped: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of definitions that did not ship, or are no longer as they shipped."""
    return tuple(sorted(name for name, it in now.items() if shipped.get(name) != it))


def _bytes(home: Path) -> int:
    """What the files of a home take. Links are not followed; of a home with very many files it counts the first."""
    total = seen = 0
    for folder, _, names in os.walk(home):
        for name in names:
            seen += 1
            if seen > _MOST_FILES:
                return total
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue  # it went meanwhile
    return total
