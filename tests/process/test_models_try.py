"""From a model to an answer by the shell, as on the first day: directories, GGUF files, servers that are started and servers that run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.inference.commands.program import free_port
from engine.inference.names import SHIPPED
from tests.support.engines import Engine, engine, wait_until
from tests.support.shell import shell

SUPPORT = Path(__file__).parents[1] / "support"
SUM = "What is 47 + 12?"


@pytest.fixture
def running(home: Path) -> Iterator[Engine]:
    with engine(home) as one:
        yield one


def models(home: Path) -> dict[str, dict[str, Any]]:
    """Rows of `model list` by process."""
    return {row["id"]: row for row in shell(home, "model", "list", "--json").json["data"]}


def test_one_command_from_a_directory_to_an_answer(running: Engine, home: Path, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "aiwm-nano", tmp_path / "My Model")
    first = shell(home, "try", str(tmp_path / "My Model"), SUM)
    assert first.out == "59\n"
    assert "made model My-Model, worker My-Model, pool My-Model, queue My-Model" in first.err
    whole = shell(home, "try", "My-Model", SUM, "--json").json
    assert (whole["kind"], whole["data"]["result"]["text"]) == ("tried", "59")
    assert whole["data"]["offered"] == {"model": "My-Model", "queue": "My-Model", "made": []}
    assert shell(home, "task", "show", whole["data"]["id"]).out
    second = shell(home, "try", "My-Model", SUM, "--jsonl")
    lines = [json.loads(line) for line in second.out.splitlines()]
    assert lines[0] == {"v": 1, "kind": "offered", "data": {"model": "My-Model", "queue": "My-Model", "made": []}}
    assert "".join(line["data"]["text"] for line in lines[1:-1]) == "59"
    assert lines[-1]["data"]["result"]["text"] == "59"
    # What was made is there to be seen and changed.
    assert shell(home, "worker", "show", "My-Model", "--json").json["data"]["definition"]["model"] == "My-Model"
    shell(home, "model", "set", "My-Model", "slots=2", "ctx=256")
    shell(home, "queue", "pause", "My-Model")
    shown = shell(home, "model", "show", "My-Model", "--json").json["data"]
    assert (shown["definition"]["slots"], shown["definition"]["context"]) == (2, 256)
    # And it is there after the engine's end, until it is removed.
    running.stop()
    with engine(home):
        assert shell(home, "model", "show", "My-Model", "--json").json["data"]["definition"]["slots"] == 2
        assert shell(home, "model", "remove", "My-Model", code=5).err
        shell(home, "model", "remove", "My-Model", "--yes")
        assert shell(home, "model", "show", "My-Model", code=1).err.startswith('aiwm: there is no model "My-Model"')
    assert (tmp_path / "My Model" / "model.safetensors").exists()


def test_a_model_that_ships_is_tried_without_making_anything(running: Engine, home: Path) -> None:
    tried = shell(home, "try", "aiwm-nano", SUM)
    assert (tried.out, tried.err) == ("59\n", "")


def test_a_server_is_started_asked_crashes_and_is_asked_again(running: Engine, home: Path) -> None:
    words = f"{sys.executable} {SUPPORT / 'server_program.py'} --port {{port}} --name {{name}}"
    shell(home, "model", "add", "--name", "echoer", "--command", words, "--idle", "10m")
    assert shell(home, "try", "echoer", "the quick fox").out.split() == ["the", "quick", "fox"]
    row = models(home)["echoer.0"]
    assert (row["state"], row["backend"]) == ("ready", "command")
    os.kill(row["pid"], signal.SIGKILL)
    wait_until(lambda: models(home)["echoer.0"]["pid"] not in (None, row["pid"]), "another life of the server")
    assert shell(home, "try", "echoer", "again").out.split() == ["again"]
    pid = models(home)["echoer.0"]["pid"]
    running.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the server's end with its engine")


def test_a_server_that_runs_already_is_found_and_used(running: Engine, home: Path) -> None:
    port = free_port()
    words = [sys.executable, str(SUPPORT / "server_program.py"), "--port", str(port), "--name", "one,two"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            found = shell(home, "model", "detect", "--ports", str(port), "--json").json["data"]["servers"]
            assert [it["models"] for it in found if str(port) in it["url"]] == [["one", "two"]]
            done = shell(home, "model", "add", f"http://127.0.0.1:{port}", "--all", "--json").json
            assert [it["definition"]["name"] for it in done["data"]] == ["one", "two"]
            assert shell(home, "try", "two", "hello there").out.split() == ["hello", "there"]
            # Another name of the same place adds nothing.
            again = shell(home, "try", f"http://localhost:{port}/", "hi", "--remote", "two")
            assert (again.out.split(), again.err) == (["hi"], "")
        finally:
            server.kill()


@pytest.mark.slow
def test_while_an_adopted_server_is_away_its_tasks_wait(running: Engine, home: Path) -> None:
    port = free_port()
    words = [sys.executable, str(SUPPORT / "server_program.py"), "--port", str(port), "--name", "m"]
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: shell(home, "model", "add", f"http://127.0.0.1:{port}", code=None).code == 0, "the server")
        assert shell(home, "try", "m", "hello").out.split() == ["hello"]
    finally:
        first.kill()
        first.wait()
    wait_until(lambda: models(home)["m.0"]["state"] not in ("ready", "busy"), "that it is missed")
    task = shell(home, "task", "submit", "m", "--prompt", "later on", "--json").json["data"]["id"]
    row = shell(home, "task", "show", task, "--json").json["data"]["row"]
    assert (row["state"], row["attempt"]) == ("pending", 0)
    assert "model" in shell(home, "why", code=1).out
    second = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        shell(home, "task", "wait", task, "--timeout", "50s")
        assert shell(home, "task", "show", task, "--json").json["data"]["result"]["text"].split() == ["later", "on"]
    finally:
        second.kill()
        second.wait()


def test_a_model_that_is_removed_leaves_no_process(running: Engine, home: Path, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "aiwm-nano", tmp_path / "mine")
    shell(home, "try", str(tmp_path / "mine"), SUM)
    pid = models(home)["mine.0"]["pid"]
    shell(home, "model", "remove", "mine", "--yes")
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of its process")
    assert "mine.0" not in models(home)


def test_a_directory_of_models_gets_a_line_each_and_nothing_is_added(
    running: Engine, home: Path, tmp_path: Path
) -> None:
    shutil.copytree(SHIPPED / "aiwm-nano", tmp_path / "m" / "good")
    shutil.copytree(SHIPPED / "aiwm-nano", tmp_path / "m" / "cut")
    weights = tmp_path / "m" / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    listed = shell(home, "model", "add", str(tmp_path / "m"))
    assert [line.split()[0] for line in listed.out.splitlines()] == ["NAME", "cut", "good"]
    assert "model.safetensors: cut short, 100 bytes are missing" in listed.out
    assert "nothing was added" in listed.err
    added = shell(home, "model", "add", str(tmp_path / "m"), "--all", "--json").json["data"]
    assert [it["definition"]["name"] for it in added] == ["good"]
    checked = shell(home, "model", "check", str(tmp_path / "m" / "good"))
    assert "chat template: ok" in checked.out
    assert "<|user|>And 3+3?<|end|><|assistant|>" in checked.out
    assert shell(home, "model", "add", str(tmp_path / "m" / "cut"), code=1).err.count("cut short") == 1


# -- with llama.cpp ----------------------------------------------------------------------------------------------------


@pytest.fixture
def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped model as GGUF, and llama.cpp's server in PATH under its own name."""
    pytest.importorskip("xllamacpp")
    from benchmarks.gguf import write_gguf

    program = tmp_path / "bin" / "llama-server"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SUPPORT / "llama_server.py"}" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    write_gguf(SHIPPED / "aiwm-nano", tmp_path / "nano-F16.gguf", "F16")
    return tmp_path / "nano-F16.gguf"


@pytest.mark.slow
def test_llama_cpp_answers_as_the_reference_backend_started_and_adopted(gguf: Path, home: Path) -> None:
    prompts = (SUM, "Which day comes after Tuesday?", "Say hello to Mira.")
    with engine(home):
        expected = [shell(home, "try", "aiwm-nano", prompt).out for prompt in prompts]
        checked = shell(home, "model", "check", str(gguf), "--json").json["data"][0]
        assert (checked["kind"], checked["quant"], checked["state"]) == ("GGUF", "F16", "usable")
        assert (checked["runs_with"], checked["template"]) == ("llama-server", "ok")
        assert [shell(home, "try", str(gguf), prompt).out for prompt in prompts] == expected
        row = models(home)["nano-F16.0"]
        assert (row["state"], row["backend"]) == ("ready", "command")
        port = _port(row["pid"])
        # Its unloading ends the program; the next prompt starts it again.
        shell(home, "model", "unload", "nano-F16.0")
        wait_until(lambda: not Path(f"/proc/{row['pid']}").exists(), "the end of llama-server")
        assert shell(home, "try", "nano-F16", SUM).out == "59\n"
        assert _port(models(home)["nano-F16.0"]["pid"]) != port
        other = _port(models(home)["nano-F16.0"]["pid"])
        shell(home, "model", "add", f"http://127.0.0.1:{other}", "--name", "adopted")
        assert [shell(home, "try", "adopted", prompt).out for prompt in prompts] == expected


def _port(pid: int) -> int:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return int(words[words.index(b"--port") + 1])
