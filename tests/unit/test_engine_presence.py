"""When an engine dispatches and when it goes, by how it was started and who is there."""

from __future__ import annotations

import asyncio

import pytest

from engine.presence import Presence, Stay


class Scene:
    def __init__(self, stay: Stay) -> None:
        self.busy = False
        self.said: list[bool] = []
        self.left = asyncio.Event()
        self.presence = Presence(stay, 5, lambda: self.busy, lambda on, _: self.said.append(on), self.left.set)
        self.presence.begin()

    async def goes(self) -> bool:
        try:
            await asyncio.wait_for(self.left.wait(), 0.2)
        except TimeoutError:
            return False
        return True


async def test_a_headless_engine_stays() -> None:
    scene = Scene(Stay.headless)
    scene.presence.arrived(1, True)
    scene.presence.left(1)
    assert not await scene.goes()
    assert scene.presence.dispatching


async def test_an_engine_on_demand_works_only_for_clients_that_wait() -> None:
    scene = Scene(Stay.on_demand)
    scene.presence.arrived(1, False)
    scene.presence.arrived(2, True)
    scene.presence.left(2)
    assert scene.said == [True, False]
    assert not scene.presence.dispatching


@pytest.mark.parametrize("busy", [False, True])
async def test_an_engine_on_demand_goes_soon_after_its_last_client(busy: bool) -> None:
    scene = Scene(Stay.on_demand)
    scene.busy = busy
    scene.presence.arrived(1, False)
    assert not await scene.goes()
    scene.presence.left(1)
    assert await scene.goes()


async def test_an_engine_nobody_came_to_goes() -> None:
    assert await Scene(Stay.on_demand).goes()


async def test_a_consoles_engine_stays_while_there_is_work_and_goes_with_it() -> None:
    scene = Scene(Stay.attached)
    scene.presence.arrived(1, True)
    scene.busy = True
    scene.presence.left(1)
    assert not await scene.goes()
    scene.busy = False
    scene.presence.look()
    assert await scene.goes()
