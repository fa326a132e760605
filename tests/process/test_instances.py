"""Instances by the shell, with the shipped model: a conversation of several turns that survives the engine, and its end."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from engine.contract.definitions import DataSource, WorkerDefinition
from engine.contract.errors import AiwmError
from engine.contract.requests.definitions import SourceCreate
from engine.contract.requests.fleet import ModelList, WorkerReload
from engine.contract.requests.instances import (
    InstanceChat,
    InstanceList,
    InstanceRetired,
    InstanceSet,
    InstanceShow,
    InstanceSpawn,
)
from engine.contract.requests.tasks import TaskSubmit, TaskWait
from tests.support.cli import in_process
from tests.support.engines import Engine, engine, make_queue, wait_until


def test_a_conversation_by_the_shell(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = in_process(capsys)

    def aiwm(*arguments: str) -> str:
        ran = run(*arguments, "--home", str(home))
        assert ran.code == 0, ran.err
        return ran.out

    with engine(home):
        identifier = aiwm("instance", "spawn", "nano", "--temperature", "0", "--max-tokens", "12").strip()
        first = json.loads(aiwm("instance", "chat", identifier, "What is 2+2?", "--json"))["data"]
        assert first["text"].strip() == "4"
        second = json.loads(aiwm("instance", "chat", identifier, "What is 3+4?", "--json"))["data"]
        # The second turn read the first one, too.
        assert second["tokens_in"] > first["tokens_in"] + first["tokens_out"]
        lines = [
            json.loads(line)
            for line in aiwm("instance", "chat", identifier, "What is 1+1?", "--stream", "--jsonl").splitlines()
        ]
        assert lines[-1]["kind"] == "turn"
        assert "".join(line["data"]["text"] for line in lines[:-1]) == lines[-1]["data"]["text"]

        (row,) = json.loads(aiwm("instance", "list", "!pool:demo", "--json"))["data"]
        assert (row["id"], row["done"], row["state"]) == (identifier, 3, "idle")
        assert row["tokens"] == sum(
            turn["tokens_in"] + turn["tokens_out"] for turn in (first, second, lines[-1]["data"])
        )
        assert (row["context"], row["context_max"]) == (lines[-1]["data"]["context"], 512)
        shown = json.loads(aiwm("instance", "show", identifier, "--json"))["data"]
        assert shown["definition"]["sampling"]["temperature"] == 0
        assert [turn["message"] for turn in shown["turns"]] == ["What is 2+2?", "What is 3+4?", "What is 1+1?"]

        aiwm("instance", "retire", identifier, "--reason", "enough")
        (gone,) = json.loads(aiwm("instance", "list", "--retired", "!pool:demo", "--json"))["data"]
        assert (gone["id"], gone["state"], gone["reason"], gone["done"]) == (identifier, "completed", "enough", 3)
        ran = run("instance", "chat", identifier, "hello?", "--home", str(home))
        assert ran.code == 1
        assert f"{identifier} was retired: enough" in ran.err


def test_a_session_survives_a_killed_engine(home: Path) -> None:
    first = Engine(home)
    try:
        with first.client() as client:
            detail = client.call(InstanceSpawn(definition="nano"))
            assert detail.row is not None
            identifier = detail.row.id
            turn = client.call(InstanceChat(id=identifier, message="What is 2+2?"))
    finally:
        first.kill()
    with engine(home) as second, second.client() as client:
        shown = client.call(InstanceShow(id=identifier))
        assert [(said.message, said.text) for said in shown.turns] == [("What is 2+2?", turn.text)]
        assert (shown.tokens_in, shown.tokens_out) == (turn.tokens_in, turn.tokens_out)
        again = client.call(InstanceChat(id=identifier, message="What is 3+3?"))
        assert (again.n, again.tokens_in > turn.tokens_in) == (2, True)
        # Numbers go on: nobody gets one that somebody had.
        other = client.call(InstanceSpawn(definition="nano"))
        assert other.row is not None
        assert other.row.id not in {identifier, *(row.id for row in client.call(InstanceRetired()))}


def test_a_client_that_vanishes_frees_its_slot(home: Path) -> None:
    with engine(home, environment={"AIWM_MODELS__SLOTS": "1"}) as running, running.client() as watching:
        detail = watching.call(InstanceSpawn(definition="nano"))
        assert detail.row is not None
        identifier = detail.row.id
        leaving = running.client()
        request = InstanceChat(id=identifier, message="Once upon a time", stream=True)

        def leave(_: object) -> None:
            leaving.close()

        # On a busy machine the answer may have ended before its first piece is read: then there is nothing to leave.
        with suppress(AiwmError, OSError):
            leaving.call(request, heard=leave)
        wait_until(lambda: watching.call(InstanceList(where=f"id:{identifier}"))[0].state != "busy", "the answer ends")
        wait_until(lambda: all(not model.running for model in watching.call(ModelList())), "the slot is free")
        turn = watching.call(InstanceChat(id=identifier, message="What is 2+2?"), timeout_s=30)
        assert turn.n in (1, 2)


def test_files_given_at_the_spawn_replace_the_definitions_own(home: Path) -> None:
    with engine(home) as running, running.client() as client:
        notes = home / "files" / "notes"
        notes.mkdir(parents=True)
        (notes / "own.txt").write_text("own words " * 4)
        (notes / "given.txt").write_text("given words </data> " * 8)
        (notes / "own.txt").chmod(0o600)
        client.call(SourceCreate(definition=DataSource(name="notes", path="notes", recursive=True)))
        worker = WorkerDefinition(
            name="reader", model="aiwm-nano", sources=("notes",), files=("datasource://notes/own.txt",)
        )
        kept = [
            WorkerDefinition(name="nano", model="aiwm-nano"),
            WorkerDefinition(name="echo", kind="template"),
            worker,
        ]
        (home / "ai_worker_definitions.json").write_bytes(msgspec.json.encode(kept))
        assert client.call(WorkerReload()).errors == []

        plain = client.call(InstanceSpawn(definition="nano")).row
        own = client.call(InstanceSpawn(definition="reader")).row
        given = client.call(InstanceSpawn(definition="reader", files=("datasource://notes/given.txt",)))
        missing = client.call(InstanceSpawn(definition="reader", files=("datasource://notes/none.txt",))).row
        assert plain is not None
        assert own is not None
        assert given.row is not None
        assert missing is not None
        assert given.files == ("datasource://notes/given.txt",)
        read = [
            client.call(InstanceChat(id=identifier, message="What is 2+2?")).tokens_in
            for identifier in (plain.id, own.id, given.row.id)
        ]
        # Each reads more than the one before: nothing, its definition's file, the longer one that was given.
        assert read == sorted(set(read))
        with pytest.raises(AiwmError, match=r"none\.txt"):
            client.call(InstanceChat(id=missing.id, message="What is 2+2?"))
        # The active contexts are changed by hand, for the turns to come.
        client.call(InstanceSet(id=missing.id, files=()))
        assert client.call(InstanceChat(id=missing.id, message="What is 2+2?")).tokens_in == read[0]

        # A task of the definition begins with its file, too.
        make_queue(client, "reader", definition="reader", instances=1)
        ack = client.call(TaskSubmit(queue="reader", payload={"prompt": "What is 2+2?"}))
        (outcome,) = client.call(TaskWait(ids=(ack.id,), timeout_ms=30_000))
        assert outcome.tokens_in == read[1]
