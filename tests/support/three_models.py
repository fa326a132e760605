"""A home with three small models, a service on it, and the states of its processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil

from engine.requests.caller import Caller
from tests.support.models import ModelHouse
from tests.support.tiny_model import write_model

CALLER = Caller(id=1, principal="ana", client="test", read_only=False, send=lambda _: True)


@contextmanager
def three_models(home: Path) -> Iterator[Path]:
    """The home with its models. No process is left when it is over."""
    before = set(psutil.Process().children())
    for name in ("tiny", "other", "third"):
        write_model(home / "models" / name)
    yield home
    assert set(psutil.Process().children()) <= before


@asynccontextmanager
async def open_models(home: Path) -> AsyncIterator[ModelHouse]:
    house = ModelHouse(home)
    house.open()
    yield house
    await house.service.close()


def states(house: ModelHouse) -> dict[str, str]:
    return {row.id: row.state for row in house.service.rows()}
