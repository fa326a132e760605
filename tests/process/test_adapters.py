"""Adapters by shell commands against a real engine: versions, rolling back, what made an answer, one prompt under several."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.client import connect_blocking
from engine.contract.errors import AiwmError
from engine.contract.records import AdapterRow
from engine.contract.requests.adapters import AdapterList, AdapterStats
from engine.contract.requests.comparisons import TaskPrompt
from engine.contract.requests.tasks import TaskSubmit, TaskWait
from engine.inference.adapter_files import adapter_digest
from tests.support.engines import Engine, engine, wait_until
from tests.support.shell import shell
from tests.support.tiny_model import write_adapter

SHIPPED = Path(__file__).parents[2] / "engine" / "inference" / "shipped"
NANO = json.loads((SHIPPED / "aiwm-nano" / "config.json").read_text())


@pytest.fixture
def running(home: Path) -> Iterator[Engine]:
    with engine(home) as one:
        yield one


def _random(path: Path, seed: int) -> Path:
    """An adapter for the shipped model that says something else, whatever it is asked."""
    return write_adapter(path, NANO, seed=seed, scale=0.2, base_model_name_or_path="aiwm-nano")


def _rows(home: Path, where: str = "") -> dict[str, AdapterRow]:
    with connect_blocking(home, spawn=False) as client:
        return {row.id: row for row in client.call(AdapterList(where=where))}


def test_a_directory_that_is_dropped_in_appears_and_a_broken_one_is_reported_by_name(
    running: Engine, home: Path
) -> None:
    assert set(_rows(home)) == {"house-words@v1", "ticket-labels@v1"}
    _random(home / "adapters" / "tone", 1)
    broken = write_adapter(home / "adapters" / "legal-xl", NANO, use_dora=True)
    wide = write_adapter(home / "adapters" / "wide", {**NANO, "hidden_size": 512}, base_model_name_or_path="aiwm-nano")
    rows = _rows(home)
    tone, legal, wrong = rows["tone@v1"], rows["legal-xl@v1"], rows["wide@v1"]
    assert (tone.state, tone.current, tone.base) == ("absent", True, "aiwm-nano")
    assert legal.state == wrong.state == "refused"
    assert legal.note.startswith("uses DoRA (use_dora)")
    assert legal.path == str(broken)
    assert "another model" in wrong.note
    listed = shell(home, "adapter", "list", "state:refused", "--json").json["data"]
    assert {row["id"] for row in listed} == {"legal-xl@v1", "wide@v1"}
    view = shell(home, "view", ":adapters state:refused sort:name", "--json").json
    assert [row["id"] for row in view["data"]] == ["legal-xl@v1", "wide@v1"]
    detail = shell(home, "adapter", "inspect", "legal-xl@v1", "--json").json["data"]
    assert detail["problem"]["code"] == "adapter_unsupported"
    shutil.rmtree(wide)
    assert "is gone" in _rows(home)["wide@v1"].note
    assert shell(home, "adapter", "remove", "wide@v1", "--json").json["data"] == {"name": "wide@v1", "path": str(wide)}
    assert "wide@v1" not in _rows(home)


def test_job_5_roll_back_an_adapter(running: Engine, home: Path, tmp_path: Path) -> None:
    for n in (1, 2, 3):
        run = _random(tmp_path / "runs" / f"a-{n}", n)
        parent = ("--parent", f"invoice-de@v{n - 1}") if n > 1 else ()
        assert (
            shell(home, "adapter", "add", str(run), "--name", "invoice-de", *parent).out.strip() == f"invoice-de@v{n}"
        )
    shell(home, "adapter", "use", "invoice-de@v3", "--reason", "the newest")
    again = shell(home, "adapter", "use", "invoice-de", "--json").json["data"]
    assert (again["operation"], again["after"]) == ("", "invoice-de@v3")
    assert "--weight" in shell(home, "adapter", "pin", "nano", "invoice-de", "--weight", "nan", code=2).err
    shell(home, "adapter", "pin", "nano", "invoice-de", "--weight", "0.5")
    with running.client() as client:
        task = client.call(TaskSubmit(queue="demo", payload={"prompt": "What is 2+3?", "max_tokens": 8})).id
        client.call(TaskWait(ids=(task,), timeout_ms=60_000))
    (used,) = shell(home, "task", "show", task, "--json").json["data"]["result"]["adapters"]
    assert used == {
        "name": "invoice-de@v3",
        "digest": adapter_digest(tmp_path / "runs" / "a-3"),
        "weight": 0.5,
    }
    versions = shell(home, "adapter", "versions", "invoice-de", "--json").json["data"]
    assert [(it["version"], it["current"], it["parent"], it["tasks"]) for it in versions] == [
        (3, True, "invoice-de@v2", 1),
        (2, False, "invoice-de@v1", 0),
        (1, False, "", 0),
    ]
    back = shell(home, "adapter", "use", "invoice-de@v2", "--reason", "loops", "--json").json["data"]
    assert (back["before"], back["after"]) == ("invoice-de@v3", "invoice-de@v2")
    assert shell(home, "view", ":tasks adapter:invoice-de@v3 state:processing", "--json").json["total"] == 0
    assert shell(home, "view", ":tasks adapter:invoice-de@v3", "--json").json["total"] == 1
    (reign,) = shell(home, "adapter", "versions", "invoice-de", "--json").json["data"][1]["reigns"]
    assert (reign["reason"], reign["to_ms"]) == ("loops", None)
    events = shell(home, "events", "search", "type:adapter.current", "--json").json["data"]
    assert events[0]["text"] == "v3 → v2 (loops)"
    shell(home, "undo", back["operation"])
    assert _rows(home)["invoice-de@v3"].current
    shell(home, "undo", back["operation"], code=1)
    # Not before it is due, and then not at all.
    later = shell(home, "adapter", "use", "invoice-de@v1", "--delay", "1h", "--json").json["data"]
    assert later["due_ms"]
    assert _rows(home)["invoice-de@v3"].current
    shell(home, "undo", later["operation"])
    # Somebody else has gone on meanwhile: taking the first back would undo theirs.
    first = shell(home, "adapter", "use", "invoice-de@v1", "--json").json["data"]
    shell(home, "adapter", "use", "invoice-de@v2")
    assert "invoice-de is v2 by now" in shell(home, "undo", first["operation"], code=1).err


def test_the_choice_outlives_the_engine(home: Path) -> None:
    with engine(home) as first:
        for n in (1, 2):
            _random(home / "adapters" / f"tone@v{n}", n)
        shell(home, "adapter", "use", "tone@v2")
        shell(home, "adapter", "pin", "nano", "tone@v1")
        first.kill()
    with engine(home):
        rows = _rows(home)
        assert rows["tone@v2"].current
        assert rows["tone@v1"].pinned == ("nano",)
        pinned = shell(home, "operation", "list", "--json").json["data"]
        assert [it["request"] for it in pinned] == ["adapter.pin", "adapter.use"]
        shell(home, "undo", pinned[0]["id"])
        assert _rows(home)["tone@v1"].pinned == ()


def test_job_7_what_made_this_answer_and_is_it_the_adapter(running: Engine, home: Path) -> None:
    for n in (3, 4):
        _random(home / "adapters" / f"invoice-de@v{n}", n)
    payload = {"prompt": "What is 2+3?", "max_tokens": 8, "adapters": [{"name": "invoice-de@v3"}], "seed": 7}
    with running.client() as client:
        task = client.call(TaskSubmit(queue="demo", payload=payload)).id
        client.call(TaskWait(ids=(task,), timeout_ms=60_000))
    wrote = shell(home, "task", "show", task, "--json").json["data"]["result"]["text"]
    both = shell(home, "task", "show", task, "--prompt", "--context", "--jsonl").out
    prompt, context = map(json.loads, both.splitlines())
    assert (prompt["kind"], context["kind"]) == ("prompt", "context")
    assert prompt["data"]["kept"]
    # As the model read it: the chat template's marks around what was asked.
    assert prompt["data"]["text"] != payload["prompt"]
    assert payload["prompt"] in prompt["data"]["text"]
    with running.client() as client:
        waiting = client.call(TaskSubmit(queue="demo", payload=payload, due_ms=2**42)).id
        with pytest.raises(AiwmError, match="has not run yet"):
            client.call(TaskPrompt(id=waiting))
        echo = client.call(TaskSubmit(queue="echo")).id
        client.call(TaskWait(ids=(echo,), timeout_ms=60_000))
        with pytest.raises(AiwmError, match="reads no prompt"):
            client.call(TaskPrompt(id=echo))
    compare = ("task", "compare", task, "--adapters", "base,invoice-de@v3,invoice-de@v4", "--seed", "same")
    found = shell(home, *compare, "--json").json["data"]
    assert (found["about"], found["seed"], found["kept"], found["prompt"]) == (task, 7, True, prompt["data"]["text"])
    base, third, fourth = found["answers"]
    assert [it["label"] for it in found["answers"]] == ["base", "invoice-de@v3", "invoice-de@v4"]
    assert all(it["same_prompt"] and it["error"] is None for it in found["answers"]), found
    assert third["text"] == wrote == found["original"]
    assert len({base["text"], third["text"], fourth["text"]}) == 3
    assert base["adapters"] == []
    assert third["adapters"][0]["digest"] == adapter_digest(home / "adapters" / "invoice-de@v3")
    page = shell(home, *compare).out
    assert "invoice-de@v4 │" not in page.splitlines()[0]
    assert "words differ" in page
    # The task itself stays as it is.
    assert shell(home, "task", "show", task, "--json").json["data"]["row"]["attempt"] == 1
    assert shell(home, "task", "compare", task, "--adapters", "invoice-de@v9", code=1).err


def test_base_whole_half_and_blended_are_four_answers_with_digests(running: Engine, home: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        _random(home / "adapters" / name, seed)
    names = ("base", "one,one:0.5", "one+two")
    found = shell(home, "adapter", "compare", *names, "--prompt", "What is 2+3?", "--max-tokens", "16", "--json").json[
        "data"
    ]
    texts = [answer["text"] for answer in found["answers"]]
    assert len(set(texts)) == 4
    digests = {name: adapter_digest(home / "adapters" / name) for name in ("one", "two")}
    assert [[(it["name"], it["digest"], it["weight"]) for it in answer["adapters"]] for answer in found["answers"]] == [
        [],
        [("one@v1", digests["one"], 1.0)],
        [("one@v1", digests["one"], 0.5)],
        [("one@v1", digests["one"], 1.0), ("two@v1", digests["two"], 1.0)],
    ]
    # By tasks too: text, digests and weights are in the record.
    with running.client() as client:
        payload = {"prompt": "What is 2+3?", "max_tokens": 16, "adapters": [{"name": "one"}, {"name": "two"}]}
        task = client.call(TaskSubmit(queue="demo", payload=payload)).id
        client.call(TaskWait(ids=(task,), timeout_ms=60_000))
    detail = shell(home, "task", "show", task, "--json").json["data"]
    assert detail["result"]["text"] == texts[3]
    assert [it["digest"] for it in detail["result"]["adapters"]] == [digests["one"], digests["two"]]
    assert detail["row"]["adapter"] == "one@v1,two@v1"
    weights = shell(
        home, "adapter", "compare", "one", "--weights", "0,0.5,1", "--prompt", "What is 2+3?", "--max-tokens", "16",
        "--json",
    ).json["data"]  # fmt: skip
    assert [answer["text"] for answer in weights["answers"]] == [texts[0], texts[2], texts[1]]


def test_adapters_are_brought_kept_and_dropped_and_the_counters_say_so(running: Engine, home: Path) -> None:
    for n in range(21):
        _random(home / "adapters" / f"a{n:02}", n)
    assert shell(home, "adapter", "prefetch", "a00", "--model", "nowhere", "--json", code=1).error["code"] == (
        "model_not_found"
    )
    names = [f"a{n:02}" for n in range(20)]
    shell(home, "model", "load", "aiwm-nano")
    kept = shell(home, "adapter", "prefetch", "a00", "--keep", "--json").json["data"]
    assert [it["ready"] for it in kept] == [True]
    assert all(it["ready"] for it in shell(home, "adapter", "prefetch", *names, "--json").json["data"])
    with running.client() as client:
        payload = {"prompt": "hi", "max_tokens": 2, "adapters": [{"name": "a20"}]}
        client.call(TaskWait(ids=(client.call(TaskSubmit(queue="demo", payload=payload)).id,), timeout_ms=60_000))

        wait_until(lambda: client.call(AdapterStats())[0].evictions == 1, "the 21st evicts one")
    (cache,) = shell(home, "adapter", "stats", "--json").json["data"]
    assert (cache["entries"], cache["max_entries"], cache["misses"], cache["loads"]) == (20, 20, 1, 21)
    rows = _rows(home)
    # The oldest is kept, so the one after it went.
    assert rows["a00@v1"].state == "resident"
    assert "kept in" in rows["a00@v1"].note
    assert rows["a01@v1"].state == "absent"
    assert (rows["a20@v1"].misses, rows["a01@v1"].evictions) == (1, 1)
    gone = shell(home, "adapter", "evict", "a00", "a01", "--json").json["data"]
    assert [(it["evicted"], it["in_use"]) for it in gone] == [(True, False), (False, False)]
    wait_until(lambda: _rows(home)["a00@v1"].state == "absent", "it is seen to be gone")
