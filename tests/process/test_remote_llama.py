"""Remote models against a server that is not ours: llama.cpp's, which speaks OpenAI's and Anthropic's protocols."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.contract.definitions import Backend, Sampling
from engine.contract.errors import AiwmError, Code
from engine.inference.commands.program import free_port
from engine.inference.names import SHIPPED
from tests.support.remote import Far

pytestmark = pytest.mark.slow
SUM = "What is 47 + 12?"
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The shipped model in llama.cpp's server."""
    pytest.importorskip("xllamacpp")
    from benchmarks.gguf import write_gguf

    folder, port = tmp_path_factory.mktemp("llama"), free_port()
    write_gguf(SHIPPED / "aiwm-nano", folder / "nano.gguf", "F16")
    program = Path(__file__).parents[1] / "support" / "llama_server.py"
    words = [sys.executable, str(program), "-m", str(folder / "nano.gguf"), "--port", str(port), "--jinja"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}/v1", host=f"127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


async def _up(far: Far) -> None:
    """Wait until it answers; until then it is unreachable, or says that it loads (503)."""
    async with asyncio.timeout(60):
        while True:
            try:
                await far.ask(SUM)
                return
            except AiwmError as error:
                if error.code not in (Code.model_unavailable, Code.remote_overloaded) or not error.info.retryable:
                    raise
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("backend", [Backend.openai, Backend.anthropic])
async def test_a_real_server(address: Any, backend: Backend) -> None:
    far = Far(address, backend=backend)
    await _up(far)
    text, outcome = await far.ask(SUM)
    assert (text, outcome.reason, outcome.tokens_in, outcome.tokens_out) == ("59", "stop", 14, 3)
    text, outcome = await far.ask(SUM, sampling=Sampling(max_tokens=1))
    assert (text, outcome.reason) == ("5", "length")
    error = await far.trouble("word " * 3_000)
    assert (error.code, far.model.rows()[0].state) == (Code.prompt_too_long, "ready")
    await far.model.close()


async def test_a_real_servers_schema(address: Any) -> None:
    far = Far(address)
    await _up(far)
    text, _ = await far.ask(SUM, schema=SCHEMA)
    assert json.loads(text).keys() == {"n"}
    await far.model.close()
