"""The book of models and the requests about it: what is added stays, comes with what prompts need, and goes with it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.definitions import (
    Backend,
    DefinitionStatus,
    KvPrecision,
    ModelDefinition,
    PoolDefinition,
    QueueDefinition,
    WorkerDefinition,
)
from engine.contract.errors import AiwmError
from engine.contract.requests import models as requests
from engine.contract.requests.definitions import QueueDelete
from engine.contract.requests.fleet import PoolCreate, QueueCreate, QueuePause, WorkerReload
from engine.contract.states import Durability
from engine.control.offering import made_for
from engine.inference.models.book import ModelBook
from engine.inference.models.troubles import troubles
from engine.inference.names import SHIPPED
from engine.requests.caller import Caller
from engine.requests.grants import Grant
from engine.store import ops
from tests.support.model_files import LLAMA_8B, QWEN_GGUF, llama_tensors, write_gguf, write_model
from tests.support.models_house import ModelsHouse

NANO = SHIPPED / "aiwm-nano"
TINY: dict[str, Any] = LLAMA_8B | {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 256,
    "max_position_embeddings": 2048,
}


BARE = "(bare)"


def tiny(path: Path, config: dict[str, Any] | None = None) -> Path:
    """A small model without a chat template: no process has to be started to try it."""
    return write_model(path, TINY | (config or {}), llama_tensors(TINY), template=None)


def bare(tmp_path: Path) -> str:
    """The path of a model that can be run."""
    path = tmp_path / "bare"
    return str(path if path.exists() else tiny(path))


def refused(caught: pytest.ExceptionInfo[AiwmError]) -> tuple[str, str | None]:
    return caught.value.code, caught.value.info.field


async def test_what_lies_in_the_home_and_what_ships_is_known_without_being_added(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        book = house.book
        tiny(house.home / "models" / "mine")
        tiny(house.home / "models" / "packed", {"quantization_config": {"quant_method": "exl2", "bits": 4.0}})
        write_gguf(house.home / "models" / "q.gguf", QWEN_GGUF, {})
        tiny(house.home / "models" / "nobody", {"quantization_config": {"quant_method": "exl3", "bits": 4}})
        assert book.names() == ["aiwm-nano", "mine", "nobody", "packed", "q"]
        assert book.found("aiwm-nano") == (book.find("aiwm-nano"), "shipped")
        assert book.found("mine")[1] == "home"
        own = tiny(house.home / "models" / "aiwm-nano")
        assert (book.find("aiwm-nano").path, book.found("aiwm-nano")[1]) == (str(own), "home")
        assert book.find("packed").backend is Backend.exllamav2
        assert book.find("q").backend is Backend.command
        assert book.find("q").command[1:3] == ("-m", "{path}")
        with pytest.raises(AiwmError) as caught:
            book.find("nobody")
        assert caught.value.code == "model_refused"
        assert list(book.refused()) == ["nobody"]
        assert [it.name for it in book.all()] == ["aiwm-nano", "mine", "packed", "q"]
        # A refusal is not for ever: what was wrong may have been put right.
        weights = house.home / "models" / "mine" / "model.safetensors"
        whole = weights.read_bytes()
        with weights.open("r+b") as file:
            file.truncate(100)
        path = house.home / "models" / "mine" / "config.json"
        path.touch()
        assert "mine" in book.refused()
        with weights.open("r+b") as file:
            file.write(whole)
        house.clock.jump(10_000)
        assert book.find("mine").backend is Backend.reference
        # A changed configuration is looked at again.
        path.write_bytes(msgspec.json.encode(TINY | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
        assert book.find("mine").backend is Backend.exllamav2


async def test_names_alone_may_say_it_all(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        assert house.book.find(str(NANO)).path == str(NANO)
        definition, origin = house.book.found("ollama/llama3:8b")
        assert (origin, definition.backend, definition.remote) == ("implied", Backend.openai, "llama3:8b")
        for name in ("/nowhere/at/all", "nano-aiwm", "../home", ""):
            with pytest.raises(AiwmError) as caught:
                house.book.find(name)
            assert caught.value.code == "model_not_found"
        with pytest.raises(AiwmError) as caught:
            house.book.find("aiwm-nanno")
        assert caught.value.info.fix == 'did you mean "aiwm-nano"?'


async def test_an_added_model_comes_with_what_prompts_need_as_one_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        entries: list[list[str]] = []
        write = house.store.journal.write

        def noted(entry: Sequence[ops.Op], durability: Durability) -> Any:
            entries.append([type(op).__name__ for op in entry])
            return write(entry, durability)

        monkeypatch.setattr(house.store.journal, "write", noted)
        added = await house.call(requests.ModelAdd(path=str(NANO), name="mine"))
        assert added.made == ("worker mine", "pool mine", "queue mine")
        assert added.verdict is not None
        assert (added.verdict.state, added.verdict.template) == ("usable", "ok")
        assert ["PutDefinition"] * 3 + ["PutDocument"] in entries
        catalogue = house.manager.catalogue
        worker = catalogue.worker("mine")
        assert (worker.model, made_for(worker)) == ("mine", "mine")
        assert worker.sampling.max_tokens == 256  # half of the model's 512
        assert catalogue.pool("mine").max_total == 16  # 8 slots in each of 2 processes
        assert catalogue.queue("mine").pools == ("mine",)
        assert house.changed == ["mine"]
        # Again: nothing changes, nothing is refused.
        assert (await house.call(requests.ModelAdd(path=str(NANO), name="mine"))).existed
        # What was stored is what an engine finds that starts on it.
        assert house.read_again().find("mine") == house.book.find("mine")


async def test_a_dry_run_and_a_bare_one_make_less(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        would = await house.call(requests.ModelAdd(path=bare(tmp_path), name="a", dry_run=True))
        assert would.made == ("worker a", "pool a", "queue a")
        assert not house.book.added
        assert "a" not in house.manager.catalogue.workers
        alone = await house.call(requests.ModelAdd(path=bare(tmp_path), name="b", bare=True))
        assert alone.made == ()
        assert set(house.book.added) == {"b"}
        assert "b" not in house.manager.catalogue.workers


async def test_names_that_are_taken_are_not_taken_again(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        await house.call(QueueCreate(definition=QueueDefinition(name="busy")))
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelAdd(path=bare(tmp_path), name="busy"))
        assert refused(caught) == ("conflict", "name")
        assert "--bare" in (caught.value.info.fix or "")
        assert not house.book.added
        await house.call(requests.ModelAdd(path=bare(tmp_path), name="mine"))
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelAdd(path=str(tiny(tmp_path / "other")), name="mine"))
        assert refused(caught) == ("conflict", "name")
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelAdd(path=str(tmp_path / "other"), name="aiwm-nano"))
        assert refused(caught) == ("conflict", "name")


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        ({"path": "relative/path"}, "bad_request", "path"),
        ({"path": "/nowhere"}, "model_not_found", "path"),
        ({}, "bad_request", "path"),
        ({"path": BARE, "url": "http://127.0.0.1:1"}, "bad_request", "path"),
        ({"url": "ftp://host/"}, "bad_request", "url"),
        ({"url": "http://user:secret@host:1"}, "bad_request", "url"),
        ({"url": "http://127.0.0.1:9", "remote": "m"}, "remote_failed", "url"),
        ({"path": BARE, "name": "no/name"}, "bad_request", "name"),
        ({"path": BARE, "slots": -1}, "bad_request", "slots"),
        ({"path": BARE, "slots": 10_000}, "bad_request", "slots"),
        ({"path": BARE, "key": "nokey"}, "key_not_found", "key"),
        ({"path": BARE, "backend": "openai"}, "bad_request", "backend"),
        ({"path": BARE, "health": "http://evil/"}, "bad_request", "health"),
        ({"command": ("srv", "--port", "{port}")}, "bad_request", "name"),
        ({"command": ("srv",), "name": "m"}, "bad_request", "command"),
        ({"route": ("nosuch",), "name": "m"}, "model_not_found", "model"),
        ({"route": ("m",), "name": "m"}, "definition_invalid", "route"),
        ({"route": ("aiwm-nano",), "name": "m", "policy": "perhaps"}, "definition_invalid", "policy"),
    ],
)
async def test_what_cannot_work_is_refused_by_its_field(
    tmp_path: Path, said: dict[str, Any], code: str, field: str
) -> None:
    async with ModelsHouse(tmp_path / "home", keys=("openai",)) as house:
        told = said | ({"path": bare(tmp_path)} if said.get("path") == BARE else {})
        request = msgspec.convert(told, requests.ModelAdd)
        with pytest.raises(AiwmError) as caught:
            await house.call(request)
        assert refused(caught) == (code, field)
        assert "secret" not in str(caught.value)
        assert not house.book.added


async def test_a_model_that_nothing_runs_is_added_only_when_told_so(tmp_path: Path) -> None:
    path = tiny(tmp_path / "big", {"quantization_config": {"quant_method": "exl2", "bits": 4.0}})
    async with ModelsHouse(tmp_path / "home") as house:
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelAdd(path=str(path)))
        assert caught.value.code == "model_refused"
        assert "exllamav2: no GPU" in caught.value.info.message
        added = await house.call(requests.ModelAdd(path=str(path), anyway=True))
        assert added.definition.backend is Backend.exllamav2
        # A command that runs it is an answer, too.
        words = ("srv", "--port", "{port}", "{path}")
        served = await house.call(requests.ModelAdd(path=str(path), name="served", command=words, anyway=True))
        assert (served.definition.backend, served.definition.path) == (Backend.command, str(path))
        (path / "model.safetensors").write_bytes(b"")
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelAdd(path=str(path), name="broken", anyway=True))
        assert caught.value.code == "model_invalid"
        assert "model.safetensors" in caught.value.info.message


async def test_fields_are_changed_and_go_back_to_their_defaults(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        await house.call(requests.ModelAdd(path=bare(tmp_path), name="mine"))
        changes = msgspec.convert({"slots": 4, "kv": "q8", "idle_ms": -1}, requests.ModelChanges)
        detail = await house.call(requests.ModelSet(name="mine", changes=changes))
        assert (detail.definition.slots, detail.definition.kv, detail.definition.idle_ms) == (4, KvPrecision.q8, -1)
        assert (detail.workers, detail.queues) == (("mine",), ("mine",))
        back = await house.call(requests.ModelSet(name="mine", clear=("slots",)))
        assert back.definition.slots == 0
        bad = msgspec.convert({"context": -5}, requests.ModelChanges)
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelSet(name="mine", changes=bad))
        assert refused(caught) == ("bad_request", "context")
        # One that ships becomes one that was added.
        changed = msgspec.convert({"slots": 2}, requests.ModelChanges)
        shipped = await house.call(requests.ModelSet(name="aiwm-nano", changes=changed))
        assert (shipped.origin, shipped.definition.path) == ("added", str(NANO))
        assert house.changed == ["mine", "mine", "mine", "aiwm-nano"]


@pytest.mark.parametrize(
    ("changes", "code", "field", "words"),
    [
        ({"path": "/etc"}, "model_refused", "path", "path is /etc"),
        ({"path": "/nowhere"}, "model_not_found", "path", "/nowhere"),
        ({"memory_bytes": 1}, "model_refused", "memory_bytes", "memory_bytes is 1, "),
    ],
)
async def test_a_change_that_cannot_be_run_is_refused(
    tmp_path: Path, changes: dict[str, Any], code: str, field: str, words: str
) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        before = (await house.call(requests.ModelAdd(path=bare(tmp_path), name="mine"))).definition
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelSet(name="mine", changes=msgspec.convert(changes, requests.ModelChanges)))
        assert refused(caught) == (code, field)
        assert words in caught.value.info.message
        assert caught.value.info.fix
        assert house.book.find("mine") == before
        if field == "memory_bytes":
            with pytest.raises(AiwmError) as caught:
                await house.call(requests.ModelAdd(path=bare(tmp_path), name="other", memory_bytes=1))
            assert refused(caught) == (code, field)
            enough = msgspec.convert({"memory_bytes": 2**40}, requests.ModelChanges)
            assert (await house.call(requests.ModelSet(name="mine", changes=enough))).definition.memory_bytes == 2**40
        else:
            moved = msgspec.convert({"path": str(tiny(tmp_path / "moved"))}, requests.ModelChanges)
            detail = await house.call(requests.ModelSet(name="mine", changes=moved))
            assert detail.definition.path == str(tmp_path / "moved")


@pytest.mark.parametrize("program", ["/nonexistent/server", "aiwm-no-such-program"])
async def test_a_program_that_is_not_there_is_said(tmp_path: Path, program: str) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        words = (program, "--port", "{port}")
        with pytest.raises(AiwmError, match=f"{program} is not ") as caught:
            await house.call(requests.ModelAdd(name="s", command=words))
        assert refused(caught) == ("bad_request", "command")
        await house.call(requests.ModelAdd(name="s", command=(sys.executable, "{port}")))
        changes = msgspec.convert({"command": words}, requests.ModelChanges)
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelSet(name="s", changes=changes))
        assert refused(caught) == ("bad_request", "command")


async def test_changes_at_once_are_made_one_after_the_other(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        words = [ModelDefinition(name=f"m{n % 3}", path=bare(tmp_path), slots=n + 1) for n in range(30)]
        await asyncio.gather(*(house.book.put(it, "operator") for it in words))
        assert {name: it.slots for name, it in house.book.added.items()} == {"m0": 28, "m1": 29, "m2": 30}
        assert dict(house.read_again().added) == dict(house.book.added)
        await house.manager.library.keeping.settled()
        rows = house.store.readers._connection.execute("SELECT type FROM events WHERE type LIKE 'model.%'").fetchall()
        types = [row[0] for row in rows]
        assert (types.count("model.added"), types.count("model.changed")) == (3, 27)


async def test_a_model_goes_with_what_was_made_for_it_and_not_before_it_may(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        await house.call(requests.ModelAdd(path=bare(tmp_path), name="mine"))
        await house.call(QueueCreate(definition=QueueDefinition(name="other", pools=("mine",))))
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelRemove(name="mine"))
        assert "queue other" in caught.value.info.message
        await house.call(QueueDelete(name="other"))
        await house.call(QueuePause(name="mine"))
        await house.submit("mine", prompt="hello")
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelRemove(name="mine"))
        assert "has 1 task that has not ended" in caught.value.info.message
        await house.call(requests.ModelAdd(path=bare(tmp_path), name="second"))
        plan = await house.call(requests.ModelRemove(name="second", dry_run=True))
        assert plan.gone == ("queue second", "pool second", "worker second")
        assert "second" in house.book.added
        assert (await house.call(requests.ModelRemove(name="second"))).gone == plan.gone
        assert "second" not in house.manager.catalogue.workers
        assert "second" not in house.read_again().added
        assert (await house.call(requests.ModelCheck(path=bare(tmp_path))))[0].state == "usable"
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelRemove(name="second"))
        assert caught.value.code == "model_not_found"


async def test_the_file_of_worker_definitions_leaves_what_was_made_alone(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        before = (house.home / "ai_worker_definitions.json").read_bytes()
        await house.call(requests.ModelAdd(path=bare(tmp_path), name="mine"))
        assert (house.home / "ai_worker_definitions.json").read_bytes() == before
        echo = WorkerDefinition(name="echo", kind="template")
        house.write_workers(echo, WorkerDefinition(name="other", kind="template"))
        report = await house.call(WorkerReload())
        assert (report.added, report.removed, report.errors) == (["other"], [], [])
        assert house.manager.catalogue.worker("mine").model == "mine"
        # One of its name in the file takes its place.
        house.write_workers(echo, WorkerDefinition(name="mine", model="mine", system="Be brief."))
        report = await house.call(WorkerReload())
        assert (report.changed, report.removed, report.errors) == (["mine"], ["other"], [])
        assert made_for(house.manager.catalogue.worker("mine")) == ""


async def test_prompts_find_a_queue_or_get_one(tmp_path: Path) -> None:
    async with ModelsHouse(
        tmp_path / "home", WorkerDefinition(name="nano", model="aiwm-nano", system="Rhyme.")
    ) as house:
        offered = await house.call(requests.ModelOffer(model="aiwm-nano"))
        assert offered.queue == "aiwm-nano"  # nano's own workers would rhyme
        assert offered.made == ("worker aiwm-nano", "pool aiwm-nano", "queue aiwm-nano")
        assert (await house.call(requests.ModelOffer(model="aiwm-nano"))).made == ()
        path = tiny(tmp_path / "Some Model")
        first = await house.call(requests.ModelOffer(model=str(path)))
        assert first.model == "Some-Model"
        assert first.made[0] == "model Some-Model"
        again = await house.call(requests.ModelOffer(model=str(path)))
        assert (again.queue, again.made) == ("Some-Model", ())
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelOffer(model="nosuch"))
        assert caught.value.code == "model_not_found"


async def test_a_queue_that_takes_nothing_is_not_offered(tmp_path: Path) -> None:
    off = WorkerDefinition(name="nano", model="aiwm-nano", status=DefinitionStatus.disabled)
    async with ModelsHouse(tmp_path / "home", off) as house:
        await house.call(PoolCreate(definition=PoolDefinition(name="p", definition="nano")))
        await house.call(QueueCreate(definition=QueueDefinition(name="q", pools=("p",))))
        assert (await house.call(requests.ModelOffer(model="aiwm-nano"))).queue == "aiwm-nano"


async def test_a_providers_model_gets_a_queue_and_loses_it_again(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home", keys=("openai",)) as house:
        offered = await house.call(requests.ModelOffer(model="openai/gpt-4o"))
        assert (offered.model, offered.queue) == ("openai/gpt-4o", "openai-gpt-4o")
        assert house.manager.catalogue.worker("openai-gpt-4o").model == "openai/gpt-4o"
        assert (await house.call(requests.ModelOffer(model="openai/gpt-4o"))).made == ()
        assert not house.book.added
        gone = await house.call(requests.ModelRemove(name="openai/gpt-4o"))
        assert gone.gone == ("queue openai-gpt-4o", "pool openai-gpt-4o", "worker openai-gpt-4o")
        assert "openai-gpt-4o" not in house.manager.catalogue.queues
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelRemove(name="aiwm-nano"))
        assert caught.value.code == "not_found"


async def test_only_people_name_programs_paths_and_addresses(tmp_path: Path) -> None:
    task = Caller(id=2, principal="task:t-1", client="task", read_only=False, send=lambda _: True, grant=Grant())
    async with ModelsHouse(tmp_path / "home") as house:
        people_only: tuple[Any, ...] = (
            requests.ModelAdd(name="m", command=("sh", "-c", "{port}")),
            requests.ModelSet(name="aiwm-nano"),
            requests.ModelImport(text=""),
            requests.ModelOffer(model="/etc"),
            requests.ModelCheck(path="/etc"),
            requests.ModelDetect(),
            requests.ModelRemove(name="aiwm-nano"),
        )
        for request in people_only:
            with pytest.raises(AiwmError) as caught:
                await house.call(request, task)
            assert caught.value.code == "denied"


async def test_a_directory_of_models_is_judged_one_by_one(tmp_path: Path) -> None:
    tiny(tmp_path / "models" / "a")
    tiny(tmp_path / "models" / "b", {"quantization_config": {"quant_method": "awq", "bits": 4}})
    async with ModelsHouse(tmp_path / "home") as house:
        await house.call(requests.ModelAdd(path=str(tmp_path / "models" / "a"), name="first"))
        found = await house.call(requests.ModelCheck(path=str(tmp_path / "models")))
        assert [(it.name, it.kind, it.state, it.known_as) for it in found] == [
            ("a", "fp16", "usable", "first"),
            ("b", "AWQ", "refused", ""),
        ]
        with pytest.raises(AiwmError) as caught:
            await house.call(requests.ModelAdd(path=str(tmp_path / "models")))
        assert "holds 2 models" in caught.value.info.message


async def test_a_book_that_cannot_be_stored_is_unchanged(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home") as house:

        async def fails(*_: object) -> None:
            raise AiwmError("storage_failed", "the disk is full")

        book: ModelBook = house.book
        with pytest.raises(AiwmError):
            await book.put(ModelDefinition(name="m", path=bare(tmp_path)), "operator", fails)
        assert "m" not in book.added
        assert house.changed == []


async def test_a_route_over_other_models_is_a_model(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home", keys=("openai",)) as house:
        route = ("aiwm-nano", "openai/gpt-4o")
        added = await house.call(requests.ModelAdd(name="both", route=route, policy="failover"))
        assert (added.definition.backend, added.definition.route) == (Backend.hybrid, route)
        assert house.manager.catalogue.pool("both").max_total == 8


async def test_what_is_wrong_with_known_models_is_told_before_they_are_asked(tmp_path: Path) -> None:
    async with ModelsHouse(tmp_path / "home") as house:
        path = tiny(tmp_path / "mine")
        await house.call(requests.ModelAdd(path=str(path), name="mine"))
        await house.call(requests.ModelAdd(name="served", command=("/nowhere/srv", "--port", "{port}"), anyway=True))
        await house.call(requests.ModelAdd(path=bare(tmp_path), name="good"))
        (path / "model.safetensors").unlink()
        tiny(house.home / "models" / "packed", {"quantization_config": {"quant_method": "exl3", "bits": 4}})
        found = {it.model: it for it in troubles(list(house.book.added.values()), house.book.folder)}
        assert set(found) == {"mine", "served", "packed"}
        assert "no weights" in found["mine"].what
        assert "/nowhere/srv is not there" in found["served"].what
        assert "TabbyAPI" in found["packed"].fix
