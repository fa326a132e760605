"""Bundles by the command line against a real engine: load, diff, export, wipe, load; deletes that are refused; maintenance."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Ran, in_process
from tests.support.engines import engine, wait_until

SAMPLE = Path(__file__).parents[2] / "examples" / "bundle.json"


class Aiwm:
    """The command line on one home; what it prints as it does for people and programs."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._home = home
        self._run = in_process(capsys)

    def __call__(self, *arguments: str) -> Ran:
        return self._run(*arguments, "--home", str(self._home))

    def data(self, *arguments: str) -> Any:
        """The data of a command that must work."""
        ran = self(*arguments, "--json")
        assert ran.code == 0, ran.err
        return ran.json["data"]


@pytest.fixture
def aiwm(home: Path, capsys: pytest.CaptureFixture[str]) -> Aiwm:
    return Aiwm(home, capsys)


@pytest.fixture
def works(home: Path) -> Iterator[None]:
    with engine(home):
        yield


def test_a_sample_bundle_is_loaded_exported_and_brought_back(aiwm: Aiwm, home: Path, tmp_path: Path) -> None:
    saved = tmp_path / "all.json"
    with engine(home):
        before = aiwm.data("bundle", "diff", str(SAMPLE))
        added = {change["kind"]: len(change["added"]) for change in before["changes"]}
        assert added == {"source": 2, "worker": 4, "pool": 3, "queue": 3, "template": 2}
        assert aiwm.data("worker", "list")[0]["id"] == "echo"
        loaded = aiwm("bundle", "load", str(SAMPLE), "--policy", "FailFastOnError")
        assert loaded.code == 0, loaded.err
        assert "+ queue inbox" in loaded.out
        assert "left without its worker" in loaded.err
        counts = {kind: len(aiwm.data(kind, "list")) for kind in ("worker", "pool", "queue", "template", "source")}
        assert counts == {"worker": 4, "pool": 5, "queue": 5, "template": 2, "source": 2}
        wait_until(lambda: len(aiwm.data("pool", "instances", "invoices")) == 1, "the idle instance")
        history = aiwm.data("pool", "history", "invoices")
        assert (history[0]["change"], history[0]["total"]) == (1, 1)
        assert history[0]["reason"]
        assert aiwm("bundle", "export", "--out", str(saved)).code == 0
        unchanged = aiwm("bundle", "diff", str(saved))
        assert "nothing would change" in unchanged.out
    shutil.rmtree(home)
    with engine(home):
        assert len(aiwm.data("worker", "list")) == 2
        again = aiwm("bundle", "load", str(saved), "--policy", "fail-fast")
        assert again.code == 0, again.err
        assert json.loads(aiwm("bundle", "export").out) == json.loads(saved.read_text())
    with engine(home):
        assert json.loads(aiwm("bundle", "export").out) == json.loads(saved.read_text()), "after a restart"


def test_a_bad_bundle_under_both_policies(aiwm: Aiwm, works: None, tmp_path: Path) -> None:
    document = json.loads(SAMPLE.read_text())
    document["aiWorkerPoolDefinitions"][1]["maxTotalInstancs"] = 3
    document["workQueueDefinitions"][0]["associatedPoolNames"] = ["invoces"]
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(document))
    strict = aiwm("bundle", "load", str(file), "--policy", "fail-fast")
    assert strict.code == 2
    assert 'pool letters: aiWorkerPoolDefinitions[1].maxTotalInstancs: unknown key "maxTotalInstancs"' in strict.err
    assert 'did you mean "invoices"?' in strict.err
    assert len(aiwm.data("pool", "list")) == 2
    assert aiwm("bundle", "policy", "LoadValidAndReportErrors").out == "load-valid\n"
    lenient = aiwm("bundle", "load", str(file), "--json")
    assert lenient.code == 1
    # The queue of the bad pool falls with it: it names nothing that is there.
    assert {error["name"] for error in lenient.json["data"]["errors"]} == {"letters", "inbox", "correspondence"}
    assert len(aiwm.data("pool", "list")) == 4


def test_deletes_ask_and_refuse_to_break(aiwm: Aiwm, works: None) -> None:
    assert aiwm("bundle", "load", str(SAMPLE)).code == 0
    refused = aiwm("pool", "delete", "relays", "--yes", "--json")
    assert refused.code != 0
    assert "queue relay" in json.loads(refused.err)["message"]
    assert aiwm("source", "delete", "style-guides").code == 5
    assert "worker letter-writer" in aiwm("source", "delete", "style-guides", "--yes").err
    assert aiwm("template", "delete", "answer-letter", "--yes").code == 0
    assert aiwm("queue", "update", "relay", "--max-length", "5", "--retry-delay", "7s", "--no-paused").code == 0
    relay = aiwm.data("queue", "show", "relay")["definition"]
    assert (relay["max_length"], relay["retry"]["delay_ms"], relay["retry"]["max_retries"]) == (5, 7_000, 2)
    assert aiwm("queue", "update", "relay", "--clear", "max_length").code == 0
    assert aiwm.data("queue", "show", "relay")["definition"]["max_length"] is None
    assert aiwm("queue", "pause", "relay").code == 0
    aiwm.data("call", "task.submit", '{"queue": "relay", "payload": {}}')
    full = aiwm("queue", "delete", "relay", "--yes")
    assert "--cancel-tasks" in full.err
    assert aiwm.data("queue", "delete", "relay", "--yes", "--cancel-tasks")["cancelled"] == 1
    assert aiwm("pool", "delete", "relays", "--yes").code == 0


def test_worker_files_are_validated_without_a_change(aiwm: Aiwm, works: None, tmp_path: Path) -> None:
    file = tmp_path / "workers.json"
    file.write_text(json.dumps([{"name": "a", "kind": "template", "modelNme": "x"}]))
    checked = aiwm("worker", "validate", str(file))
    assert checked.code == 2
    assert 'did you mean "modelName"?' in checked.err
    assert [row["id"] for row in aiwm.data("worker", "list")] == ["echo", "nano"]


def test_maintenance_outlasts_a_killed_engine(aiwm: Aiwm, home: Path) -> None:
    with engine(home) as running:
        assert aiwm.data("engine", "drain", "--reason", "driver update", "--wait", "10s")["idle"]
        running.kill()
    with engine(home):
        assert "driver update" in aiwm("engine", "status").out
        machine = aiwm.data("call", "view.read", '{"location": ":machine"}')["rows"][0]
        assert machine["mode"].startswith("maintenance: driver update (")
        submitted = aiwm.data("call", "task.submit", '{"queue": "echo", "payload": {}}')["id"]
        assert aiwm.data("task", "show", submitted)["row"]["state"] == "pending"
        assert aiwm("engine", "resume").code == 0
        assert aiwm("task", "wait", submitted, "--timeout", "20s").code == 0
