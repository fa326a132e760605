"""The model process's pipe, spoken by hand: every request, wrong lines, and what an unread or closed pipe does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.inference.adapter_files import adapter_digest
from tests.support.model_pipe import Pipe
from tests.support.tiny_model import write_adapter, write_model


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_model(tmp_path / "model"))


def test_wrong_lines_are_answered_and_the_next_one_is_served(pipe: Pipe) -> None:
    pipe.write(b'{"half": \n')
    assert pipe.read()["error"]["data"]["code"] == "bad_line"
    pipe.write(b"\xff\xfe\n\n")
    assert pipe.read()["error"]["data"]["code"] == "bad_line"
    assert pipe.ask("sing")["code"] == "unknown_method"
    error = pipe.ask("load", model=3, slots=1)
    assert (error["code"], error["field"]) == ("bad_request", "model")
    assert pipe.ask("generate", id="a", prompt="hi")["code"] == "model_unavailable"
    assert pipe.ask("load", model="/no/where", slots=1)["code"] == "model_not_found"
    assert pipe.ask("memory")["weights_bytes"] == 0


def test_a_line_that_is_too_long_costs_no_memory_and_no_life(pipe: Pipe) -> None:
    for _ in range(17):
        pipe.write(b"x" * 2**20)
    pipe.write(b"\n")
    assert pipe.read()["error"]["data"]["code"] == "line_too_long"
    assert pipe.ask("memory")["rss_bytes"] < 300_000_000


def test_every_request(pipe: Pipe, model: str, tmp_path: Path) -> None:
    plan = pipe.ask("plan", model=model, slots=2)
    loaded = pipe.ask("load", model=model, slots=2, context=64)
    assert (loaded["backend"], loaded["slots"], loaded["context"], loaded["chat_template"]) == (
        "reference",
        2,
        64,
        True,
    )
    assert plan["fits"]
    assert plan["parameters"] == loaded["parameters"]
    assert plan["total_bytes"] == plan["weights_bytes"] + plan["kv_bytes"] + plan["scratch_bytes"]

    path = write_adapter(tmp_path / "a")
    file = {"name": "a", "path": str(path), "digest": adapter_digest(path), "weight": 0.5}
    assert pipe.ask("prefetch", adapters=[file]) == {"ready": [file["digest"]], "staged": []}
    assert pipe.ask("memory")["adapters_bytes"] > 0

    asked = pipe.ask("generate", id="one", prompt="abc", adapters=[file], sampling={"max_tokens": 4})
    assert asked == {"tokens_in": 3, "prompt": "abc"}
    done = pipe.until("done", "one")
    assert (done["reason"], done["tokens_in"], done["tokens_out"]) == ("length", 3, 4)
    assert done["adapters"] == [{"name": "a", "digest": file["digest"], "weight": 0.5}]
    text = "".join(note["params"]["text"] for note in pipe.notes if note["method"] == "delta")
    assert text
    tokens = sum(note["params"]["tokens"] for note in pipe.notes if note["method"] == "delta")
    assert tokens == 4

    assert pipe.ask("cancel", id="one") == {"cancelled": False}
    pipe.ask("load", model=model, slots=2, context=50_000)
    pipe.ask("generate", id="two", prompt="abc", sampling={"max_tokens": 49_000})
    assert pipe.ask("generate", id="two", prompt="abc")["code"] == "conflict"
    assert pipe.ask("cancel", id="two") == {"cancelled": True}
    pipe.until("done", "two")
    assert pipe.ask("unload") is None
    assert pipe.ask("generate", id="three", prompt="abc")["code"] == "model_unavailable"


def test_an_adapter_larger_than_the_cache_is_refused(pipe: Pipe, model: str, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a")
    pipe.ask("load", model=model, slots=1, adapter_bytes=1000)
    file = {"name": "big", "path": str(path), "digest": adapter_digest(path)}
    pipe.ask("generate", id="one", prompt="abc", adapters=[file])
    failed = pipe.until("failed", "one")
    assert failed["error"]["code"] == "adapter_invalid"
    assert "adapter big" in failed["error"]["message"]


def test_more_adapters_than_the_cache_holds_take_turns(pipe: Pipe, model: str, tmp_path: Path) -> None:
    """Requests of one adapter each, one place: they wait for each other, and none is lost. One of two adapters would wait for
    ever, so it is refused."""
    pipe.ask("load", model=model, slots=4, adapter_slots=1)
    files = []
    for number in range(6):
        path = write_adapter(tmp_path / f"a{number}", seed=number)
        file = {"name": f"a{number}", "path": str(path), "digest": adapter_digest(path)}
        files.append(file)
        pipe.ask("generate", id=str(number), prompt="abc", adapters=[file], sampling={"max_tokens": 20})
    pipe.ask("generate", id="both", prompt="abc", adapters=files[:2])
    pipe.ask("generate", id="after", prompt="abc", sampling={"max_tokens": 2})
    for number in range(6):
        assert pipe.until("done", str(number))["tokens_out"] > 0
    assert "2 adapters" in pipe.until("failed", "both")["error"]["message"]
    assert pipe.until("done", "after")
    statuses = [note["params"] for note in pipe.notes if note["method"] == "status"]
    assert all(len(status["adapters"]) <= 1 for status in statuses)
