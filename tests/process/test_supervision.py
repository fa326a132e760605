"""Lessons, supervisors and insights by hand: the commands, on a real engine with the shipped model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import in_process
from tests.support.engines import engine, wait_until

Aiwm = Callable[..., Any]


@pytest.fixture
def aiwm(home: Path, capsys: pytest.CaptureFixture[str]) -> Aiwm:
    """Run a command; its JSON."""
    run = in_process(capsys)

    def told(*words: str) -> Any:
        ran = run(*words, "--home", str(home), "--json")
        assert ran.code == 0, ran.err
        return json.loads(ran.out)["data"]

    return told


def test_what_a_task_teaches_is_in_the_next_one_and_rules_rate_both(home: Path, aiwm: Aiwm) -> None:
    with engine(home):
        aiwm("queue", "update", "demo", "--supervisor", "rules/default")
        aiwm("task", "run", "demo", "--prompt", "7+8=")
        task = aiwm("task", "list")[0]["id"]
        wait_until(lambda: aiwm("perf", "list")[0]["rating"] == 1.0, "the rules' rating")
        assert aiwm("supervisor", "show", "--task", task)[0]["by"] == "rules/default"
        assert aiwm("supervisor", "pending") == []

        lesson = aiwm(
            "lesson",
            "submit",
            "Sums",
            "say the number only",
            "--queue",
            "demo",
            "--evidence",
            task,
            "--confidence",
            "0.9",
        )
        assert lesson == {"id": "L-1", "version": 1}
        assert [row["id"] for row in aiwm("lesson", "query", "--task", task)] == ["L-1"]
        assert aiwm("lesson", "query", "--queue", "echo") == []
        taught = aiwm("task", "run", "demo", "--prompt", "7+8=")
        assert taught["result"]["lessons"] == ["L-1@1"]
        notes = aiwm("task", "show", taught["id"])["notes"]
        assert [(it["id"], it["version"]) for it in notes["lessons"]] == [("L-1", 1)]

        aiwm("supervisor", "feedback", taught["id"], "--rating", "0.5", "--comments", "too short")
        aiwm("insight", "log", taught["id"], "seen by a person", "--level", "warn")
        notes = aiwm("insight", "list", taught["id"])
        assert [it["message"] for it in notes["insights"]] == ["seen by a person"]
        assert {it["by"]: it["rating"] for it in notes["feedback"]} == {"operator": 0.5, "rules/default": 1.0}
        summary = {row["id"]: row for row in aiwm("perf", "summary")}
        assert summary["nano"]["quality"] == 0.75

        assert [row["id"] for row in aiwm("task", "list", 'text:"7 8"')] == [taught["id"], task]
        aiwm("lesson", "delete", "L-1", "--yes")
        assert aiwm("lesson", "list") == []


def test_an_agent_is_asked_and_a_toy_s_answer_is_no_rating(home: Path, aiwm: Aiwm) -> None:
    with engine(home):
        aiwm("queue", "update", "demo", "--supervisor", "nano")
        task = aiwm("task", "run", "demo", "--prompt", "7+8=")["id"]

        def told() -> bool:
            return any(step["type"].startswith("supervisor.") for step in aiwm("task", "show", task)["timeline"])

        wait_until(told, "what came of the review")
        types = [step["type"] for step in aiwm("task", "show", task)["timeline"]]
        assert types[-2:] == ["supervisor.asked", "supervisor.unparsable"]
        assert aiwm("perf", "list")[0]["rating"] is None


def test_the_notify_hook_runs_a_command_on_the_first_failure_of_its_kind(
    home: Path, aiwm: Aiwm, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    config = tmp_path / "config.toml"
    program = f"import sys; open({str(said)!r}, 'a').write(sys.stdin.read())"
    command = json.dumps([sys.executable, "-c", program])
    config.write_text(f"[notify]\ncommand = {command}\n")
    with engine(home, environment={"AIWM_CONFIG": str(config)}):
        for _ in range(2):
            aiwm("task", "submit", "demo", "--prompt", "word " * 900, "--max-attempts", "1")
        wait_until(said.exists, "the notice")
        wait_until(lambda: len(aiwm("task", "list", "state:failed")) == 2, "both failures")
    notices = [json.loads(line) for line in said.read_text().splitlines()]
    assert [(it["kind"], it["about"][:2]) for it in notices] == [("failure.first", "F-")]
    assert "prompt" in notices[0]["text"]
