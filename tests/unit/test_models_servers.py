"""Servers of this machine: found, asked, added; and what llama-swap's configuration becomes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from engine.contract.definitions import Backend
from engine.contract.errors import AiwmError
from engine.contract.requests import models as requests
from engine.inference.commands.program import free_port
from engine.inference.models import detect as detecting
from engine.inference.models.llama_swap import read_llama_swap
from tests.support.models_house import ModelsHouse
from tests.support.waiting import until

PROGRAM = Path(__file__).parents[1] / "support" / "server_program.py"
CONFIG = """
healthCheckTimeout: 90
macros:
  server: /usr/bin/llama-server --port ${PORT} --host 127.0.0.1
  twice: ${server} --metrics
models:
  "qwen2.5 7b":
    cmd: |
      ${twice}
      # the file has a space in its name
      -m "/models/a b.gguf" \\
      --ctx-size 8192
    ttl: 300
    env: ["CUDA_VISIBLE_DEVICES=0"]
  vllm-one:
    cmd: vllm serve x --port ${PORT}
    checkEndpoint: /ping
    useModelName: org/x
  fixed: {cmd: "server --port 9000"}
  nothing: {proxy: "http://127.0.0.1:1"}
  lost: {cmd: "server ${nowhere} --port ${PORT}"}
"""


@asynccontextmanager
async def serving(name: str) -> AsyncIterator[str]:
    """A server program that offers models of these names; its address without /v1."""
    port = free_port()
    words = [sys.executable, str(PROGRAM), "--port", str(port), "--name", name]
    program = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        assert program.stdout is not None
        await asyncio.wait_for(program.stdout.readline(), 20)
        yield f"http://127.0.0.1:{port}"
    finally:
        program.kill()
        await program.wait()


async def test_a_server_of_this_machine_is_adopted_under_its_models_name(tmp_path: Path) -> None:
    async with serving("org/some-model") as url, ModelsHouse(tmp_path / "home") as house:
        port = int(url.rpartition(":")[2])
        added = await house.call(requests.ModelAdd(url=url))
        definition = added.definition
        assert (definition.name, definition.remote, definition.url) == ("some-model", "org/some-model", f"{url}/v1")
        assert (definition.backend, definition.command) == (Backend.command, ())
        found = await house.call(requests.ModelDetect(ports=(port,)))
        (server,) = [it for it in found.servers if it.url == f"{url}/v1"]
        assert (server.models, server.known_as) == (("org/some-model",), ("some-model",))
        offered = await house.call(requests.ModelOffer(model=url))
        assert (offered.queue, offered.made) == ("some-model", ())


async def test_of_several_models_one_must_be_named(tmp_path: Path) -> None:
    async with serving("one,two") as url, ModelsHouse(tmp_path / "home") as house:
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelAdd(url=url))
        assert (caught.value.code, caught.value.info.field) == ("bad_request", "remote")
        assert "one, two" in caught.value.info.message
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelAdd(url=url, remote="tow"))
        assert caught.value.info.fix == 'did you mean "two"?'
        added = await house.call(requests.ModelAdd(url=url, remote="two", backend=Backend.openai))
        assert (added.definition.name, added.definition.backend) == ("two", Backend.openai)


async def test_what_does_not_answer_or_is_no_such_server_is_said() -> None:
    with pytest.raises(AiwmError) as caught:
        await detecting.ask(f"http://127.0.0.1:{free_port()}/v1")
    assert caught.value.code == "remote_failed"
    async with serving("m") as url:
        with pytest.raises(AiwmError, match="not a server that speaks OpenAI's protocol"):
            await detecting.ask(f"{url}/v2")


def answering(status: int, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server answers this from now on."""

    async def get(*_: object) -> tuple[int, bytes]:
        return status, body

    monkeypatch.setattr(detecting, "_get", get)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b'{"data": 3}', b'{"data": [{"id": 3}]}', b"\xff\xfe", b"[" * 9_000]
)
async def test_nonsense_from_a_server_harms_nobody(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(200, body, monkeypatch)
    with pytest.raises(AiwmError) as caught:
        await detecting.ask("http://127.0.0.1:1/v1")
    assert caught.value.code == "remote_failed"


async def test_programs_are_known_by_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(200, b'{"data": [{"id": "a\\u001b[2Jb", "owned_by": "llama-swap"}]}', monkeypatch)
    found = await detecting.ask("http://127.0.0.1:8080/v1")
    assert (found.program, found.models) == ("llama-swap", ("a[2Jb",))
    answering(401, b"", monkeypatch)
    asked = await detecting.ask("http://127.0.0.1:5000/v1")
    assert (asked.program, asked.needs_key) == ("TabbyAPI", True)


async def test_looking_asks_all_ports_at_once_and_only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def get(_: object, url: str, timeout_s: float) -> tuple[int, bytes]:
        asked.append(url)
        assert timeout_s <= 1
        await until(lambda: len(asked) == len(detecting.PORTS))  # none answers before all are asked
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(detecting, "_get", get)
    monkeypatch.setattr(detecting, "_directories", tuple)
    assert (await detecting.detect()).servers == ()
    assert {url.rpartition(":")[0] for url in asked} == {"http://127.0.0.1"}


def test_usual_places_follow_the_environment() -> None:
    home = Path("/home/ana")
    assert home / "models" in detecting.usual_places(home, {})
    assert Path("/data/hf/hub") in detecting.usual_places(home, {"HF_HOME": "/data/hf"})
    assert Path("/data/cache") in detecting.usual_places(home, {"HF_HUB_CACHE": "/data/cache"})


def test_the_configuration_of_llama_swap_is_taken_over() -> None:
    found = read_llama_swap(CONFIG)
    qwen, vllm = found.definitions
    assert (qwen.name, qwen.remote, qwen.idle_ms, qwen.health) == ("qwen2.5-7b", "qwen2.5 7b", 300_000, "/health")
    program = ("env", "CUDA_VISIBLE_DEVICES=0", "/usr/bin/llama-server", "--port", "{port}", "--host", "127.0.0.1")
    assert qwen.command == (*program, "--metrics", "-m", "/models/a b.gguf", "--ctx-size", "8192")
    assert (vllm.health, vllm.remote) == ("/ping", "org/x")
    assert dict(found.refused) == {
        "fixed": "its cmd has no ${PORT}: aiwm chooses the port",
        "nothing": "it has no cmd",
        "lost": "the macro ${nowhere} is not defined",
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no models"),
        ("models: []", "has no models"),
        ("{", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("a: &a [x]\nmodels: {m: {cmd: *a}}", "aliases"),
        pytest.param("[" * 50_000, "is not YAML: it is nested too deeply", id="nested"),
    ],
)
def test_a_text_that_is_no_configuration_is_refused(text: str, why: str) -> None:
    with pytest.raises(AiwmError, match=why) as caught:
        read_llama_swap(text)
    assert caught.value.code == "definition_invalid"


def test_macros_that_never_end_are_refused() -> None:
    text = "macros: {a: '${b}${b}', b: '${a}${a}'}\nmodels: {m: {cmd: '${a} ${PORT}'}}"
    assert read_llama_swap(text).refused[0][0] == "m"


async def test_what_is_taken_over_comes_with_queues_and_once(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        done = await house.call(requests.ModelImport(text=CONFIG))
        assert [it.made[-1] for it in done.added] == ["queue qwen2.5-7b", "queue vllm-one"]
        assert len(done.refused) == 3
        again = await house.call(requests.ModelImport(text=CONFIG))
        assert all(it.existed for it in again.added)
