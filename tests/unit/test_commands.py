"""Server programs that are not ours: started, probed, restarted, ended with everything of theirs; adopted ones only looked at."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from engine.clock import SystemClock
from engine.contract.definitions import Backend, ModelDefinition
from engine.contract.errors import AiwmError
from engine.inference.commands.probe import Prober
from engine.inference.commands.program import free_port
from engine.inference.commands.server import CommandServer, ServerSettings
from engine.inference.commands.words import check_words, environment, fill
from engine.inference.supervision import Policy, ProcessState
from tests.support.waiting import until

PROGRAM = Path(__file__).parents[1] / "support" / "server_program.py"
WORDS = (sys.executable, str(PROGRAM), "--port", "{port}", "--name", "{name}")
QUICK = ServerSettings(
    start_timeout=20,
    hang_timeout=0.3,
    probe_every=0.05,
    first_probe=0.02,
    grace=2,
    policy=Policy(first_rest=0.05, longest_rest=0.1, max_crashes=3),
)


@asynccontextmanager
async def server(
    tmp_path: Path, *more: str, settings: ServerSettings = QUICK, **fields: object
) -> AsyncIterator[CommandServer]:
    given: dict[str, object] = {"command": (*WORDS, *more), **fields}
    definition = ModelDefinition(name="m", backend=Backend.command, **given)  # type: ignore[arg-type]
    made = CommandServer(
        "m.0", definition, settings, clock=SystemClock(), log=tmp_path / "m.0.log", changed=lambda _: None
    )
    try:
        yield made
    finally:
        made.stop()
        await made.stopped()


def state(it: CommandServer) -> ProcessState:
    return it.state


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def writes(path: Path) -> Callable[[], bool]:
    return lambda: path.exists() and bool(path.read_text())


async def test_a_program_is_started_on_a_port_of_its_own_and_is_ready_when_it_is_healthy(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with server(tmp_path, "--gate", str(gate)) as it:
        waiting = asyncio.ensure_future(it.ready())
        await until(lambda: "listening on" in (it._log.read_text() if it._log.exists() else ""))
        assert state(it) is ProcessState.starting
        assert not waiting.done()
        gate.touch()
        url = await asyncio.wait_for(waiting, 20)
        assert url.startswith("http://127.0.0.1:")
        assert it.pid is not None
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{url}/models")).json()["data"] == [{"id": "m"}]
        pid = it.pid
        it.stop()
        await it.stopped()
        assert state(it) is ProcessState.stopped
        assert not alive(pid)


async def test_a_program_that_dies_is_started_again_and_says_how_it_died(tmp_path: Path) -> None:
    async with server(tmp_path) as it:
        await it.ready()
        first = it.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: it.life.restarts == 1 and it.up)
        assert it.pid != first
        assert it.last_exit == -9
        assert await it.ready() == it.url


async def test_a_program_that_cannot_start_is_given_up_with_its_last_lines(tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    trouble.touch()
    async with server(tmp_path, "--trouble", str(trouble)) as it:
        with pytest.raises(AiwmError) as caught:
            await it.ready()
        assert caught.value.code == "model_crashed"
        assert "exit code 1" in caught.value.info.message
        assert "no room for the model" in caught.value.info.stderr
        assert state(it) is ProcessState.failed
        # For a while everyone is told at once, without another try.
        crashes = it.life.crashes
        with pytest.raises(AiwmError):
            await it.ready()
        assert it.life.crashes == crashes


async def test_a_program_that_does_not_exist_says_so(tmp_path: Path) -> None:
    async with server(tmp_path, command=("/nowhere/llama-server", "--port", "{port}")) as it:
        with pytest.raises(AiwmError) as caught:
            await it.ready()
        assert any("cannot be started: No such file" in line for line in caught.value.info.stderr)


async def test_one_that_is_no_longer_healthy_is_started_again(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with server(tmp_path, "--gate", str(gate)) as it:
        await it.ready()
        first = it.pid
        gate.unlink()
        await until(lambda: it.pid not in (first, None))
        assert it.last_error is None or "503" in it.last_error.message
        gate.touch()
        await it.ready()


async def test_it_drains_before_it_stops_and_comes_back_when_it_is_wanted(tmp_path: Path) -> None:
    async with server(tmp_path) as it:
        await it.ready()
        it.begin()
        it.drain()
        assert state(it) is ProcessState.draining
        it.end(served=True)
        await it.stopped()
        assert state(it) is ProcessState.stopped
        assert await it.ready()


async def test_what_a_program_starts_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "child"
    async with server(tmp_path, "--child", str(note)) as it:
        await it.ready()
        await until(writes(note))
        child = int(note.read_text())
        assert alive(child)
        it.stop()
        await it.stopped()
        await until(lambda: not alive(child))


async def test_programs_die_with_an_engine_that_is_killed(tmp_path: Path) -> None:
    """The engine's part is played by a process that starts a program and is killed."""
    note = tmp_path / "pid"
    words = [sys.executable, "-c", "import time; time.sleep(600)"]
    code = (
        "import asyncio, sys; from pathlib import Path; from engine.inference.commands.program import Program\n"
        "async def main():\n"
        f"    program = await Program.start({words!r}, Path({str(tmp_path / 'log')!r}), {{}})\n"
        f"    Path({str(note)!r}).write_text(str(program.pid)); await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    engine = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    try:
        await until(writes(note))
        pid = int(note.read_text())
        assert alive(pid)
        engine.kill()
        await until(lambda: not alive(pid))
    finally:
        if engine.returncode is None:
            engine.kill()
        await engine.wait()


async def test_a_program_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    greedy = "import sys, time; held = bytearray(b'x' * 150_000_000); time.sleep(600)"
    async with server(tmp_path, command=(sys.executable, "-c", greedy, "{port}"), memory_bytes=100_000_000) as it:
        with pytest.raises(AiwmError) as caught:
            await it.ready()
        assert "its memory_bytes allow 95M" in caught.value.info.message
        assert it.life.crashes == 3


async def test_an_adopted_server_is_probed_and_left_alone(tmp_path: Path) -> None:
    port = free_port()
    async with server(tmp_path, command=(), url=f"http://127.0.0.1:{port}/v1") as it:
        with pytest.raises(AiwmError) as caught:
            await it.ready()
        assert caught.value.code == "model_unavailable"
        assert caught.value.info.retryable
        # It need not be asked for again: it is looked for until it is there.
        words = [sys.executable, str(PROGRAM), "--port", str(port), "--health", "/none"]
        program = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.DEVNULL)
        try:
            await until(lambda: it.up)
            assert await it.ready() == f"http://127.0.0.1:{port}/v1"
            assert it.pid is None
            it.stop()
            await it.stopped()
            assert program.returncode is None
            await it.ready()
        finally:
            program.kill()
            await program.wait()
        await until(lambda: state(it) is ProcessState.backoff)


async def test_a_probe_reads_no_answer_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readline()
        try:
            while b"/slow" in asked:  # a header without end
                writer.write(b"HTTP/1.1 200 OK\r\n" if asked == b"GET /slow HTTP/1.1\r\n" else b"x: y\r\n")
                asked = b"/slow"
                await writer.drain()
                await asyncio.sleep(0.01)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            writer.close()

    monkeypatch.setattr("engine.inference.commands.probe.TIMEOUT_S", 0.3)
    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    endless, slow = Prober(base, "/health"), Prober(base, "/slow")
    async with asyncio.timeout(20):
        assert await endless.ready() == ""
        with pytest.raises(AiwmError) as caught:
            await slow.ready()
    assert caught.value.code == "model_unavailable"
    for prober in (endless, slow):
        await prober.close()
    listening.close()


@pytest.mark.parametrize("base", ["http://[::1", "http://a\x00b", "http://" + "a" * 70 + ".example:99999/"])
async def test_an_address_that_is_none_is_no_server(base: str) -> None:
    prober = Prober(base, "/health")
    with pytest.raises(AiwmError) as caught:
        await prober.ready()
    assert caught.value.code == "model_unavailable"
    await prober.close()


def test_a_program_gets_no_keys_and_the_gpus_that_it_may_use() -> None:
    given = {"PATH": "/bin", "OPENAI_API_KEY": "secret", "AIWM_VAULT_PASSPHRASE": "secret", "CUDA_VISIBLE_DEVICES": "3"}
    hidden = frozenset({"OPENAI_API_KEY"})
    assert environment(given, hidden, ()) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "3"}
    assert environment(given, hidden, (0, 2)) == {
        "PATH": "/bin",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "0,2",
    }


async def test_what_is_hidden_stays_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", "secret")
    monkeypatch.setenv("AIWM_HOME", "/h")
    tells = "import os; print(sorted(name for name in os.environ if name in ('TEAM_KEY', 'AIWM_HOME', 'PATH')))"
    async with server(
        tmp_path,
        settings=replace(QUICK, hidden=frozenset({"TEAM_KEY"})),
        command=(sys.executable, "-c", tells, "{port}"),
    ) as it:
        with pytest.raises(AiwmError) as caught:
            await it.ready()
        assert caught.value.info.stderr[-1] == "['PATH']"


def test_words_are_filled_without_a_shell() -> None:
    values = {"path": "/models/a b; rm -rf {name}", "port": "4711"}
    assert fill(("srv", "--model={path}", "{port}", "{unknown}"), values) == [
        "srv",
        "--model=/models/a b; rm -rf {name}",
        "4711",
        "{unknown}",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "needs a program"),
        (("llama-server", "-m", "{path}"), "where its port goes"),
        (("llama-server", "--port", "{prt}"), "{prt} is no place"),
    ],
)
def test_a_command_that_can_never_run_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(AiwmError, match=re.escape(message)) as caught:
        check_words(words)
    assert caught.value.info.field == "command"


async def test_starting_and_stopping_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    ours = psutil.Process()
    before, open_before = set(ours.children(recursive=True)), ours.num_fds()
    async with server(tmp_path) as it:
        for number in range(8):
            waiting = asyncio.ensure_future(it.ready())
            if number % 3 == 0:
                await until(lambda: it.life.alive)  # it has hardly begun
            elif number % 3 == 1:
                await until(lambda: it.pid is not None)
            else:
                await waiting
            it.stop()
            await it.stopped()
            (ended,) = await asyncio.gather(waiting, return_exceptions=True)
            stopped = isinstance(ended, AiwmError) and "was stopped before it was ready" in str(ended)
            assert stopped if number % 3 < 2 else ended == it.url
            assert it.pid is None
            assert not it.life.alive
    await until(lambda: set(ours.children(recursive=True)) <= before)
    await until(lambda: ours.num_fds() <= open_before + 1)
