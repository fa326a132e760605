"""Batches by the command line against a real engine: a file in, a file out in its order, stopped at any moment."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.requests.batches import BatchShow
from engine.contract.requests.fleet import QueuePause, QueueResume
from engine.contract.requests.tasks import TaskList
from tests.support.engines import Engine, engine, make_queue, wait_until
from tests.support.shell import AIWM, shell


@pytest.fixture
def running(home: Path) -> Iterator[Engine]:
    with engine(home) as one:
        yield one


def _file(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps({"id": f"k{n}", "n": n}) + "\n" for n in range(count)))
    return path


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_goes_in_and_its_results_come_out_in_its_order(running: Engine, home: Path, tmp_path: Path) -> None:
    source, out = _file(tmp_path / "in.jsonl", 700), tmp_path / "out.jsonl"
    submit = ("task", "submit", "echo", "--file", str(source), "--key", "id", "--batch", "b-0412", "--priority", "3")
    added = shell(home, *submit, "--json").json["data"]
    assert (added["added"], added["known"], added["lines"]) == (700, 0, 700)
    assert shell(home, *submit, "--json").json["data"]["known"] == 700
    shell(home, "batch", "wait", "b-0412", "--out", str(out), "--timeout", "60s")
    rows = _lines(out)
    assert [(row["index"], row["key"], row["result"]) for row in rows] == [(n, f"k{n}", {"n": n}) for n in range(700)]
    # Once more: nothing twice.
    shell(home, "batch", "wait", "b-0412", "--out", str(out))
    assert _lines(out) == rows
    exported = shell(home, "batch", "export", "b-0412").out.splitlines()
    assert [json.loads(line) for line in exported] == rows
    row = shell(home, "batch", "show", "b-0412", "--json").json["data"]
    assert (row["state"], row["completed"], row["total"]) == ("completed", 700, 700)
    assert [it["id"] for it in shell(home, "batch", "list", "--json").json["data"]] == ["b-0412"]
    assert shell(home, "task", "list", "--batch", "b-0412", "--json", "--limit", "1").json["total"] == 700


def test_a_wait_that_is_killed_goes_on_where_it_stopped(running: Engine, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with running.client() as client:
        make_queue(client, "slow")
        client.call(QueuePause(name="slow"))
        source = _file(tmp_path / "in.jsonl", 300)
        shell(home, "task", "submit", "slow", "--file", str(source), "--key", "id", "--batch", "b")
        wait = [*AIWM, "batch", "wait", "b", "--out", str(out), "--home", str(home)]
        waiting = subprocess.Popen(wait)
        client.call(QueueResume(name="slow"))
        wait_until(lambda: out.exists() and out.stat().st_size > 0, "the first results")
        waiting.kill()
        waiting.wait()
        # As a kill in the middle of a write leaves it.
        whole = out.read_bytes()
        out.write_bytes(whole[: random.Random(7).randrange(1, len(whole))])
        shell(home, "batch", "wait", "b", "--out", str(out), "--timeout", "60s")
    assert [row["index"] for row in _lines(out)] == list(range(300))


def test_a_submit_that_is_killed_is_run_again(running: Engine, home: Path, tmp_path: Path) -> None:
    source = _file(tmp_path / "in.jsonl", 3_000)
    submit = ["task", "submit", "echo", "--file", str(source), "--key", "id", "--batch", "b"]
    submitting = subprocess.Popen([*AIWM, *submit, "--home", str(home)])
    with running.client() as client:
        wait_until(lambda: client.call(TaskList(where="batch:b", limit=1)).total > 0, "the first tasks")
        submitting.send_signal(signal.SIGKILL)
        submitting.wait()
        again = shell(home, *submit, "--json").json["data"]
        assert again["added"] + again["known"] == 3_000
        assert again["known"] > 0
        shell(home, "batch", "wait", "b", "--timeout", "60s")
        assert client.call(BatchShow(name="b")).completed == 3_000


def test_every_bad_line_is_named_and_nothing_is_submitted(running: Engine, home: Path, tmp_path: Path) -> None:
    source = tmp_path / "bad.jsonl"
    source.write_text('{"id": "a"}\nnot json\n[1]\n\n{"n": 2}\n{"id": "a"}\n{"id": 5}\n{"id": true}\n')
    submit = ("task", "submit", "echo", "--file", str(source), "--key", "id", "--batch", "b")
    refused = shell(home, *submit, "--json", code=2).error
    numbers = [line.split()[1] for line in refused["stderr"]]
    assert numbers == ["2", "3", "5", "6", "8"]
    assert shell(home, "task", "list", "--json").json["total"] == 0
    added = shell(home, *submit, "--skip-bad", "--json").json["data"]
    assert (added["added"], added["bad"]) == (2, 5)
    assert [it["line"] for it in added["skipped"]] == [2, 3, 5, 6, 8]


def test_the_template_checks_each_line_before_anything_is_submitted(
    running: Engine, home: Path, tmp_path: Path
) -> None:
    schema = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    shell(home, "template", "create", "counted", "--queue", "echo", "--payload-schema", schema)
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": "a", "n": 1}\n{"id": "b", "n": "one"}\n{"id": "c"}\n')
    submit = ("task", "submit", "--template", "counted", "--file", str(source), "--key", "id", "--batch", "b")
    refused = shell(home, *submit, "--json", code=2).error
    assert ["payload.n" in line for line in refused["stderr"]] == [True, True]
    assert shell(home, "task", "list", "--json").json["total"] == 0


def test_exit_codes_tell_failed_from_late(running: Engine, home: Path, tmp_path: Path) -> None:
    source, out = _file(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"
    with running.client() as client:
        make_queue(client, "held")
        client.call(QueuePause(name="held"))
        shell(home, "task", "submit", "held", "--file", str(source), "--batch", "b")
        late = shell(home, "batch", "wait", "b", "--out", str(out), "--timeout", "50ms", "--json", code=4)
        assert late.error["code"] == "timeout"
        assert out.read_bytes() == b""
        first = client.call(TaskList(where="batch:b sort:id", limit=1)).rows[0].id
        shell(home, "task", "cancel", first)
        client.call(QueueResume(name="held"))
        shell(home, "batch", "wait", "b", "--out", str(out), "--timeout", "60s", code=1)
    assert [row["state"] for row in _lines(out)] == ["cancelled", "completed", "completed"]
    shell(home, "batch", "wait", "nope", code=2)
    out.write_text('{"something": "else"}\n')
    foreign = shell(home, "batch", "wait", "b", "--out", str(out), "--json", code=None)
    assert foreign.error["code"] == "conflict"


def test_a_batch_is_cancelled_and_that_is_undone(running: Engine, home: Path, tmp_path: Path) -> None:
    source = _file(tmp_path / "in.jsonl", 30)
    with running.client() as client:
        make_queue(client, "held")
        client.call(QueuePause(name="held"))
        shell(home, "task", "submit", "held", "--file", str(source), "--batch", "b", "--key", "id")
        assert shell(home, "batch", "cancel", "b", "--dry-run", "--json").json["data"]["count"] == 30
        assert shell(home, "batch", "cancel", "b", "--json", code=5).error["code"] == "needs_confirmation"
        done = shell(home, "batch", "cancel", "b", "--yes", "--json").json["data"]
        assert len(done["cancelled"]) == 30
        assert client.call(BatchShow(name="b")).state == "cancelled"
        assert len(shell(home, "undo", done["operation"], "--json").json["data"]["taken_back"]) == 30
        client.call(QueueResume(name="held"))
        shell(home, "batch", "wait", "b", "--timeout", "60s")


def test_export_as_csv_is_safe_to_open(running: Engine, home: Path, tmp_path: Path) -> None:
    import csv
    import io

    shell(home, "task", "run", "echo", "--payload", '{"a": "x,\\"y\\""}')
    shell(home, "task", "submit", "echo", "--payload", "{}", "--tenant", "=1+1")
    table = list(csv.DictReader(io.StringIO(shell(home, "task", "export", "--format", "csv").out)))
    assert [json.loads(row["payload"]) for row in table] == [{"a": 'x,"y"'}, {}]
    assert [row["tenant"] for row in table] == ["", "'=1+1"]
    lines = shell(home, "task", "export", "--where", 'tenant:""').out.splitlines()
    assert [json.loads(line)["result"] for line in lines] == [{"a": 'x,"y"'}]
