"""The lines of a recording: whole, redacted, cut, damaged, foreign."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.contract.errors import AiwmError, Code
from engine.contract.states import TaskState
from engine.recording import lines
from engine.recording.redact import redacted_op
from engine.replaying.tape import Tape
from engine.store import ops
from tests.support.recordings import House, played, recorded
from tests.support.stored import end, event, insert, start


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    found = House(tmp_path)
    yield found
    await found.recorder.close()
    await found.store.close()


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
        ops.ReleaseTask(seq=7, attempt=1, at_ms=1, reason="it died of SECRET", crashed=True),
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


async def test_a_file_that_was_cut_anywhere_is_played_to_there_or_refused(house: House, tmp_path: Path) -> None:
    data = (await recorded(house, tmp_path)).read_bytes()
    whole = data.index(b'"left_out"')
    for length in [*range(len(data) - 300, len(data)), *range(10, len(data), 97)]:
        cut = tmp_path / "cut.rec"
        cut.write_bytes(data[:length])
        tape = opened(cut)
        if isinstance(tape, AiwmError):
            assert tape.code == Code.recording_invalid
            assert length < data.index(b"\n", whole) + 1, f"cut at {length}: {tape}"
            continue
        assert length > whole
        assert tape.cut
        assert tape.ends.startswith("without an end" if data[length - 1 : length] == b"\n" else "in the middle")
        tape.close()


def opened(path: Path) -> Tape | AiwmError:
    try:
        return Tape([path])
    except AiwmError as error:
        return error


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
    path = await recorded(house, tmp_path)
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
    path = await recorded(house, tmp_path)
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(first + b"\n" + bad + b"\n" + rest)
    with pytest.raises(AiwmError, match=said) as caught:
        await played([path], tmp_path / "played")
    assert caught.value.code == Code.recording_invalid


async def test_damage_in_the_middle_is_found_when_it_is_opened(house: House, tmp_path: Path) -> None:
    path = await recorded(house, tmp_path)
    data = path.read_bytes().splitlines(keepends=True)
    data[-2] = data[-2][: len(data[-2]) // 2] + b"\n"
    path.write_bytes(b"".join(data))
    with pytest.raises(AiwmError, match=f"line {len(data) - 1} is damaged") as caught:
        Tape([path])
    assert caught.value.info.fix is not None
