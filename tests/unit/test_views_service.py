"""Open views against a real store: what clients are told, how often, and that silence is silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.errors import AiwmError
from engine.contract.ids import task_id
from engine.contract.notifications import ViewChanged
from engine.contract.records import NeedRow, Record, TaskRow
from engine.contract.requests.session import ViewMove, ViewOpen, ViewRead, ViewRows
from engine.contract.states import Durability, TaskState
from engine.store.store import Store
from engine.views import view as view_module
from engine.views.service import ViewService
from tests.support.stored import T0, end, event, insert, open_store, run, start, submit
from tests.support.waiting import until


def _need(number: int, state: str = "broken") -> NeedRow:
    return NeedRow(id=f"n-{number}", since_ms=T0 - number, state=state, what="w", why="y", press="p", location=":tasks")


class Client:
    """Keeps a view up to date as a console does, and notices gaps."""

    def __init__(self, views: ViewService, number: int = 1) -> None:
        self.views = views
        self.number = number
        self.rows: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        self.last: ViewRows | ViewChanged | None = None
        self.seq = 0
        self.told: list[ViewChanged] = []
        self.times: list[float] = []
        self.congested = False

    async def open(self, location: str, size: int = 10, top: int = 0, every_ms: int = 0) -> ViewRows:
        request = ViewOpen(location=location, size=size, top=top, every_ms=every_ms)
        rows = await self.views.open(self.number, self.send, request)
        self._take(rows)
        return rows

    async def move(self, **where: Any) -> ViewRows:
        assert self.last is not None
        rows = await self.views.move(self.number, ViewMove(view=self.last.view, **where))
        self._take(rows)
        return rows

    def _take(self, rows: ViewRows) -> None:
        self.rows = {row["id"]: row for row in rows.rows}
        self.order = list(self.rows)
        self.seq, self.last = rows.seq, rows

    def send(self, change: ViewChanged) -> bool:
        if self.congested:
            return False
        assert change.seq == self.seq + 1
        self.seq, self.last = change.seq, change
        self.told.append(change)
        self.times.append(asyncio.get_running_loop().time())
        for identifier in change.removed:
            del self.rows[identifier]
        self.rows |= {row["id"]: row for row in change.rows}
        self.order = self.order if change.order is None else change.order
        assert set(self.order) == set(self.rows)
        return True


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.needs: list[Record] = []
        self.reasons: dict[str, str] = {}
        self.asked = 0
        tables = {"needs": lambda: self.needs}
        self.views = ViewService(store, tables, store_clock, self.with_reasons)
        self.reads = 0
        look = store.windows.window

        async def window(*arguments: Any) -> Any:
            self.reads += 1
            return await look(*arguments)

        store.windows.window = window  # type: ignore[method-assign, assignment]

    def with_reasons(self, rows: list[TaskRow]) -> list[TaskRow]:
        self.asked += 1
        return [msgspec.structs.replace(row, reason=self.reasons.get(row.id, row.reason)) for row in rows]

    async def expect(self, client: Client, location: str, size: int = 10, top: int = 0) -> None:
        """The client comes to show what a fresh look says."""
        wanted = await self.views.read(ViewRead(location=location, size=size, top=top))

        def same() -> bool:
            assert client.last is not None
            rows = [client.rows[identifier] for identifier in client.order]
            return rows == wanted.rows and (client.last.matched, client.last.total) == (wanted.matched, wanted.total)

        await until(same, 10)


class _Clock:
    now_ms = T0 + 1000

    def wall_ms(self) -> int:
        return self.now_ms

    def mono_ns(self) -> int:
        return 0


store_clock = _Clock()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store_clock.now_ms = T0 + 1000
    store = open_store(tmp_path / "aiwm.db")
    found = World(store)
    yield found
    await found.views.close()
    await store.close()


async def test_a_view_follows_tasks_through_their_lives(world: World) -> None:
    client = Client(world.views)
    opened = await client.open(":tasks", size=3)
    assert (opened.rows, opened.matched, opened.total, opened.faults, opened.seq) == ([], 0, 0, 0, 0)
    seqs = [await submit(world.store) for _ in range(5)]
    await world.expect(client, ":tasks", 3)
    assert client.order == ["t-10005", "t-10004", "t-10003"]
    await run(world.store, seqs[4])
    await run(world.store, seqs[0], state=TaskState.failed)
    await world.expect(client, ":tasks", 3)
    assert client.rows["t-10005"]["state"] == "completed"
    assert client.last is not None
    assert client.last.faults == 1


async def test_moving_and_anchors(world: World) -> None:
    for _ in range(30):
        await submit(world.store)
    client = Client(world.views)
    await client.open(":tasks sort:id", size=5)
    rows = await client.move(top=27)
    assert (rows.top, [row["id"] for row in rows.rows]) == (25, [task_id(seq) for seq in range(26, 31)])
    rows = await client.move(anchor="t-1000a")
    assert (rows.top, task_id(10) in client.order) == (7, True)
    rows = await client.move(anchor="t-1000b")
    assert rows.top == 7
    rows = await client.move(anchor="t-99999", top=3, size=2)
    assert (rows.top, len(rows.rows)) == (3, 2)
    # After a move, changes are told against what the move showed.
    await run(world.store, 4)
    await world.expect(client, ":tasks sort:id", 2, 3)


async def test_rows_out_of_sight_change_counts_and_are_not_read(world: World) -> None:
    for _ in range(20):
        await submit(world.store)
    client = Client(world.views)
    await client.open(":tasks !state:completed", size=5)
    reads = world.reads
    await run(world.store, 2)
    await until(lambda: client.last is not None and client.last.matched == 19)
    assert world.reads == reads
    assert [change.rows for change in client.told] == [[]] * len(client.told)
    await run(world.store, 19)
    await until(lambda: task_id(19) not in client.rows)
    assert world.reads > reads


async def test_silence_when_nothing_changes(world: World) -> None:
    await submit(world.store)
    await run(world.store, 1)
    clients = [Client(world.views, number) for number in range(3)]
    await clients[0].open(":tasks")
    await clients[1].open(":events level:error")
    await clients[2].open(":needs")
    reads, asked = world.reads, world.asked
    world.views.touch("needs")
    world.views.touch("tasks")
    await world.store.journal.write((event("unseen"),), Durability.os)
    for _ in range(3):
        world.views.touch("needs")
        await asyncio.sleep(0.12)
    assert clients[0].told == []
    assert clients[2].told == []
    assert [change.rows for change in clients[1].told] == [[]]
    assert world.reads == reads
    timers = [view for view in world.views._views.values() if view._timer is not None or view._slow]
    assert timers == []
    assert world.asked - asked <= 1


async def test_at_most_ten_notifications_a_second(world: World) -> None:
    client = Client(world.views)
    await client.open(":tasks", size=50)
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < 1.0:
        await submit(world.store)
    await world.expect(client, ":tasks", 50)
    gaps = [later - earlier for earlier, later in zip(client.times, client.times[1:], strict=False)]
    assert len(client.told) >= 2
    assert min(gaps) >= 0.099


async def test_who_asks_for_fewer_changes_gets_fewer_and_misses_nothing(world: World) -> None:
    client = Client(world.views)
    await client.open(":tasks", size=50, every_ms=400)
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < 1.0:
        await submit(world.store)
        await asyncio.sleep(0.02)
    await world.expect(client, ":tasks", 50)
    gaps = [later - earlier for earlier, later in zip(client.times, client.times[1:], strict=False)]
    assert 2 <= len(client.told) <= 5
    assert min(gaps) >= 0.399


async def test_a_congested_client_gets_one_larger_change_later(world: World) -> None:
    client = Client(world.views)
    await client.open(":tasks")
    client.congested = True
    await submit(world.store)
    await submit(world.store)
    await asyncio.sleep(0.15)
    assert client.told == []
    client.congested = False
    await world.expect(client, ":tasks")
    assert [change.seq for change in client.told] == list(range(1, len(client.told) + 1))
    assert client.told[-1].matched == 2


async def test_tables_in_memory(world: World) -> None:
    world.needs = [_need(n) for n in (3, 1, 2)]
    client = Client(world.views)
    rows = await client.open(":needs is:fault", size=2)
    assert ([row["id"] for row in rows.rows], rows.matched, rows.total, rows.faults) == (["n-3", "n-2"], 3, 3, 3)
    world.needs = [_need(1), _need(2, "asks"), _need(3, "rests")]
    world.views.touch("needs")
    await world.expect(client, ":needs is:fault", 2)
    assert client.order == ["n-2", "n-1"]
    rows = await client.move(anchor="n-1", size=1)
    assert [row["id"] for row in rows.rows] == ["n-1"]


async def test_reasons_of_waiting_tasks_are_filled_in_again(world: World) -> None:
    await submit(world.store)
    client = Client(world.views)
    await client.open(":tasks")
    reads = world.reads
    world.reasons = {"t-10001": "pool at max"}
    world.views.touch("tasks")
    await until(lambda: client.rows["t-10001"]["reason"] == "pool at max")
    world.reasons = {"t-10001": "no worker"}
    await until(lambda: client.rows["t-10001"]["reason"] == "no worker", 5)
    assert world.reads == reads


async def test_ages_pass_while_nothing_happens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_module, "_SLOW_S", 0.02)
    await submit(world.store, state=TaskState.pending)
    client = Client(world.views)
    await client.open(":tasks age>5m")
    assert client.order == []
    store_clock.now_ms = T0 + 301_000
    await until(lambda: client.order == ["t-10001"])


async def test_new_events_arrive_newest_first(world: World) -> None:
    client = Client(world.views)
    await client.open(":events level:error,warn", size=2)
    for level in ("error", "info", "warn", "error"):
        await world.store.journal.write((event("e", level=level, text=level),), Durability.os)
    await world.expect(client, ":events level:error,warn", 2)
    assert [client.rows[identifier]["text"] for identifier in client.order] == ["error", "warn"]


async def test_bursts_and_moves_never_leave_a_view_behind(world: World) -> None:
    """Commits fall between a look's query and its answer; the last word is right all the same."""
    clients = [Client(world.views, number) for number in range(4)]
    locations = [":tasks", ":tasks state:failed", ":tasks by:test sort:id", ":tasks queue:b !state:pending sort:-ended"]
    for client, location in zip(clients, locations, strict=True):
        await client.open(location, size=6)

    async def work(queue: str) -> None:
        for number in range(25):
            seq = await submit(world.store, queue)
            await run(world.store, seq, state=TaskState.failed if number % 3 else TaskState.completed)

    async def wander() -> None:
        for top in (3, 0, 8, 0):
            await asyncio.sleep(0.02)
            await clients[0].move(top=top)

    await asyncio.gather(work("a"), work("b"), wander())
    for client, location in zip(clients, locations, strict=True):
        await world.expect(client, location, 6)


async def test_clients_see_their_own_views_only(world: World) -> None:
    one, two = Client(world.views, 1), Client(world.views, 2)
    await one.open(":tasks")
    two.last = one.last
    with pytest.raises(AiwmError, match='view "v1" is not open'):
        await two.move(top=0)
    world.views.shut(2, "v1")
    await one.move(top=0)
    world.views.close_client(1)
    with pytest.raises(AiwmError, match="is not open"):
        await one.move(top=0)
    await submit(world.store)
    assert one.told == []


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ViewOpen(location=":nonsense"), "bad_location"),
        (ViewOpen(location=":machine"), "bad_location"),
        (ViewOpen(location=":tasks " + "x" * 4000), "bad_location"),
        (ViewOpen(location=":tasks", size=1001), "bad_request"),
        (ViewOpen(location=":tasks", top=-1), "bad_request"),
        (ViewOpen(location=":tasks", every_ms=-1), "bad_request"),
        (ViewOpen(location=":tasks", every_ms=60_001), "bad_request"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
async def test_bad_requests(world: World, request_: ViewOpen, code: str) -> None:
    with pytest.raises(AiwmError) as caught:
        await world.views.open(1, lambda _: True, request_)
    assert caught.value.code == code
    assert world.views._views == {}


async def test_a_client_has_a_bounded_number_of_views(world: World) -> None:
    for _ in range(50):
        await world.views.open(1, lambda _: True, ViewOpen(location=":needs"))
    with pytest.raises(AiwmError, match="50 views"):
        await world.views.open(1, lambda _: True, ViewOpen(location=":needs"))


async def test_an_item_is_a_filter(world: World) -> None:
    await submit(world.store)
    seq = await submit(world.store)
    rows = await world.views.read(ViewRead(location=f":tasks/{task_id(seq)}"))
    assert [row["id"] for row in rows.rows] == [task_id(seq)]


async def test_too_many_rows_for_a_sort_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("plan", "window"):
        monkeypatch.setattr(f"engine.store.{module}.COUNT_LIMIT", 3)
    for _ in range(3):
        await submit(world.store)
    client = Client(world.views)
    await client.open(":tasks sort:queue")
    await world.store.journal.write((insert(world.store.journal.next_seq()), start(1), end(1)), Durability.os)
    await until(lambda: isinstance(client.last, ViewChanged) and not client.last.matched_exact)
    assert len(client.rows) == 3
    with pytest.raises(AiwmError, match="too many for this sort order"):
        await client.move(top=0)
