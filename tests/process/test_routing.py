"""A real engine with more adapters than its processes hold: tasks are grouped, replicas are started, and explain says why."""

from __future__ import annotations

import json
import re
from pathlib import Path

from engine.contract.errors import AiwmError
from engine.contract.requests.tasks import TaskExplain, TaskList
from tests.support.engines import engine, make_queue, wait_until
from tests.support.shell import shell
from tests.support.tiny_model import write_adapter

TASKS = 500
NAMES = ("house-words", "ticket-labels", "tone", "style", "mood", "pace", "wit", "zest")
NANO = Path(__file__).parents[2] / "engine" / "inference" / "shipped" / "aiwm-nano" / "config.json"


def test_tasks_with_alternating_adapters_share_processes_that_hold_one_each(home: Path, tmp_path: Path) -> None:
    source, config = tmp_path / "in.jsonl", json.loads(NANO.read_text())
    for seed, name in enumerate(NAMES[2:]):
        write_adapter(home / "adapters" / name, config, seed=seed, scale=0.1, base_model_name_or_path="aiwm-nano")
    with source.open("w") as file:
        for n in range(TASKS):
            task = {"prompt": f"add {n} and {n + 1}", "adapters": [{"name": NAMES[n % len(NAMES)]}], "max_tokens": 30}
            file.write(json.dumps(task) + "\n")
    with engine(home) as running, running.client() as client:
        make_queue(client, "many", definition="nano", instances=8)
        shell(home, "model", "set", "aiwm-nano", "slots=2", "adapter_slots=2", "replicas=2")
        shell(home, "model", "restart", "aiwm-nano")
        shell(home, "task", "submit", "many", "--file", str(source), "--batch", "b")

        def models() -> list[dict[str, int]]:
            rows: list[dict[str, int]] = shell(home, "model", "ps", "--json").json["data"]
            return [row for row in rows if row["pid"]]

        said: list[str] = []

        def explained() -> bool:
            """Whether a task was caught while it ran, one that had two processes to go to."""
            try:
                rows = client.call(TaskList(where="state:processing", limit=1)).rows
                why = client.call(TaskExplain(id=rows[0].id)) if rows else None
            except AiwmError:
                return False
            said[:] = [why.summary, *why.notes] if why is not None else []
            return len(said) == 3 and said[0].startswith("it runs")

        wait_until(lambda: len(models()) == 2, "a second process")
        wait_until(explained, "a running task that is explained")
        assert re.fullmatch(r"it runs on i-\w+ with aiwm-nano\.[01], attempt 1", said[0])
        for note in said[1:]:
            assert re.match(
                r"aiwm-nano\.[01] had [\d.]+ points: adapters (0|50|100), load (0|10|20), queue 8, latency ", note
            ), note
        shell(home, "batch", "wait", "b", "--timeout", "120s")
        assert shell(home, "batch", "show", "b", "--json").json["data"]["completed"] == TASKS
        hits, misses = (sum(model[name] for model in models()) for name in ("hits", "misses"))
        assert hits + misses >= TASKS
        assert misses < TASKS // 4, (
            f"{misses} of {TASKS} tasks waited for an adapter; in their own order nearly all would"
        )
