"""Answers by a schema, from the command line to the shipped model and back; and calls that must be made, with a real gate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.client import BlockingClient
from engine.contract.definitions import DataSource, TaskTemplate
from engine.contract.errors import Code
from engine.contract.requests.definitions import SourceCreate, TemplateCreate
from engine.contract.requests.fleet import WorkerReload
from engine.contract.requests.session import ViewRead
from engine.contract.requests.tasks import TaskRun, TaskSubmit, TaskWait
from tests.support.cli import in_process
from tests.support.engines import Engine, engine, make_queue

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "city": {"type": "string", "maxLength": 20},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
TEXT = "My name is Tom, I am 34 years old and live in Paris."
WORKERS: list[dict[str, Any]] = [
    {"name": "echo", "kind": "template"},
    {"name": "nano", "model": "aiwm-nano"},
    {"name": "extractor", "model": "aiwm-nano", "answer_schema": PERSON, "sampling": {"max_tokens": 80}},
    {"name": "reader", "model": "aiwm-nano", "sources": ["docs"], "tools_allow": ["read_file"], "sampling": {"max_tokens": 80}},
]  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    home = tmp_path_factory.mktemp("structured") / "home"
    with engine(home) as running, running.client() as client:
        (home / "files/docs").mkdir()
        (home / "files/docs/notes.txt").write_text(TEXT)
        client.call(SourceCreate(definition=DataSource(name="docs", path="docs")))
        (home / "ai_worker_definitions.json").write_text(json.dumps({"workers": WORKERS}))
        assert not client.call(WorkerReload()).errors
        for worker in WORKERS[1:]:
            make_queue(client, worker["name"], definition=worker["name"], instances=1)
        yield running


@pytest.fixture
def client(running: Engine) -> Iterator[BlockingClient]:
    with running.client() as client:
        yield client


def ran(client: BlockingClient, queue: str, **payload: Any) -> Any:
    return client.call(TaskRun(queue=queue, payload=payload, timeout_ms=60_000))


def ended(client: BlockingClient, asked: TaskSubmit) -> Any:
    return client.call(TaskWait(ids=(client.call(asked).id,), timeout_ms=60_000))[0]


def test_the_command_line_asks_for_an_answer_by_a_schema(
    running: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIWM_HOME", str(running.home))
    file = tmp_path / "person.json"
    file.write_text(json.dumps(PERSON))
    aiwm = in_process(capfd)
    whole = aiwm("task", "run", "nano", "--prompt", f"{TEXT} Answer in JSON.", "--schema", str(file), "--json")
    assert whole.json["data"]["result"]["data"] == {"name": "Tom", "age": 34, "city": "Paris"}
    poem = aiwm("task", "run", "nano", "--prompt", "Write a poem.", "--schema", str(file))
    assert set(json.loads(poem.out)) == {"name", "age", "city"}, (
        "what is printed is JSON, whatever the model would rather say"
    )


def test_a_definition_and_a_template_ask_for_their_own(client: BlockingClient) -> None:
    assert set(ran(client, "extractor", prompt=TEXT).result["data"]) == {"name", "age", "city"}
    city = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    client.call(TemplateCreate(definition=TaskTemplate(name="city", queue="extractor", answer_schema=city)))
    outcome = ended(client, TaskSubmit(template="city", payload={"prompt": TEXT}))
    assert outcome.result["data"]["city"] in ("Paris", "Rome")


def test_an_answer_that_breaks_off_fails_with_its_cause(client: BlockingClient) -> None:
    asked = TaskSubmit(queue="extractor", payload={"prompt": TEXT, "max_tokens": 6}, max_attempts=1)
    outcome = ended(client, asked)
    assert outcome.error.code == Code.output_not_json
    assert "broke off at 6 tokens" in outcome.error.message
    assert outcome.error.retryable
    assert "max_tokens" in outcome.error.fix


def test_a_keyword_that_no_grammar_expresses_is_named(client: BlockingClient) -> None:
    outcome = ran(client, "nano", prompt=TEXT, schema={"properties": {"a": {"not": {"type": "null"}}}})
    assert outcome.error.code == Code.schema_unsupported
    assert outcome.error.field == "schema.properties.a.not"
    assert not outcome.error.retryable


def test_a_required_call_is_made_through_the_gate(client: BlockingClient) -> None:
    outcome = ran(client, "reader", prompt="Read notes.txt. How old is Tom?", call_tools="required")
    assert outcome.error is None, outcome.error
    made = outcome.result["tool_calls"][0]
    assert (made["tool"], made["verdict"], made["step"]) == ("read_file", "allowed", 1)
    events = client.call(ViewRead(location=":events type:tool.allowed", size=10)).rows
    assert [event["about"] for event in events].count(outcome.id) >= 1
