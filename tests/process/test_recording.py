"""Recordings of a real engine: made by the command, played by another engine, looked at by every command that looks."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.client import BlockingClient, connect_blocking, connect_through
from engine.contract.errors import AiwmError, Code
from engine.contract.records import TABLES
from engine.contract.requests import catalogue
from engine.contract.requests.context import TaskContextShow
from engine.contract.requests.fleet import ModelExplain, PoolExplain, QueueExplain, QueuePause, QueueShow
from engine.contract.requests.recordings import RecordShow, RecordStart, RecordStop, ReplayPlay, ReplaySeek, ReplayShow
from engine.contract.requests.session import EngineWhy, ViewRead
from engine.contract.requests.tasks import TaskExplain, TaskList, TaskShow, TaskSubmit, TaskWait
from engine.contract.states import Effect
from engine.spawning import replay_command
from tests.support.engines import engine, wait_until
from tests.support.shell import AIWM, shell

SECRET = "Müller & Söhne GmbH"


def submit(client: BlockingClient, queue: str, text: str) -> str:
    return client.call(TaskSubmit(queue=queue, payload={"prompt": text})).id


@contextmanager
def recording(home: Path, file: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`aiwm record` under way."""
    process = subprocess.Popen([*AIWM, "record", str(file), "--home", str(home), *arguments], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: file.exists() and b'"left_out"' in file.read_bytes(), "the snapshot")
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGINT)
    return process.wait(timeout=30)


def a_little_work(home: Path, file: Path, *arguments: str) -> list[str]:
    """A recording in which three tasks are done and one waits in a paused queue. Their ids."""
    with engine(home) as running, running.client() as client:
        before = submit(client, "echo", f"before {SECRET}")
        client.call(TaskWait(ids=(before,)))
        with recording(home, file, *arguments) as process:
            ids = [submit(client, "echo", f"{SECRET} {number}") for number in range(3)]
            client.call(TaskWait(ids=tuple(ids)))
            client.call(QueuePause(name="echo", reason="lunch"))
            held = submit(client, "echo", f"held {SECRET}")
            wait_until(lambda: b"queue echo is paused" in file.read_bytes(), "why it waits")
            assert ended(process) == 0
    return [before, *ids, held]


@contextmanager
def played(file: Path, home: Path) -> Iterator[BlockingClient]:
    """A client of an engine that plays a file."""
    command = [*replay_command([str(file)])[:-1], "--home", str(home)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        found: list[BlockingClient] = []

        def up() -> bool:
            assert process.poll() is None, "the recording is not played"
            try:
                found.append(connect_blocking(home, spawn=False))
            except AiwmError:
                return False
            return True

        wait_until(up, "the engine of the recording")
        with found[0] as client:
            yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="aiwm-") as folder:
        file = Path(folder) / "a.rec"
        yield file, a_little_work(Path(folder) / "home", file)


def test_what_was_is_seen_at_its_time(made: tuple[Path, list[str]], home: Path) -> None:
    file, ids = made
    with played(file, home) as client:
        assert client.welcome is not None
        assert (client.welcome.read_only, client.welcome.at_ms is None) == (True, False)
        state = client.call(ReplayShow())
        assert [row.id for row in client.call(TaskList()).rows] == [ids[0]]
        state = client.call(ReplaySeek(at_ms=state.to_ms))
        assert (state.at_ms, state.skipped, state.ends, state.cut) == (state.to_ms, 0, "stopped", False)
        rows = {row.id: row for row in client.call(TaskList()).rows}
        assert [rows[each].state for each in ids] == ["completed"] * 4 + ["pending"]
        assert rows[ids[4]].reason == "paused", "the gate of its queue"
        detail = client.call(TaskShow(id=ids[1]))
        assert detail.payload == detail.result == {"prompt": f"{SECRET} 0"}
        assert [step.type for step in detail.timeline] == ["task.submitted", "task.started", "task.completed"]
        queue = client.call(QueueShow(name="echo"))
        assert (queue.row.state, queue.definition.pause_reason) == ("paused", "lunch")
        assert "lunch" in client.call(QueueExplain(name="echo")).gates[0].why
        assert not client.call(TaskExplain(id=ids[4])).moving
        assert client.call(TaskContextShow(id=ids[1])).task == ids[1]
        for request in (PoolExplain(name="echo"), ModelExplain(name="aiwm-nano"), EngineWhy()):
            assert client.call(request).summary
        client.call(ReplaySeek(at_ms=state.from_ms))
        assert not client.call(QueueShow(name="echo")).definition.paused
        machine = client.call(ViewRead(location=":machine")).rows[0]
        assert machine["mode"].startswith("replay ")


def test_it_plays_to_its_end_by_itself(made: tuple[Path, list[str]], home: Path) -> None:
    with played(made[0], home) as client:
        assert client.call(ReplayPlay(speed=1000.0)).playing
        wait_until(lambda: not client.call(ReplayShow()).playing, "its end")
        state = client.call(ReplayShow())
        assert (state.at_ms, state.change) == (state.to_ms, state.changes)
        assert len(client.call(TaskList()).rows) == len(made[1])
        with pytest.raises(AiwmError) as caught:
            client.call(ReplayPlay(speed=0.0))
        assert caught.value.info.field == "speed"


def test_how_a_recording_is_is_known_to_who_makes_it_alone(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.rec"
    with engine(home), connect_blocking(home, spawn=False) as client:
        begun = client.call(RecordStart(path=str(file)))
        task = submit(client, "echo", "x")
        client.call(TaskWait(ids=(task,)))
        now = client.call(RecordShow(id=begun.id))
        assert (now.state, now.files, now.changes > begun.changes) == ("recording", (str(file),), True)
        assert task.encode() in file.read_bytes()
        with connect_blocking(home, spawn=False) as other, pytest.raises(AiwmError) as caught:
            other.call(RecordShow(id=begun.id))
        assert caught.value.code == Code.not_found
        assert client.call(RecordStop(id=begun.id)).state == "ended"


def test_every_table_is_there_and_nothing_can_be_changed(made: tuple[Path, list[str]], home: Path) -> None:
    file, _ = made
    with played(file, home) as client:
        client.call(ReplaySeek(at_ms=client.call(ReplayShow()).to_ms))
        found = {table: client.call(ViewRead(location=f":{table}")).total for table in TABLES}
        full = {
            "tasks",
            "queues",
            "pools",
            "instances",
            "workers",
            "models",
            "devices",
            "adapters",
            "events",
            "machine",
        }
        assert {table for table in full | {"records"} if not found[table]} == set()
        before = client.call(ReplayShow()).change
        for method, kind in catalogue().by_method.items():
            if kind.effect is not Effect.read:
                with pytest.raises(AiwmError) as caught:
                    client.call(_Any(method, kind))
                assert caught.value.code in (Code.read_only, Code.bad_request), method
        assert client.call(ReplayShow()).change == before


class _Any:
    """A request of a class with whatever it requires: it is refused before it is looked at."""

    def __new__(cls, method: str, kind: Any) -> Any:
        import msgspec

        required = {}
        for field in msgspec.structs.fields(kind):
            if field.required:
                required[field.name] = {str: "x", int: 1, dict: {}, bool: True}.get(field.type, ())
        return kind(**required)


def test_requests_that_look_answer_or_say_that_it_was_not_recorded(made: tuple[Path, list[str]], home: Path) -> None:
    """Never from this engine, which knows nothing of that day, and never by failing."""
    file, _ = made
    waits = {"task.wait", "batch.wait", "logs.follow"}
    with played(file, home) as client:
        client.call(ReplaySeek(at_ms=client.call(ReplayShow()).to_ms))
        silent: set[str] = set()
        for method, kind in catalogue().by_method.items():
            if kind.effect is not Effect.read or method in waits or method.startswith(("replay.", "view.")):
                continue
            code = refusal(client, _Any(method, kind))
            assert code != Code.internal, method
            if code == Code.not_recorded:
                silent.add(method)
        assert {"engine.doctor", "config.show", "key.list", "model.plan"} <= silent


def refusal(client: BlockingClient, request: Any) -> str:
    try:
        client.call(request)
    except AiwmError as error:
        return error.code
    return ""


def test_the_shell_prints_a_moment(made: tuple[Path, list[str]], home: Path) -> None:
    file, ids = made
    rows = shell(home, "replay", str(file), "--view", ":tasks state:completed sort:id", "--json").json
    assert [row["id"] for row in rows["data"]] == ids[:4]
    rows = shell(home, "replay", str(file), "--at", "start", "--view", ":tasks", "--json").json
    assert [row["id"] for row in rows["data"]] == ids[:1]
    wrong = shell(home, "replay", str(file), "--at", "noon", "--view", ":tasks", code=2)
    assert '"noon" is no moment' in wrong.err
    assert "02:40" in wrong.err


def test_other_commands_look_at_what_is_served(made: tuple[Path, list[str]]) -> None:
    file, ids = made
    command = [*AIWM, "replay", str(file), "--at", "end", "--serve"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        home = Path(process.stderr.readline().split()[2])
        shown = shell(home, "task", "show", ids[1])
        assert SECRET in shown.out
        assert "a recording cannot be changed" in shell(home, "queue", "resume", "echo", code=5).err
        assert "lunch" in shell(home, "why", f":tasks/{ids[4]}", code=1).out
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert not home.exists()
    finally:
        process.kill()
        process.communicate()


def test_it_needs_a_terminal_or_something_to_print(made: tuple[Path, list[str]], home: Path) -> None:
    assert "needs a terminal" in shell(home, "replay", str(made[0]), code=2).err


def test_other_files_are_refused_by_name(tmp_path: Path, home: Path) -> None:
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("hello\n")
    ran = shell(home, "replay", str(foreign), "--view", ":tasks", code=2)
    assert "no recording of aiwm" in ran.err
    assert str(foreign) in ran.err
    assert "cannot be read" in shell(home, "replay", str(tmp_path), "--view", ":tasks", code=2).err


def test_a_killed_engine_leaves_a_recording_that_says_so(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.rec"
    with engine(home) as running, recording(home, file) as process:
        with running.client() as client:
            task = submit(client, "echo", "last words")
            wait_until(lambda: b"last words" in file.read_bytes(), "what is written within a quarter of a second")
        running.kill()
        assert process.wait(timeout=30) == 3
    with file.open("ab") as cut:
        cut.write(b'{"at":179')
    ran = shell(home, "replay", str(file), "--view", ":tasks")
    assert task in ran.out
    assert "in the middle of a line" in ran.err


def test_an_engine_that_stops_ends_its_recordings(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.rec"
    with engine(home) as running, recording(home, file):
        assert running.stop() == 0
    assert file.read_bytes().endswith(b'"end":"the engine stopped"}\n')


def test_a_redacted_recording_has_no_text_of_a_task(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.rec"
    ids = a_little_work(home, file, "--redact")
    data = file.read_bytes()
    assert SECRET.encode() not in data
    assert b"lunch" in data, "what the operator says of a queue stays"
    with played(file, home) as client:
        client.call(ReplaySeek(at_ms=client.call(ReplayShow()).to_ms))
        assert [row.id for row in client.call(TaskList(where="sort:id")).rows] == ids
        assert client.call(TaskShow(id=ids[0])).payload == {"redacted": True}
        assert client.call(QueueExplain(name="echo")).gates


def test_for_ends_it_by_itself(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.rec"
    with engine(home):
        done = shell(home, "record", str(file), "--for", "200ms", "--json").json["data"]
        assert (done["state"], done["problem"], done["files"]) == ("ended", "", [str(file)])
        again = shell(home, "record", str(file), "--for", "200ms", code=1)
        assert "exists already" in again.err
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert "no engine serves" in shell(home, "record", str(tmp_path / "c"), code=3).err


async def test_a_token_records_nothing(home: Path, tmp_path: Path) -> None:
    from engine.client import connect

    with engine(home):
        async with await connect(home, spawn=False, token="scanner") as client:
            with pytest.raises(AiwmError) as caught:
                await client.call(RecordStart(path=str(tmp_path / "a.rec")))
            assert caught.value.code == Code.denied
            with pytest.raises(AiwmError, match="this engine is live"):
                await client.call(ReplayPlay())
    assert not (tmp_path / "a.rec").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_ends_it_while_it_opens_leaves_no_folder(home: Path, tmp_path: Path, number: signal.Signals) -> None:
    file, kept = tmp_path / "slow.rec", tmp_path / "tmp"
    os.mkfifo(file)  # nobody writes to it: it is opened for as long as we like
    kept.mkdir()
    command = [*replay_command([str(file)])[:-1], "--home", str(home)]
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(kept)}, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: bool(list(kept.iterdir())), "its folder")
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
    finally:
        process.kill()
        process.wait(timeout=30)
    assert not list(kept.iterdir())


async def test_the_engine_of_a_recording_leaves_with_its_client(made: tuple[Path, list[str]]) -> None:
    client = await connect_through([*AIWM, "replay", str(made[0]), "--stdio"], name="console")
    assert client.process is not None
    assert client.welcome is not None
    process, folder = client.process, client.welcome.home
    wait_until(lambda: os.path.isdir(folder), "its folder")
    await client.close()
    wait_until(lambda: os.waitpid(process.pid, os.WNOHANG) != (0, 0), "the engine leaves")
    wait_until(lambda: not os.path.exists(folder), "its folder goes with it")
