"""A recording against the database that it was made from: what is played is what was there, at every moment."""

from __future__ import annotations

import asyncio
import errno
import random
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.errors import AiwmError, Code
from engine.contract.records import TABLES, AdapterRow, NeedRow, QueueRow, Record
from engine.contract.requests.recordings import Recording, RecordStart
from engine.recording.looking import LIVE, MOST_DEAR, Looking
from engine.store import image, schema
from tests.support.recordings import OS, House, a_day, played
from tests.support.screens import wait_until
from tests.support.stored import T0, event, insert


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    found = House(tmp_path)
    yield found
    await found.recorder.close()
    await found.store.close()


@pytest.mark.parametrize("seed", range(4))
async def test_at_every_moment_the_rows_are_those_that_were_there(house: House, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    await a_day(house, rng, 40)
    made = await house.recorder.start(RecordStart(path=str(tmp_path / "a.rec")), 1)
    moments: list[tuple[int, dict[str, list[Any]]]] = [(house.clock.now_ms, house.rows())]
    for _ in range(6):
        await a_day(house, rng, 15)
        moments.append((house.clock.now_ms, house.rows()))
        house.clock.now_ms += 10_000
    await house.recorder.stop(made.id, 1)
    played_ = await played(made.files, tmp_path / "played")
    try:
        for place in (6, 0, 3, 5, 1, 2, 4, 6):
            at_ms, rows = moments[place]
            await played_.player.seek(at_ms)
            assert played_.rows() == rows, f"at moment {place}"
        assert played_.player.state.skipped == 0
    finally:
        await played_.close()


async def test_a_snapshot_is_taken_between_two_commits_however_busy_it_is(house: House, tmp_path: Path) -> None:
    """Nothing is in the snapshot and in the changes, nothing in neither."""
    going = True

    async def busy() -> None:
        while going:
            seq = house.store.journal.next_seq()
            await house.store.journal.write((insert(seq), event("task.submitted", seq)), OS)

    work = [asyncio.ensure_future(busy()) for _ in range(8)]
    recordings: list[Recording] = []
    for number in range(5):
        await asyncio.sleep(0)
        recordings.append(await house.recorder.start(RecordStart(path=str(tmp_path / f"{number}.rec")), 1))
    going = False
    await asyncio.gather(*work)
    rows = house.rows()
    for number, made in enumerate(recordings):
        await house.recorder.stop(made.id, 1)
        found = await played(made.files, tmp_path / f"played-{number}")
        await found.player.seek(2**53)
        assert found.rows() == rows
        assert found.player.state.skipped == 0
        await found.close()


async def test_tables_in_memory_and_answers_are_as_they_were_seen(house: House, tmp_path: Path) -> None:
    house.queues = [_queue("etl", 1), _queue("inbox", 2)]
    made = await house.recorder.start(RecordStart(path=str(tmp_path / "a.rec")), 1)
    house.clock.now_ms += 5000
    house.queues = [_queue("etl", 9)]
    house.recorder.touch("queues")
    await house.recorder.show(made.id, 1)
    await house.recorder.stop(made.id, 1)
    found = await played(made.files, tmp_path / "played")
    try:
        assert {row.id: row.waiting for row in found.player.rows("queues") if isinstance(row, QueueRow)} == {
            "etl": 1,
            "inbox": 2,
        }
        before = found.player.answer("queue.explain", {"name": "etl"})
        await found.player.seek(T0 + 5000)
        assert [(row.id, getattr(row, "waiting", 0)) for row in found.player.rows("queues")] == [("etl", 9)]
        assert before != found.player.answer("queue.explain", {"name": "etl"}) is not None
        await found.player.seek(T0)
        assert found.player.answer("queue.explain", {"name": "etl"}) == before
    finally:
        await found.close()


def _queue(name: str, waiting: int) -> Any:
    return made(QueueRow, id=name, waiting=waiting)


def made(kind: type[Record], **more: Any) -> Any:
    """A row with nothing in it but what is said."""
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.required:
            fields[field.name] = () if "tuple" in str(field.type) else "" if field.type is str else 0
    return kind(**{**fields, **more})


def test_every_table_is_recorded_or_follows_from_what_is() -> None:
    """Whoever adds a table decides: it is looked at, or in the snapshot, or made of these, or not recorded (logs)."""
    stored = {"tasks", "events", "records"}
    made_of_documents = {"retired", "operations", "failures", "batches"}
    assert set(TABLES) == {*LIVE, *stored, *made_of_documents, "logs"}
    connection = sqlite3.connect(":memory:")
    connection.executescript(schema.SCHEMA)
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    follows = {table for table in tables if table.startswith("words_") or table.endswith("counters")}
    assert tables == {*image.LOADED, *follows, "meta"}


async def test_dear_questions_are_asked_of_what_changed_and_a_few_at_a_time() -> None:
    asked: list[str] = []
    rows: list[Record] = [_queue("x", 0)]
    adapters = [made(AdapterRow, id=f"a{number}@v1", name=f"a{number}") for number in range(5)]
    tables: dict[str, Any] = {**dict.fromkeys(LIVE, list), "queues": lambda: rows, "adapters": lambda: adapters}

    async def ask(method: str, params: msgspec.Raw) -> bytes:
        asked.append(method)
        return b"{}"

    looking = Looking(tables, ask)
    looking.look(LIVE)
    looks = 0
    while looking.owes:
        before = len(asked)
        await looking.ask()
        assert sum(method.startswith("adapter.") for method in asked[before:]) <= MOST_DEAR + 1, "and adapter.stats"
        looks += 1
    assert asked.count("adapter.inspect") == asked.count("adapter.versions") == 5
    assert asked.count("queue.explain") == looks == 3
    adapters[2] = msgspec.structs.replace(adapters[2], hits=9)
    asked.clear()
    assert [change[0] for change in looking.look(LIVE)] == ["adapters"]
    await looking.ask()
    assert not looking.owes
    assert asked.count("adapter.inspect") == 1


async def test_a_ring_turns_and_keeps_no_more_than_it_may(house: House, tmp_path: Path) -> None:
    made = await house.recorder.start(RecordStart(keep_ms=20_000), 1)
    for _ in range(60):
        seq = house.store.journal.next_seq()
        await house.write(insert(seq), event("task.submitted", seq))
        house.recorder.touch("queues")
        made = await house.recorder.show(made.id, 1)
    for _ in range(200):
        made = await house.recorder.show(made.id, 1)
        if house.clock.now_ms - made.from_ms <= 30_000 and len(made.files) > 2:
            break
        await asyncio.sleep(0.01)
    assert 20_000 <= house.clock.now_ms - made.from_ms <= 30_000
    assert sorted(path.name for path in (tmp_path / "recordings").iterdir()) == sorted(
        Path(file).name for file in made.files
    )
    found = await played(made.files, tmp_path / "played")
    try:
        await found.player.seek(house.clock.now_ms)
        assert found.rows() == house.rows()
        assert found.player.state.skipped == 0
    finally:
        await found.close()
    await house.recorder.stop(made.id, 1)
    assert not list((tmp_path / "recordings").iterdir())


async def test_nobody_listens_when_nobody_records(house: House, tmp_path: Path) -> None:
    journal: Any = house.store.journal
    assert not journal._on_written
    made = await house.recorder.start(RecordStart(path=str(tmp_path / "a.rec")), 1)
    assert len(journal._on_written) == 1
    house.recorder.client_left(1)
    await wait_until(lambda: not journal._on_written, "nobody listens")
    assert last_line(made.files[0]).endswith(b'"end":"the one who recorded has left"}')


class _FullDisk:
    """A file that takes nothing more."""

    closed = False

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    close = flush


async def test_a_full_disk_ends_the_recording_and_nothing_else(house: House, tmp_path: Path) -> None:
    made = await house.recorder.start(RecordStart(path=str(tmp_path / "a.rec")), 1)
    recorder: Any = house.recorder
    recorder._made[made.id].sinks[0]._file = _FullDisk()
    seq = house.store.journal.next_seq()
    await house.write(insert(seq), event("task.submitted", seq))
    shown = await house.recorder.show(made.id, 1)
    assert (shown.state, shown.problem) == ("ended", "No space left on device")
    assert house.events.said == ["the recording ended: No space left on device"]
    await house.write(event("task.started", seq))
    await house.recorder.stop(made.id, 1)


async def test_what_cannot_be_written_down_ends_the_recording(house: House, tmp_path: Path) -> None:
    made = await house.recorder.start(RecordStart(path=str(tmp_path / "a.rec")), 1)
    recorder: Any = house.recorder
    recorder._written([(insert(1, payload=b'"\xff"'),)])
    shown = await recorder.show(made.id, 1)
    assert shown.state == "ended"
    assert "cannot be written as JSON" in shown.problem
    assert (await recorder.stop(made.id, 1)).state == "ended"


async def test_the_file_is_its_owners_and_replaces_nothing(house: House, tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    await house.recorder.start(RecordStart(path=str(path)), 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for other, code in (
        (path, Code.conflict),
        (tmp_path / "no" / "x", Code.storage_failed),
        (Path("x"), Code.bad_request),
    ):
        with pytest.raises(AiwmError) as caught:
            await house.recorder.start(RecordStart(path=str(other)), 1)
        assert (caught.value.code, caught.value.info.field) == (code, "path")
        assert caught.value.info.fix
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AiwmError):
        await house.recorder.start(RecordStart(path=str(tmp_path / "link")), 1)
    assert not (tmp_path / "elsewhere").exists()


async def test_a_recording_is_its_connections(house: House, tmp_path: Path) -> None:
    made = await house.recorder.start(RecordStart(path=str(tmp_path / "a.rec")), 1)
    with pytest.raises(AiwmError, match="not made by this connection"):
        await house.recorder.stop(made.id, 2)


@pytest.mark.parametrize("path", ["a.rec", ""])
@pytest.mark.parametrize("turns", [0, 1, 3, 30])
async def test_who_leaves_while_it_begins_leaves_no_recording(
    house: House, tmp_path: Path, path: str, turns: int
) -> None:
    recorder: Any = house.recorder
    beginning = asyncio.ensure_future(recorder.start(RecordStart(path=path and str(tmp_path / path)), 1))
    for _ in range(turns):
        await asyncio.sleep(0)
    if turns == 0:
        await asyncio.sleep(0)
    recorder.client_left(1)
    with pytest.raises(AiwmError) as caught:
        await beginning
    assert caught.value.code == Code.connection_lost
    await wait_until(lambda: not recorder._tasks, "it has ended")
    assert not recorder._collecting
    assert not recorder._made
    assert not (house.store.journal)._on_written
    assert not list((tmp_path / "recordings").iterdir())
    # The next one hears what happens.
    made = await recorder.start(RecordStart(path=str(tmp_path / "b.rec")), 2)
    await house.write(insert(house.store.journal.next_seq()))
    assert (await recorder.stop(made.id, 2)).changes == 2


async def test_a_ring_that_cannot_turn_says_so_once(house: House, tmp_path: Path) -> None:
    made = await house.recorder.start(RecordStart(keep_ms=20_000), 1)
    recorder: Any = house.recorder
    (tmp_path / "recordings").rename(tmp_path / "elsewhere")
    for _ in range(20):
        await house.write(insert(house.store.journal.next_seq()))
        made = await recorder.show(made.id, 1)
        await wait_until(lambda: not recorder._tasks, "it was tried")
    assert len(house.events.said) == 1
    assert "cannot turn" in house.events.said[0]
    assert made.state == "recording"
    assert len(made.files) == 1
    (tmp_path / "elsewhere").rename(tmp_path / "recordings")
    await house.write(insert(house.store.journal.next_seq()))
    await recorder.show(made.id, 1)
    await wait_until(lambda: not recorder._tasks, "it turned")
    assert len((await recorder.show(made.id, 1)).files) == 2


async def test_a_ring_that_cannot_turn_ends_at_its_bound(house: House, tmp_path: Path) -> None:
    made = await house.recorder.start(RecordStart(keep_bytes=2**20), 1)
    recorder: Any = house.recorder
    (tmp_path / "recordings").rename(tmp_path / "elsewhere")
    for _ in range(40):
        await house.write(insert(house.store.journal.next_seq(), payload=b'"%s"' % (b"x" * 65_536)))
        made = await recorder.show(made.id, 1)
        await wait_until(lambda: not recorder._tasks, "it was tried")
    assert (made.state, made.problem) == ("ended", "its file is full (1 MB), and there is no next one")
    (file,) = (tmp_path / "elsewhere").iterdir()
    assert 2**20 < made.bytes < 2**20 + 3 * 65_536
    assert file.stat().st_size == made.bytes
    assert "cannot turn" in house.events.said[0]
    assert house.events.said[1:] == [f"the recording ended: {made.problem}"], "each once"
    (tmp_path / "elsewhere").rename(tmp_path / "recordings")
    await recorder.stop(made.id, 1)
    assert not list((tmp_path / "recordings").iterdir())


async def test_a_ring_whose_oldest_cannot_go_grows_no_further(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    made = await house.recorder.start(RecordStart(keep_bytes=2**20), 1)
    recorder: Any = house.recorder
    monkeypatch.setattr(Path, "unlink", refuse)
    for _ in range(60):
        await house.write(insert(house.store.journal.next_seq(), payload=b'"%s"' % (b"x" * 65_536)))
        made = await recorder.show(made.id, 1)
        await wait_until(lambda: not recorder._tasks, "it was tried")
    files = sorted((tmp_path / "recordings").iterdir())
    assert made.state == "ended"
    assert made.problem == f"{Path(made.files[0]).name} cannot be removed: Read-only file system"
    assert sorted(map(Path, made.files)) == files, "what is there is still its own"
    assert house.events.said == [f"the recording ended: {made.problem}"]
    monkeypatch.undo()
    await recorder.stop(made.id, 1)
    assert not list((tmp_path / "recordings").iterdir())


async def test_nothing_goes_on_behind_a_file_that_failed_while_the_next_one_began(house: House, tmp_path: Path) -> None:
    made = await house.recorder.start(RecordStart(keep_ms=20_000), 1)
    recorder: Any = house.recorder
    recorder._made[made.id].sinks[0]._fail("no space")
    with pytest.raises(AiwmError):
        await recorder._open(recorder._made[made.id])
    assert not recorder._collecting
    assert [path.name for path in (tmp_path / "recordings").iterdir()] == [Path(made.files[0]).name]


async def test_redacted_needs_change_and_go_as_they_did(house: House, tmp_path: Path) -> None:
    needs = [_need("failed F-a", "2 tasks failed", "secret"), _need("ap-1", "etl asks for secret", "secret")]
    recorder: Any = house.recorder
    recorder._looking._tables["needs"] = lambda: needs
    made = await house.recorder.start(RecordStart(path=str(tmp_path / "a.rec"), redact=True), 1)
    for later in (
        [*needs, _need("behind etl", "etl falls behind", "pool at max")],
        [msgspec.structs.replace(needs[0], what="3 tasks failed"), _need("behind etl", "etl falls behind", "max 4")],
    ):
        needs[:] = later
        house.clock.now_ms += 5000
        house.recorder.touch("needs")
        await house.recorder.show(made.id, 1)
    await house.recorder.stop(made.id, 1)
    assert b"secret" not in whole(made.files[0])
    found = await played(made.files, tmp_path / "played")
    moments = (
        [("2 tasks failed", "(redacted)"), ("(redacted)", "(redacted)")],
        [("2 tasks failed", "(redacted)"), ("(redacted)", "(redacted)"), ("etl falls behind", "pool at max")],
        [("3 tasks failed", "(redacted)"), ("etl falls behind", "max 4")],
    )
    try:
        for number, rows in enumerate(moments):
            await found.player.seek(T0 + 5000 * number)
            shown = [row for row in found.player.rows("needs") if isinstance(row, NeedRow)]
            assert [(row.what, row.why) for row in shown] == rows
    finally:
        await found.close()


def _need(identifier: str, what: str, why: str) -> NeedRow:
    return NeedRow(id=identifier, since_ms=T0, state="broken", what=what, why=why, press="", location=":engine")


async def test_who_asks_and_goes_leaves_the_lines_in_their_order(house: House, tmp_path: Path) -> None:
    made = await house.recorder.start(RecordStart(path=str(tmp_path / "a.rec")), 1)
    recorder: Any = house.recorder
    sink = recorder._made[made.id].sinks[0]
    write, writing, go_on = sink._write_all, threading.Event(), threading.Event()

    def slowly(waiting: Any) -> None:
        if not writing.is_set():
            writing.set()
            go_on.wait(10)
        write(waiting)

    sink._write_all = slowly
    await house.write(insert(house.store.journal.next_seq(), queue="first"))
    asked = asyncio.ensure_future(recorder.show(made.id, 1))
    await wait_until(writing.is_set, "it writes")
    asked.cancel()
    await house.write(insert(house.store.journal.next_seq(), queue="second"))
    again = asyncio.ensure_future(recorder.show(made.id, 1))
    await asyncio.wait({asked, again}, timeout=0.3)  # the second may not overtake the first
    go_on.set()
    await again
    await recorder.stop(made.id, 1)
    written = whole(made.files[0])
    assert 0 < written.index(b'"first"') < written.index(b'"second"')


def whole(file: str) -> bytes:
    return Path(file).read_bytes()


def last_line(file: str) -> bytes:
    return whole(file).splitlines()[-1]
