"""`aiwm model` and `aiwm try` on the command line: what is typed, as a request; what is answered, as text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiwm_tui.cli.model_changing import cache_field, field_value
from aiwm_tui.typed import size_bytes
from engine.contract.definitions import Backend, KvPrecision, ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests import models
from tests.support.cli import EVIL, Run
from tests.support.fake_engine import FakeEngine

DEFINITION = ModelDefinition(name="qwen14", path="/m/qwen14", slots=4, context=8192)
VERDICT = models.Verdict(
    path="/m/qwen14",
    name="qwen14",
    kind="EXL2",
    quant="5 bpw",
    state="usable",
    architecture="Qwen2ForCausalLM",
    parameters=14_000_000_000,
    weights_bytes=9 * 2**30,
    kv_bytes=6 * 2**30,
    scratch_bytes=2**30,
    needs_bytes=16 * 2**30,
    context=8192,
    slots=4,
    runs_with="exllamav2",
    fits=("GPU0",),
    ways=(models.Way(runs_with="reference", usable=False, why="quantised weights (exl2)"),),
    template="ok",
    sample="<|im_start|>user\nAnd 3+3?",
)
ADDED = models.Added(definition=DEFINITION, made=("worker qwen14", "queue qwen14"), verdict=VERDICT)


@pytest.mark.parametrize(
    ("field", "value", "becomes"),
    [
        ("slots", "4", {"slots": 4}),
        ("context", "16k", {"context": 16384}),
        ("ctx", "8192", {"context": 8192}),
        ("kv", "q8", {"kv": KvPrecision.q8}),
        ("kv", "4G", {"kv_bytes": 4 * 2**30}),
        ("memory", "1.5g", {"memory_bytes": 3 * 2**29}),
        ("adapter-bytes", "500M", {"adapter_bytes": 500 * 2**20}),
        ("idle", "15m", {"idle_ms": 900_000}),
        ("idle", "never", {"idle_ms": -1}),
        ("devices", "0,1", {"devices": [0, 1]}),
        ("split", "10.5,20", {"split": [10.5, 20.0]}),
        ("command", "srv -m '{path}' --port {port}", {"command": ["srv", "-m", "{path}", "--port", "{port}"]}),
        ("route", "a,openai/b", {"route": ["a", "openai/b"]}),
        ("description", "4G of it", {"description": "4G of it"}),
        ("metadata", '{"a": 1}', {"metadata": {"a": 1}}),
    ],
)
def test_a_field_is_typed_as_people_write_it(field: str, value: str, becomes: dict[str, Any]) -> None:
    assert field_value(field, value) == becomes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slotz", "4"),
        ("name", "x"),
        ("slots", "many"),
        ("kv", "q5"),
        ("devices", "a"),
        ("memory", "-4G"),
        ("idle", "x"),
    ],
)
def test_what_is_no_field_or_no_value_is_named(field: str, value: str) -> None:
    with pytest.raises(AiwmError) as caught:
        field_value(field, value)
    assert caught.value.code == Code.bad_request


def test_sizes_and_caches() -> None:
    assert size_bytes("16k", "--context") == 16384
    assert size_bytes("2.5GB", "--memory") == 5 * 2**29
    assert cache_field("") == {}


def test_adding_sends_an_absolute_path_and_what_was_typed(engine: FakeEngine, aiwm: Run, tmp_path: Path) -> None:
    engine.answers |= {"model.check": [VERDICT], "model.add": ADDED}
    here = os.path.relpath(tmp_path)
    ran = aiwm(
        "model", "add", here, "--name", "q", "--slots", "2", "--kv", "4G", "--devices", "0,1", "--memory", "30G",
        "--idle", "15m", "--key", "k", "--bare", "--anyway",
    )  # fmt: skip
    assert ran.code == 0
    assert engine.params("model.check") == {"path": str(tmp_path), "slots": 2}
    assert engine.params("model.add") == {
        "path": "/m/qwen14",
        "name": "q",
        "slots": 2,
        "kv_bytes": 4 * 2**30,
        "devices": [0, 1],
        "memory_bytes": 30 * 2**30,
        "idle_ms": 900_000,
        "key": "k",
        "bare": True,
        "anyway": True,
    }
    assert "qwen14  EXL2 5 bpw · Qwen2ForCausalLM · 14.0 billion parameters" in ran.out
    assert "needs 16.0G for 4 requests of 8,192 tokens: weights 9.0G, KV 6.0G, the rest 1.0G" in ran.out
    assert "not reference: quantised weights (exl2)" in ran.out
    assert "    │ And 3+3?" in ran.out
    assert "made model qwen14, worker qwen14, queue qwen14" in ran.out


def test_several_models_are_a_table_and_are_added_only_with_all(engine: FakeEngine, aiwm: Run) -> None:
    broken = models.Verdict(path="/m/cut", name="cut", kind="GGUF", state="damaged", why="cut.gguf: cut short")
    engine.answers |= {"model.check": [VERDICT, broken], "model.add": ADDED}
    listed = aiwm("model", "add", "/m")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["NAME", "qwen14", "cut"]
    assert "nothing was added" in listed.err
    assert not [asked for asked, _ in engine.asked if asked == "model.add"]
    added = aiwm("model", "add", "/m", "--all", "--json")
    assert [it["definition"]["name"] for it in added.json["data"]] == ["qwen14"]
    assert engine.params("model.add")["path"] == "/m/qwen14"


def test_an_address_and_a_command_are_sent_as_such(engine: FakeEngine, aiwm: Run) -> None:
    engine.answers |= {"model.add": ADDED}
    aiwm("model", "add", "http://127.0.0.1:8080", "--remote", "a")
    assert engine.params("model.add") == {"url": "http://127.0.0.1:8080", "remote": "a"}
    aiwm("model", "add", "--name", "x", "--command", "srv -m '/a b' --port {port}")
    assert engine.params("model.add") == {"name": "x", "command": ["srv", "-m", "/a b", "--port", "{port}"]}
    assert aiwm("model", "add", "--name", "x", "--command", "srv 'open").code == 2


def test_the_configuration_of_llama_swap_is_sent_as_text(engine: FakeEngine, aiwm: Run, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("models: {}")
    refused = models.NotImported(name="fixed", why=f"its cmd has no ${{PORT}}{EVIL}")
    engine.answers |= {"model.import": models.ImportedModels(added=(ADDED,), refused=(refused,))}
    ran = aiwm("model", "add", "--llama-swap", str(file))
    assert ran.code == 1
    assert engine.params("model.import") == {"text": "models: {}"}
    assert "not taken over: fixed: its cmd has no ${PORT}" in ran.err
    assert "\x1b" not in ran.out + ran.err


def test_fields_are_set_and_cleared(engine: FakeEngine, aiwm: Run) -> None:
    engine.answers |= {"model.set": models.ModelDetail(definition=DEFINITION, origin="added", workers=("qwen14",))}
    ran = aiwm("model", "set", "qwen14", "kv=q8", "idle=", "context=8k")
    assert engine.params("model.set") == {
        "name": "qwen14",
        "changes": {"kv": "q8", "context": 8192},
        "clear": ["idle_ms"],
    }
    assert "origin   added" in ran.out
    assert "queues   – (aiwm try qwen14 makes one)" in ran.out
    assert aiwm("model", "set", "qwen14", "slotz=3").err.strip().endswith('(did you mean "slots"?)')
    assert aiwm("model", "set", "qwen14", "slots").code == 2


def test_removing_asks_first_and_says_what_goes(engine: FakeEngine, aiwm: Run) -> None:
    engine.answers |= {"model.remove": models.Removed(name="q", gone=("queue q", "pool q"))}
    assert aiwm("model", "remove", "q").code == 5
    assert engine.params("model.remove") == {"name": "q", "dry_run": True}
    dry = aiwm("model", "remove", "q", "--dry-run", "--json")
    assert dry.json["data"]["ids"] == ["model q", "queue q", "pool q"]
    assert aiwm("model", "remove", "q", "--yes").out == "- model q\n- queue q\n- pool q\n"
    assert engine.params("model.remove") == {"name": "q"}


def test_what_is_here_is_shown_with_the_command_that_uses_it(engine: FakeEngine, aiwm: Run) -> None:
    server = models.FoundServer(url="http://127.0.0.1:8080/v1", program="llama-swap", models=("a", f"b{EVIL}"))
    locked = models.FoundServer(url="http://127.0.0.1:5000/v1", program="TabbyAPI", needs_key=True)
    found = models.Detected(
        servers=(server, locked),
        directories=(models.FoundDirectory(path="/home/a/models", models=11),),
        programs=("llama-server /usr/bin/llama-server",),
    )
    engine.answers |= {"model.detect": found}
    ran = aiwm("model", "detect")
    assert "llama-swap at http://127.0.0.1:8080/v1 · 2 models: a, b" in ran.out
    assert "aiwm model add http://127.0.0.1:8080/v1" in ran.out
    assert "TabbyAPI at http://127.0.0.1:5000/v1 · needs a key" in ran.out
    assert "/home/a/models · 11 models · aiwm model check /home/a/models" in ran.out
    assert "\x1b" not in ran.out
    one = models.FoundServer(url="http://127.0.0.1:8080/v1", program="vLLM", models=("a",))
    engine.answers |= {"model.detect": models.Detected(servers=(one,))}
    assert "· 1 model: a" in aiwm("model", "detect").out
    engine.answers |= {"model.detect": models.Detected()}
    assert "no servers on the known ports" in aiwm("model", "detect").out


@pytest.mark.parametrize(
    ("typed", "sent"),
    [("nano", "nano"), ("openai/gpt-4o", "openai/gpt-4o"), ("http://h:1", "http://h:1"), ("/m/a", "/m/a")],
)
def test_trying_names_a_model_as_the_engine_knows_it(engine: FakeEngine, aiwm: Run, typed: str, sent: str) -> None:
    def no_such(_: dict[str, Any]) -> Any:
        raise AiwmError(Code.model_not_found, "no such model", field="model")

    engine.answers |= {"model.offer": no_such}
    assert aiwm("try", typed, "hello").code == 1
    assert engine.params("model.offer")["model"] == sent


def test_never_and_damage_are_said_once_and_in_words(engine: FakeEngine, aiwm: Run) -> None:
    damage = ("a.gguf: cut short", "b.gguf: is missing")
    broken = models.Verdict(
        path="/m", name="m", kind="GGUF", state="damaged", why=f"{damage[0]} (and 1 more)", damaged=damage
    )
    definition = msgspec.structs.replace(DEFINITION, idle_ms=-1)
    engine.answers |= {"model.show": models.ModelDetail(definition=definition, origin="added", verdict=broken)}
    lines = aiwm("model", "show", "qwen14").out.splitlines()
    assert ["idle", "never"] in [line.split() for line in lines]
    assert [line.strip() for line in lines if "gguf" in line] == [
        "damaged: a.gguf: cut short (and 1 more)",
        "damaged: b.gguf: is missing",
    ]


def test_an_empty_cache_goes_back_to_the_default_size_and_kind(engine: FakeEngine, aiwm: Run) -> None:
    engine.answers |= {"model.set": models.ModelDetail(definition=DEFINITION, origin="added")}
    aiwm("model", "set", "m", "kv=")
    assert engine.params("model.set")["clear"] == ["kv", "kv_bytes"]


def test_trying_a_relative_path_makes_it_absolute(engine: FakeEngine, aiwm: Run) -> None:
    engine.answers |= {"model.offer": lambda _: models.Offered(model="m", queue="q")}
    aiwm("try", "./m.gguf", "hello")
    assert engine.params("model.offer")["model"] == os.path.abspath("m.gguf")
    assert engine.params("task.submit") == {"queue": "q", "payload": {"prompt": "hello"}}
    assert aiwm("try", "m", " ").code == 2


def test_how_a_model_is_run_is_one_line(engine: FakeEngine, aiwm: Run) -> None:
    adopted = ModelDefinition(name="m", backend=Backend.command, url="http://127.0.0.1:1/v1", remote="org/m")
    engine.answers |= {"model.add": models.Added(definition=adopted, existed=True)}
    ran = aiwm("model", "add", "http://127.0.0.1:1")
    assert "m: looked at, not started: http://127.0.0.1:1/v1 as org/m" in ran.out
    assert "is known already; nothing was changed" in ran.out
