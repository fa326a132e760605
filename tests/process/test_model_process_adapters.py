"""Adapters in a real model process: 21 through a cache of 20, weights and blends, wrong files, prefetch beside running requests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.inference.adapter_files import adapter_digest, file_marks
from tests.support.model_pipe import Pipe
from tests.support.tiny_model import tiny_config, write_adapter, write_model

NAMES = itertools.count()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_model(tmp_path / "model"))


def adapters(folder: Path, count: int) -> list[dict[str, Any]]:
    """Adapters as the engine hands them over."""
    files = []
    for number in range(count):
        path = write_adapter(folder / f"a{number}", seed=number, scale=0.5)
        marks = file_marks(path)
        files.append({"name": f"a{number}", "path": str(path), "digest": adapter_digest(path), "marks": marks})
    return files


def write(pipe: Pipe, *used: dict[str, Any], tokens: int = 12, weights: tuple[float, ...] = ()) -> str:
    """The text of one greedy request."""
    name = f"r{next(NAMES)}"
    weighted = [file | {"weight": w} for file, w in zip(used, weights or [1.0] * len(used), strict=True)]
    asked = pipe.ask("generate", id=name, prompt="abc", adapters=weighted, sampling={"max_tokens": tokens})
    assert asked == {"tokens_in": 3, "prompt": "abc"}
    return pipe.text(name)


def test_21_adapters_through_a_cache_of_20(pipe: Pipe, model: str, tmp_path: Path) -> None:
    files = adapters(tmp_path, 21)
    pipe.ask("load", model=model, slots=2)
    texts = [write(pipe, file) for file in files]
    assert len(set(texts)) > 15  # random adapters make different texts, nearly always
    digests = [file["digest"] for file in files]
    note = pipe.status(lambda status: status["cache"]["misses"] == 21 and not status["active"])["cache"]
    states = {entry["digest"]: entry for entry in note["adapters"]}
    assert (note["hits"], note["misses"], note["evictions"], note["loads"]) == (0, 21, 1, 21)
    assert [d for d in digests if states[d]["state"] == "absent"] == [digests[0]]  # the oldest
    assert states[digests[0]]["evictions"] == 1
    assert note["resident_bytes"] == sum(e["size_bytes"] for e in states.values() if e["state"] == "resident")
    assert [(n["digest"], n["cause"]) for n in pipe.told("adapter") if n["event"] == "evicted"] == [
        (digests[0], "room")
    ]
    assert write(pipe, files[1]) == texts[1]  # a hit, and used: so it is not the next to leave
    assert write(pipe, files[0]) == texts[0]
    note = pipe.status(lambda status: status["cache"]["misses"] == 22 and not status["active"])["cache"]
    assert (note["hits"], note["evictions"]) == (1, 2)
    assert [n["digest"] for n in pipe.told("adapter") if n["event"] == "evicted"] == [digests[0], digests[2]]
    loaded = [n for n in pipe.told("adapter") if n["event"] == "loaded"]
    assert len(loaded) == 22
    assert all(n["ms"] > 0 and n["size_bytes"] > 0 and n["cause"] == "request" for n in loaded)
    assert note["load_ms"] == pytest.approx(sum(n["ms"] for n in loaded))
    memory = pipe.ask("memory")
    assert memory["adapters_bytes"] == note["resident_bytes"]


def test_an_adapter_in_use_never_leaves(pipe: Pipe, model: str, tmp_path: Path) -> None:
    files = adapters(tmp_path, 6)
    pipe.ask("load", model=model, slots=3, adapter_slots=2)
    pipe.ask("generate", id="long", prompt="abc", adapters=files[:1], sampling={"max_tokens": 120})
    for number, file in enumerate(files[1:] * 3):
        pipe.ask("generate", id=f"short{number}", prompt="abc", adapters=[file], sampling={"max_tokens": 2})
    for number in range(15):
        assert pipe.until("done", f"short{number}")
    left = pipe.until("done", "long")["tokens_out"]
    assert left == 120
    order = [n["params"].get("digest") or n["params"]["id"] for n in pipe.notes if n["method"] in ("adapter", "done")]
    gone = [n["digest"] for n in pipe.told("adapter") if n["event"] == "evicted"]
    assert len(gone) >= 5
    if files[0]["digest"] in gone:  # only after its request had ended
        assert order.index("long") < len(order) - order[::-1].index(files[0]["digest"]) - 1
    for status in pipe.told("status"):
        assert sum(e["state"] in ("resident", "pinned", "uploading") for e in status["cache"]["adapters"]) <= 2


def test_weights_and_blends_take_effect(pipe: Pipe, model: str, tmp_path: Path) -> None:
    one, two = adapters(tmp_path, 2)
    pipe.ask("load", model=model, slots=2)
    base = write(pipe, tokens=24)
    texts = {
        "one": write(pipe, one, tokens=24),
        "half": write(pipe, one, weights=(0.5,), tokens=24),
        "two": write(pipe, two, tokens=24),
        "both": write(pipe, one, two, tokens=24),
        "blend": write(pipe, one, two, weights=(0.5, 0.25), tokens=24),
    }
    assert len({base, *texts.values()}) == 6
    assert write(pipe, one, weights=(0.0,), tokens=24) == base
    assert write(pipe, one, two, weights=(0.0, 1.0), tokens=24) == texts["two"]
    assert write(pipe, two, one, tokens=24) == texts["both"]  # a sum has no order
    assert write(pipe, two, one, weights=(0.25, 0.5), tokens=24) == texts["blend"]
    done = pipe.told("done")[-1]
    assert done["adapters"] == [
        {"name": file["name"], "digest": file["digest"], "weight": weight} for file, weight in ((two, 0.25), (one, 0.5))
    ]


def test_wrong_and_damaged_adapters_are_refused_by_name_and_never_answered_as_base(
    pipe: Pipe, model: str, tmp_path: Path
) -> None:
    missing = {"name": "lost", "path": str(tmp_path / "nowhere"), "digest": "0" * 64}
    cut, swapped, fine = adapters(tmp_path, 3)
    weights = Path(cut["path"], "adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    write_adapter(Path(swapped["path"]), seed=77)  # other content than its digest says
    wide = write_adapter(tmp_path / "of-another-model", tiny_config(hidden_size=64))
    other = {"name": "of-another-model", "path": str(wide), "digest": adapter_digest(wide)}
    pipe.ask("load", model=model, slots=4)
    for file, code, word in (
        (missing, "adapter_not_found", "nowhere"),
        (cut, "adapter_invalid", "a0"),
        (swapped, "adapter_invalid", "changed on disk"),
        (other, "adapter_invalid", "for this model it must be"),
    ):
        pipe.ask("generate", id=file["name"], prompt="abc", adapters=[fine, file])
        error = pipe.until("failed", file["name"])["error"]
        assert (error["code"], error["field"]) == (code, "adapters")
        assert word in error["message"]
        assert file["name"] in error["message"]
        assert [n["name"] for n in pipe.told("adapter") if n["event"] == "refused"][-1] == file["name"]
        assert pipe.ask("prefetch", adapters=[file])["code"] == code
    assert not [note for note in pipe.told("delta") if note["id"] != "fine"]
    assert write(pipe, fine)


GATED = """
import sys, time
from pathlib import Path
from engine.inference import process
from engine.inference.backends.reference.backend import ReferenceBackend
stage = ReferenceBackend.stage
def slow(self, ref):
    while not Path({gate!r}).exists():
        time.sleep(0.005)
    return stage(self, ref)
ReferenceBackend.stage = slow
process.main()
"""


def test_loading_stops_nobody(model: str, tmp_path: Path) -> None:
    """While an adapter's files are read, for a request and for a prefetch, others are admitted, run, and are cancelled."""
    gate = tmp_path / "gate"
    pipe = Pipe(GATED.format(gate=str(gate)))
    cold, ahead, unwanted = adapters(tmp_path, 3)
    pipe.ask("load", model=model, slots=3)
    pipe.ask("generate", id="cold", prompt="abc", adapters=[cold], sampling={"max_tokens": 8})
    prefetch = pipe.send("prefetch", adapters=[ahead])
    pipe.ask("generate", id="unwanted", prompt="abc", adapters=[unwanted])
    assert len(write(pipe, tokens=100)) > 0  # from its arrival to its end
    assert pipe.ask("cancel", id="unwanted") == {"cancelled": True}
    status = pipe.status(lambda status: status["active"] == 0 and status["waiting"] == 1)
    states = {entry["name"]: entry["state"] for entry in status["cache"]["adapters"]}
    assert states == {"a0": "reading", "a1": "reading", "a2": "absent"}
    gate.touch()
    assert pipe.text("cold")
    assert pipe.answer(prefetch) == {"ready": [ahead["digest"]], "staged": []}
    assert write(pipe, ahead)
    note = pipe.status(lambda status: status["cache"]["hits"] == 1 and not status["active"])["cache"]
    assert (note["prefetch_hits"], note["misses"], note["loads"]) == (1, 1, 2)
    pipe.close()


def test_keep_and_evict(pipe: Pipe, model: str, tmp_path: Path) -> None:
    files = adapters(tmp_path, 4)
    digests = [file["digest"] for file in files]
    pipe.ask("load", model=model, slots=1, adapter_slots=2)
    assert pipe.ask("prefetch", adapters=files[:1], keep=True) == {"ready": digests[:1], "staged": []}
    assert pipe.ask("prefetch", adapters=files[1:2], keep=True)["code"] == "bad_request"
    for file in files[1:]:
        write(pipe, file)
    status = pipe.status(lambda status: status["cache"]["misses"] == 3 and not status["active"])
    assert status["adapters"] == [digests[0], digests[3]]
    assert pipe.ask("evict", digests=[digests[0], digests[1]]) == {"evicted": [digests[0]], "in_use": []}
    assert [(n["cause"], n["name"]) for n in pipe.told("adapter") if n["event"] == "evicted"][-1] == ("asked", "a0")


def test_what_is_not_there_yet_is_prefetched_as_far_as_there_is_room(pipe: Pipe, model: str, tmp_path: Path) -> None:
    files = adapters(tmp_path, 3)
    digests = [file["digest"] for file in files]
    pipe.ask("load", model=model, slots=1, adapter_slots=1)
    assert pipe.ask("prefetch", adapters=files) == {"ready": digests[:1], "staged": digests[1:]}
    assert pipe.ask("memory")["staged_bytes"] > 0
    assert pipe.ask("prefetch", adapters=files[1:2], next=True) == {"ready": digests[1:2], "staged": []}
    assert write(pipe, files[1])
    note = pipe.status(lambda status: status["cache"]["hits"] == 1 and not status["active"])["cache"]
    assert (note["prefetch_hits"], note["wasted"], note["evictions"]) == (1, 1, 1)


def test_a_backend_that_cannot_be_had_is_an_answer(pipe: Pipe, model: str) -> None:
    refused = pipe.ask("load", model=model, slots=1, backend="openai")
    assert (refused["code"], refused["field"]) == ("backend_unavailable", "backend")
    assert pipe.ask("load", model=model, slots=1)["where"] == "CPU"
    shares = [note["share"] for note in pipe.told("progress") if note["doing"] == "reading the weights"]
    assert shares == [0.0, 0.5]
    assert write(pipe)
