"""A house for tools: an engine with data sources, workers of two kinds and a queue for each, as an operator would have set it up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.client import BlockingClient
from engine.contract.definitions import DataSource
from engine.contract.records import EventRow
from engine.contract.requests.definitions import SourceCreate
from engine.contract.requests.fleet import WorkerReload
from engine.contract.requests.session import ViewRead
from engine.contract.requests.tasks import TaskRun
from tests.support.engines import Engine, engine, make_queue

# A kind of another package: it calls the tools that its task names, over its pipe, and gives back what it was told.
_CALLER = """
from engine.workers.template import TaskOutput, WorkerTemplate

class Caller(WorkerTemplate):
    kind = "caller"
    async def process(self, task, context):
        if context.tools is None:
            return TaskOutput(result={"declared": None})
        said = []
        for call in task.payload.get("calls", []):
            answer = await context.tools.call(call["tool"], call["args"])
            said.append([answer.verdict, answer.gate, answer.ok, answer.text])
        return TaskOutput(result={"said": said, "declared": [tool.name for tool in context.tools.declared]})
"""
WORKERS: list[dict[str, Any]] = [
    {"name": "echo", "kind": "template"},
    {"name": "nano", "model": "aiwm-nano"},
    {
        "name": "reader",
        "kind": "goat",
        "model": "aiwm-nano",
        "sources": ["docs"],
        "tools_allow": ["read_file", "list_dir"],
    },
    {"name": "nothing", "kind": "caller", "sources": ["docs"]},
    {"name": "writer", "kind": "caller", "sources": ["docs"], "tools_allow": ["ReadFile", "write_file"]},
    {"name": "barred", "kind": "caller", "tools_allow": ["*"], "tools_deny": ["TOOL.WriteFile", "task_*"]},
    {
        "name": "boss",
        "kind": "caller",
        "sources": ["docs"],
        "tools_allow": [
            "read_file",
            "task_submit",
            "task_run",
            "task_show",
            "task_cancel",
            "source_read",
            "queue_list",
        ],
    },
    {"name": "rich", "kind": "caller", "sources": ["docs", "vault"], "tools_allow": ["*"], "supervisor": "nano"},
]
POEM = "My name is Tom, I am 34 years old and live in Paris."


def caller_environment(folder: Path) -> dict[str, str]:
    """Install the kind `caller` into a folder; the environment by which an engine finds it."""
    (folder / "caller_kind.py").write_text(_CALLER)
    info = folder / "caller_kind-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: caller-kind\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aiwm.workers]\ncaller = caller_kind:Caller\n")
    return {"PYTHONPATH": str(folder)}


class House:
    """An engine with data sources, workers and a queue for each."""

    def __init__(self, running: Engine, client: BlockingClient, outside: Path) -> None:
        self.home, self.running, self.client, self.outside = running.home, running, client, outside

    def build(self) -> None:
        """Everything; `build_plain` leaves out what needs a configuration of its own."""
        self.build_plain()
        far = DataSource(name="far", path=str(self.outside / "listed"), external=True, target="fm:/far")
        self.client.call(SourceCreate(definition=far))

    def build_plain(self) -> None:
        files = self.home / "files"
        (files / "docs").mkdir()
        (files / "vault").mkdir()
        (files / "docs/notes.txt").write_text(POEM)
        (files / "docs/code.py").write_text("print()")
        (files / "vault/secret.txt").write_text("the treasure")
        for source in (
            DataSource(name="docs", path="docs", filters=("*.txt",)),
            DataSource(name="vault", path="vault"),
        ):
            self.client.call(SourceCreate(definition=source))
        (self.home / "ai_worker_definitions.json").write_text(json.dumps({"workers": WORKERS}))
        assert not self.client.call(WorkerReload()).errors
        for worker in WORKERS[2:]:
            make_queue(self.client, worker["name"], definition=worker["name"], instances=1)

    def run(self, queue: str, /, **payload: Any) -> Any:
        outcome = self.client.call(TaskRun(queue=queue, payload=payload, timeout_ms=60_000))
        assert outcome.error is None, outcome.error
        return outcome.result

    def call(self, queue: str, tool: str, /, **arguments: Any) -> list[Any]:
        """One tool call by a task of a queue: verdict, gate, ok, text."""
        return list(self.run(queue, calls=[{"tool": tool, "args": arguments}])["said"][0])

    def events(self, filters: str) -> list[EventRow]:
        found = self.client.call(ViewRead(location=f":events {filters}", size=100))
        return [EventRow(**row) for row in found.rows]


@contextmanager
def open_house(base: Path, environment: dict[str, str]) -> Iterator[House]:
    """A house with everything, and beside it one directory that its configuration lists and one that it does not."""
    (base / "listed").mkdir()
    for name in "abc":
        (base / "listed" / f"{name}.txt").write_text(name)
    (base / "unlisted").mkdir()
    (base / "config.toml").write_text(
        f'[security]\nexternal_roots = ["{base}/listed"]\n[keys.late]\nmethod = "env"\nvalue = "NOT_SET"\n'
    )
    whole = {**environment, "AIWM_CONFIG": str(base / "config.toml")}
    with engine(base / "home", environment=whole) as running, running.client() as client:
        made = House(running, client, base)
        made.build()
        yield made
