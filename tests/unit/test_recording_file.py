"""A recording against the database that it was made from: what is played is what was there, at every moment."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.errors import AiwmError, Code
from engine.contract.records import Record
from engine.contract.records.core import QueueRow
from engine.contract.requests.recordings import Recording, RecordStart
from engine.contract.states import Durability, TaskState
from engine.recording import lines
from engine.recording.looking import LIVE, Looking
from engine.recording.recorder import Recorder
from engine.recording.redact import redacted_op
from engine.replaying.player import Player
from engine.replaying.tape import Tape
from engine.store import image, ops
from engine.store.rerun import RerunStore
from engine.store.store import Store
from tests.support.stored import T0, FakeClock, end, event, insert, open_store, start

OS = Durability.os
COMPARED = ("tasks", "payloads", "results", "dependencies", "events", "records", "definitions", "documents", "samples")


class _Events:
    def __init__(self) -> None:
        self.said: list[str] = []

    def emit(self, level: str, type: str, about: str, text: str, **details: Any) -> None:
        self.said.append(text)


class House:
    """A store, a clock that goes a second a time, and a recorder over one table in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "aiwm.db"
        self.clock = FakeClock(T0)
        self.store: Store = open_store(self.path)
        self.queues: list[Record] = []
        tables = {name: self._table(name) for name in LIVE}
        self.events = _Events()
        (folder / "recordings").mkdir()
        self.recorder = Recorder(
            self.store.journal,
            self.path,
            folder / "recordings",
            Looking(tables, self._ask),
            self.clock,
            self.events,
            {"host": "anvil", "home": "home"},
        )

    def _table(self, name: str) -> Any:
        return lambda: self.queues if name == "queues" else []

    async def _ask(self, method: str, params: msgspec.Raw) -> bytes:
        if method == "queue.explain":
            return msgspec.json.encode({"asked": self.clock.now_ms})
        raise AiwmError(Code.not_found, "nobody answers")

    async def write(self, *entry: ops.Op, at: int | None = None) -> None:
        self.clock.now_ms = self.clock.now_ms + 1000 if at is None else at
        await self.store.journal.write(entry, OS)

    def rows(self) -> dict[str, list[Any]]:
        return rows_of(self.path)


def rows_of(path: Path) -> dict[str, list[Any]]:
    connection = sqlite3.connect(path)
    try:
        found: dict[str, list[Any]] = {}
        for table in (*COMPARED, "counters", "event_counters", "record_counters"):
            columns = ", ".join(f'"{name}"' for name in image.columns_of(connection, table))
            zero = " WHERE n <> 0" if table.endswith("counters") else ""
            found[table] = sorted(connection.execute(f"SELECT {columns} FROM {table}{zero}").fetchall(), key=repr)
        return found
    finally:
        connection.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    found = House(tmp_path)
    yield found
    await found.recorder.close()
    await found.store.close()


class Played:
    def __init__(self, tape: Tape, store: RerunStore, player: Player, path: Path) -> None:
        self.tape, self.store, self.player, self.path = tape, store, player, path

    def rows(self) -> dict[str, list[Any]]:
        return rows_of(self.path)

    async def close(self) -> None:
        await self.player.close()
        await self.store.close()


async def played(files: Sequence[str | Path], folder: Path) -> Played:
    folder.mkdir()
    tape = Tape([Path(file) for file in files])
    path = folder / "replay.db"
    image.build(path, tape.parts(), epoch=tape.header.epoch, task_high=tape.header.task_high)
    store = RerunStore(path)
    player = Player(tape, store, folder)
    await player.start()
    return Played(tape, store, player, path)


async def a_day(house: House, rng: random.Random, steps: int) -> None:
    """Everything that can be written, in an order that a seed decides."""
    waiting: list[int] = []
    running: list[int] = []
    ended: list[int] = []
    journal = house.store.journal
    for _ in range(steps):
        match rng.randrange(12):
            case 0 | 1 | 2:
                seq = journal.next_seq()
                more: dict[str, Any] = {"template": "t", "metadata": b'{"index":1}'} if rng.random() < 0.3 else {}
                await house.write(insert(seq, payload=b'{"n":%d}' % seq, **more), event("task.submitted", seq))
                waiting.append(seq)
            case 3 | 4 if waiting:
                seq = waiting.pop(rng.randrange(len(waiting)))
                await house.write(start(seq), event("task.started", seq))
                running.append(seq)
            case 5 | 6 if running:
                seq = running.pop(0)
                state = TaskState.failed if rng.random() < 0.3 else TaskState.completed
                error = b'{"code":"task_failed","message":"no"}' if state is TaskState.failed else None
                done = end(
                    seq, state=state, result=b'{"text":"ho"}', error=error, tokens_in=3, tokens_out=4, prompt="p"
                )
                await house.write(done, event("task.completed", seq))
                ended.append(seq)
            case 7:
                await house.write(ops.PutDocument("scale", f"p/{rng.randrange(3)}", "p", T0, b'{"x":1}'))
            case 8:
                await house.write(ops.PutSamples((("running", 1000, T0 + rng.randrange(9) * 1000, rng.random()),)))
            case 9:
                await house.write(ops.PutDefinition("queue", "q", b'{"name":"q"}', f"{rng.random()}", T0))
            case 10 if waiting:
                await house.write(ops.SetPriority(waiting[0], rng.randrange(9), rng.randrange(9)))
            case 11 if ended:
                await house.write(ops.DeleteTasks((ended.pop(0),)))
            case _:
                # A zombie's answer: it has no effect, and is not recorded.
                await house.write(end(1, attempt=99))


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


def _queue(name: str, waiting: int) -> QueueRow:
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(QueueRow):
        if field.required:
            fields[field.name] = () if "tuple" in str(field.type) else "" if field.type is str else 0
    return QueueRow(**{**fields, "id": name, "waiting": waiting})


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
    async with asyncio.timeout(10):
        while journal._on_written:
            await asyncio.sleep(0.001)
    assert Path(made.files[0]).read_bytes().splitlines()[-1].endswith(b'"end":"the one who recorded has left"}')


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


# -- the lines -----------------------------------------------------------------------------------------------------------


def _examples() -> list[ops.Op]:
    full = insert(
        7, payload=b'{"a":1}', metadata=b'{"k":"SECRET"}', sources=b'["s"]', after=(1, 2), template="t", by="ana"
    )
    return [
        full,
        start(7),
        end(7, result=b'{"text":"SECRET"}', prompt="SECRET", reason="SECRET", summary="SECRET", reflection="SECRET"),
        end(7, state=TaskState.failed, error=b'{"code":"task_failed","message":"SECRET","stderr":["SECRET"]}'),
        ops.RetryTask(seq=7, attempt=1, due_ms=1, at_ms=1, error=b'{"code":"x","message":"SECRET"}', reason="SECRET"),
        ops.ReleaseTask(seq=7, attempt=1, at_ms=1),
        ops.DueTask(7, 1),
        ops.CancelTask(7, 1, "by ana"),
        ops.ExpireTask(7, 1, b'{"code":"deadline_passed","message":"SECRET"}', "SECRET"),
        ops.ReviveTask(7, 1, 2, payload=b'{"a":"SECRET"}'),
        ops.SetBlocked(7, 1, 2),
        ops.MoveTask(7, "q2", 1),
        ops.SetPriority(7, 1, 2),
        ops.RateRecord(7, 0.5, "SECRET"),
        event("task.failed", 7, text="SECRET"),
        event("alert.queue", 7, text="SECRET"),
        event("tool.called", None, text="SECRET"),
        event("adapter.compare", None, level="audit", text="SECRET"),
        ops.PutDefinition("queue", "q", b"{}", "d", 1),
        ops.DeleteDefinition("queue", "q"),
        ops.PutDocument("turn", "a", "b", 1, b'{"text":"SECRET"}'),
        ops.PutDocument("failure", "a", "b", 1, b'{"code":"x","message":"SECRET","stderr":["SECRET"],"count":3}'),
        ops.PutDocument("operation", "a", "b", 1, b'{"id":"op-1","settings":{"set":"SECRET"},"was":{"t":"SECRET"}}'),
        ops.PutDocument("something-new", "a", "b", 1, b'{"text":"SECRET"}'),
        ops.DeleteDocument("a", "b"),
        ops.PutSamples((("s", 1, 2, 3.5),)),
        ops.PruneSamples("s", 1, 2),
        ops.PruneEvents(3),
        ops.PruneRecords(3),
        ops.DeleteTasks((1, 2)),
    ]


def test_every_operation_comes_back_as_it_was() -> None:
    examples = _examples()
    kinds = {kind for kind in vars(ops).values() if isinstance(kind, type) and issubclass(kind, ops.Op)} - {ops.Op}
    assert {type(op) for op in examples} == kinds - lines.UNRECORDED
    written = lines.ops_line(5, [examples, [ops.IndexWords(3)]])
    assert written is not None
    line = lines.read_line(written, 2)
    assert line.at == 5
    assert lines.read_entries(line.ops, 2) == [examples]


def test_what_is_redacted_says_nothing_of_the_content() -> None:
    kept = [op for example in _examples() if (op := redacted_op(example)) is not None]
    written = lines.ops_line(5, [kept])
    assert written is not None
    assert b"SECRET" not in written
    assert b'{\\"a\\":1}' not in written, "a payload"
    assert [type(op) for op in kept].count(ops.PutDocument) == 2, "failures and operations stay, without their texts"
    assert b"by ana" in written, "what a person said of the queue stays"


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b"", "no recording of aiwm"),
        (b"root:x:0:0", "no recording of aiwm"),
        (b'{"v":1}', "no recording of aiwm"),
        (b"[1]", "no recording of aiwm"),
        (b'{"aiwm_recording":true}', "no recording of aiwm"),
        (b'{"aiwm_recording":2}', "has format 2"),
        (b'{"aiwm_recording":1,"engine":3}', "header is damaged"),
        (b"\xff\xfe\x00", "no recording of aiwm"),
    ],
)
def test_a_file_that_is_none_is_refused(first: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(first + b"\n")
    with pytest.raises(AiwmError, match=said) as caught:
        Tape([tmp_path / "x"])
    assert caught.value.code == Code.recording_invalid
    assert caught.value.info.field


async def _recorded(house: House, folder: Path, tasks: int = 5) -> Path:
    path = folder / "a.rec"
    made = await house.recorder.start(RecordStart(path=str(path)), 1)
    for _ in range(tasks):
        seq = house.store.journal.next_seq()
        await house.write(insert(seq), event("task.submitted", seq))
    await house.recorder.stop(made.id, 1)
    return path


async def test_a_file_that_was_cut_anywhere_is_played_to_there_or_refused(house: House, tmp_path: Path) -> None:
    data = (await _recorded(house, tmp_path)).read_bytes()
    whole = data.index(b'"left_out"')
    for length in [*range(len(data) - 300, len(data)), *range(10, len(data), 97)]:
        cut = tmp_path / "cut.rec"
        cut.write_bytes(data[:length])
        try:
            tape = Tape([cut])
        except AiwmError as error:
            assert error.code == Code.recording_invalid
            assert length < data.index(b"\n", whole) + 1, f"cut at {length}: {error}"
        else:
            assert length > whole
            assert tape.cut
            assert tape.ends.startswith("without an end" if data[length - 1 : length] == b"\n" else "in the middle")
            tape.close()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b'{"at":1,"ops":[[{"op":"DropTable"}]]}', "is no operation"),
        (b'{"at":1,"ops":[[{"op":"DueTask","seq":"x","at_ms":1}]]}', "Expected `int`"),
        (b'{"at":1,"table":"nowhere","rows":[{}]}', "is no table"),
        (b'{"at":1,"table":"queues","rows":[{"id":3}]}', "a row of queues"),
    ],
)
async def test_a_damaged_change_is_named_when_it_is_reached(
    house: House, tmp_path: Path, bad: bytes, said: str
) -> None:
    path = await _recorded(house, tmp_path)
    path.write_bytes(path.read_bytes().replace(b'{"at":%d,"end"' % house.clock.now_ms, bad + b'\n{"at":1,"end"'))
    found = await played([path], tmp_path / "played")
    try:
        with pytest.raises(AiwmError, match=said) as caught:
            await found.player.seek(2**53)
        assert caught.value.code == Code.recording_invalid
        assert caught.value.info.field is not None
        assert caught.value.info.field.startswith("line ")
    finally:
        await found.close()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b'{"put":"sqlite_master","columns":["sql"],"rows":[["x"]]}', "sqlite_master"),
        (b'{"put":"meta","columns":["key"],"rows":[["x"]]}', "meta"),
        (b'{"put":"events","columns":["seq\\") SELECT 1 --"],"rows":[["x"]]}', "does not belong"),
        (b'{"put":"tasks","columns":["seq","state"],"rows":[[1,"lost"]]}', "constraint failed"),
        (b'{"put":"events","columns":["seq"],"rows":[[[1]]]}', "does not belong"),
    ],
)
async def test_a_snapshot_names_what_does_not_belong_there(house: House, tmp_path: Path, bad: bytes, said: str) -> None:
    path = await _recorded(house, tmp_path)
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(first + b"\n" + bad + b"\n" + rest)
    with pytest.raises(AiwmError, match=said) as caught:
        await played([path], tmp_path / "played")
    assert caught.value.code == Code.recording_invalid


async def test_damage_in_the_middle_is_found_when_it_is_opened(house: House, tmp_path: Path) -> None:
    path = await _recorded(house, tmp_path)
    data = path.read_bytes().splitlines(keepends=True)
    data[-2] = data[-2][: len(data[-2]) // 2] + b"\n"
    path.write_bytes(b"".join(data))
    with pytest.raises(AiwmError, match=f"line {len(data) - 1} is damaged") as caught:
        Tape([path])
    assert caught.value.info.fix is not None


async def test_steps_go_from_commit_to_commit_and_no_further(house: House, tmp_path: Path) -> None:
    found = await played([await _recorded(house, tmp_path, tasks=3)], tmp_path / "played")
    player = found.player
    try:
        counts = []
        for step in (1, 1, 1, 1, -1, -1, -1, -1, 2):
            await player.step(step)
            counts.append(len(found.rows()["tasks"]))
        assert counts == [1, 2, 3, 3, 2, 1, 0, 0, 2]
        assert player.state.at_ms == found.tape.from_ms + 2000
    finally:
        await found.close()


async def test_playing_goes_on_by_itself_and_stops_at_the_end(house: House, tmp_path: Path) -> None:
    found = await played([await _recorded(house, tmp_path, tasks=3)], tmp_path / "played")
    ended = asyncio.Event()
    found.player.told = lambda: ended.set() if found.player.state.at_ms >= found.tape.to_ms else None
    try:
        with pytest.raises(AiwmError, match="speed"):
            found.player.play(True, 0)
        found.player.play(True, 100)
        async with asyncio.timeout(10):
            await ended.wait()
            while found.player.state.playing:
                await asyncio.sleep(0)
        assert len(found.rows()["tasks"]) == 3
    finally:
        await found.close()


async def test_rooms_are_given_a_journal_that_writes_nothing(house: House, tmp_path: Path) -> None:
    found = await played([await _recorded(house, tmp_path)], tmp_path / "played")
    try:
        heard: list[object] = []
        found.store.journal.on_commit(heard.append)
        with pytest.raises(AiwmError) as caught:
            await found.store.journal.write((insert(99),), OS)
        assert caught.value.code == Code.read_only
        await found.player.seek(2**53)
        assert not heard
        assert found.store.counters() == {("q", "pending"): 5}
    finally:
        await found.close()


async def test_the_snapshot_is_bounded_and_says_what_it_has_not(tmp_path: Path) -> None:
    store = open_store(tmp_path / "aiwm.db")
    for _ in range(30):
        seq = store.journal.next_seq()
        await store.journal.write((insert(seq, payload=b'"%s"' % (b"x" * 5000)), event("task.submitted", seq)), OS)
    connection = image.pin(tmp_path / "aiwm.db")
    limits = image.Limits(waiting=10, events=7, bodies_bytes=12_000)
    parts = list(image.read_out(connection, limits, T0))
    connection.close()
    await store.close()
    sizes = {table: sum(len(part.rows) for part in parts if part.table == table) for table in COMPARED}
    assert (sizes["tasks"], sizes["events"]) == (10, 7)
    assert 0 < sizes["payloads"] < 30
