"""A model process that runs exllamav2: asked over its pipe, and kept by the engine's service. The emulation is installed by the program
that stands for `python -m engine.inference.process` here; nothing of the product knows of it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.definitions import AdapterUse, Backend, ModelDefinition
from engine.inference.adapter_files import adapter_digest
from engine.inference.memory.gpus import Gpus
from engine.inference.memory.ledger import Ledger
from tests.support.exllamav2_desk import small_adapter, small_model
from tests.support.fake_nvml import FakeGpu, FakeNvml
from tests.support.model_pipe import Pipe
from tests.support.models import ModelHouse, read

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("exllamav2")]

ROOT = Path(__file__).parents[2]
PROGRAM = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support.exllamav2_desk import install_at_load
install_at_load()
from engine.inference import process
process.main()
"""


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe(PROGRAM)
    yield pipe
    pipe.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("process")


@pytest.fixture(scope="module")
def model(folder: Path) -> str:
    return str(small_model(folder / "model"))


@pytest.fixture(scope="module")
def files(folder: Path) -> list[dict[str, Any]]:
    paths = [small_adapter(folder / f"a{number}", seed=number) for number in range(3)]
    return [{"name": path.name, "path": str(path), "digest": adapter_digest(path)} for path in paths]


def test_every_request(pipe: Pipe, model: str, files: list[dict[str, Any]]) -> None:
    plan = pipe.ask("plan", backend="exllamav2", model=model, slots=2, context=512)
    loaded = pipe.ask("load", backend="exllamav2", model=model, slots=4, context=1024, adapter_slots=2)
    assert (loaded["backend"], loaded["slots"], loaded["context"]) == ("exllamav2", 4, 1024)
    assert plan["parameters"] == loaded["parameters"]
    assert plan["weights_bytes"] == pytest.approx(loaded["weights_bytes"], rel=0.02)  # without padding
    doing = [note["doing"] for note in pipe.told("progress")]
    assert "loading weights" in doing
    assert doing[-1] == "checking what it computes"

    prompt = "A long beginning that is the same for all of them. " * 12
    pipe.ask("generate", id="base", prompt=prompt, sampling={"max_tokens": 6})
    for number, file in enumerate(files[:2]):
        pipe.ask("generate", id=f"with-{number}", prompt=prompt, adapters=[file], sampling={"max_tokens": 6})
    pipe.ask("generate", id="half", prompt=prompt, adapters=[{**files[0], "weight": 0.5}], sampling={"max_tokens": 6})
    done = {name: pipe.until("done", name) for name in ("base", "with-0", "with-1", "half")}
    assert all(note["cached"] == 0 for note in done.values())
    assert len({pipe.text(name) for name in done}) == 4
    assert done["half"]["adapters"] == [{"name": "a0", "digest": files[0]["digest"], "weight": 0.5}]

    pipe.ask("generate", id="again", prompt=prompt, sampling={"max_tokens": 6})
    assert pipe.until("done", "again")["cached"] >= 512
    assert pipe.text("again") == pipe.text("base")

    pipe.ask("generate", id="third", prompt="abc", adapters=[files[2]], sampling={"max_tokens": 4})  # one of two leaves
    pipe.until("done", "third")
    status = pipe.status(lambda note: note["cache"]["evictions"] == 1)
    assert files[2]["digest"] in status["adapters"]
    memory = pipe.ask("memory")
    assert memory["weights_bytes"] == loaded["weights_bytes"]
    assert memory["kv_used_bytes"] == 0

    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    pipe.ask("generate", id="bound", prompt="a number", schema=schema, sampling={"max_tokens": 60})
    pipe.until("done", "bound")
    assert json.loads(pipe.text("bound"))["n"] in (1, 2)
    assert pipe.ask("unload") is None
    assert pipe.ask("memory")["weights_bytes"] == 0


def test_cancelling_and_deadlines(pipe: Pipe, tmp_path: Path) -> None:
    endless = small_model(tmp_path / "endless", eos_token_id=None)
    pipe.ask("load", backend="exllamav2", model=str(endless), slots=4, context=2048)
    pipe.ask("generate", id="long", prompt="abc", sampling={"max_tokens": 2000})
    pipe.ask("generate", id="late", prompt="abc", sampling={"max_tokens": 2000}, deadline_ms=150)
    late = pipe.until("done", "late")
    assert late["reason"] == "deadline"
    assert pipe.ask("cancel", id="long") == {"cancelled": True}
    long = pipe.until("done", "long")
    assert long["reason"] == "cancelled"
    assert 0 < late["tokens_out"] <= long["tokens_out"] < 2000
    assert pipe.ask("memory")["kv_used_bytes"] == 0


def test_a_process_whose_gpu_fails_twice_ends_with_its_code(model: str) -> None:
    broken = PROGRAM.replace(
        "process.main()",
        """
from engine.inference.backends.exllamav2 import backend
load = backend.ExllamaV2Backend.load
def failing(self, spec, progress):
    loaded = load(self, spec, progress)
    import torch
    from engine.inference.backends.exllamav2.lanes import Lane
    def step(lane):
        raise torch.OutOfMemoryError("CUDA out of memory")
    Lane.step = step
    return loaded
backend.ExllamaV2Backend.load = failing
process.main()
""",
    )
    pipe = Pipe(broken)
    pipe.ask("load", backend="exllamav2", model=model, slots=2, context=512)
    pipe.ask("generate", id="first", prompt="abc")
    failed = pipe.until("failed", "first")
    assert (failed["error"]["code"], failed["error"]["retryable"]) == ("model_too_big", True)
    pipe.send("generate", id="second", prompt="abc")
    assert pipe.process.wait(timeout=30) == 71
    assert pipe.process.stdin is not None
    assert pipe.process.stdout is not None
    pipe.process.stdin.close()
    pipe.process.stdout.close()


async def test_the_engines_service_keeps_such_a_process(model: str, folder: Path, home: Path) -> None:
    """Planned on a GPU that the driver is said to have, started, loaded, asked with adapters, and started again after a kill."""
    house = ModelHouse(home)
    (home / "adapters").mkdir(parents=True)
    for number in range(2):
        (home / "adapters" / f"a{number}").symlink_to(small_adapter(folder / f"s{number}", seed=number))
    house.book.defined["tiny"] = ModelDefinition(name="tiny", backend=Backend.exllamav2, path=model, context=512)
    gpus = Gpus(lambda: FakeNvml(FakeGpu(total=80 * 2**30)))
    service = house.open([sys.executable, "-P", "-c", PROGRAM], ledger=Ledger(gpus=gpus), context=512)
    texts = set()
    for uses in ((), (AdapterUse(name="a0"),), (AdapterUse(name="a0", weight=0.5), AdapterUse(name="a1"))):
        generation = await house.ask("Tell me more about it.", adapters=uses)
        texts.add("".join(await read(generation)))
        assert [used.name for used in generation.outcome.adapters] == [use.name for use in uses]
    assert len(texts) == 3
    (row,) = service.rows()
    assert (row.backend, row.state) == ("exllamav2", "ready")
    os.kill(house.process.pid, signal.SIGKILL)
    again = await house.ask("Tell me more about it.")
    assert "".join(await read(again)) in texts
    await service.close()


def test_without_a_gpu_a_load_says_what_is_missing_and_the_fix(model: str) -> None:
    from tests.support.exllamav2_emulation import real

    if real():
        pytest.skip("there is a GPU")
    pipe = Pipe()
    error = pipe.ask("load", backend="exllamav2", model=model, slots=1)
    assert error["code"] == "backend_unavailable"
    assert error["fix"]
    assert pipe.ask("load", model=str(ROOT / "engine/inference/shipped/aiwm-nano"), slots=1)["backend"] == "reference"
    pipe.close()
