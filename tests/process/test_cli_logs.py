"""`aiwm logs` and `aiwm events` from a shell: what is looked for, with what stands around it, as text, as JSON, and as it comes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.contract.requests.fleet import QueuePause, QueueResume
from tests.support import engines
from tests.support.shell import shell


@pytest.fixture(scope="module")
def running() -> Iterator[engines.Engine]:
    with tempfile.TemporaryDirectory(prefix="aiwm-") as folder:
        home = Path(folder) / "home"
        (home / "logs").mkdir(parents=True)
        (home / "logs" / "nano.0.log.1").write_text("an older life\nwith an ERROR in it\n")
        (home / "logs" / "nano.0.log").write_text(
            "".join(f"step {n}\n" for n in range(40_000)) + "MemoryError: \x1b[2Jno\n"
        )
        with engines.engine(home) as engine:
            yield engine


def test_what_is_looked_for_is_found_in_all_that_is_kept(running: engines.Engine) -> None:
    home = running.home
    assert shell(home, "logs", "nano.0", "-s", '"step 400"', "-C", "1").out.split("\n")[:4] == [
        "step 399",
        "step 400",
        "step 401",
        "--",
    ]
    assert shell(home, "logs", "nano.0", "--faults", "--previous").out == "with an ERROR in it\n"
    whole = json.loads(shell(home, "logs", "nano.0", "--faults", "-C", "1", "--json").out)
    assert (whole["kind"], whole["total"]) == ("log_lines", 2)
    assert [(row["number"], row["match"]) for row in whole["data"]] == [(40_000, False), (40_001, True)]
    assert whole["data"][1]["text"] == "MemoryError: \x1b[2Jno", "in JSON it is data"
    lines = shell(home, "logs", "nano.0", "--faults", "-C", "1", "--jsonl").out.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["log_line", "log_line"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--search", ""), "nothing is looked for"),
        (("--faults", "-C", "99"), "from 0 to 20"),
        (("--follow", "--previous"), "writes nothing more"),
        (("-C", "3"), "around lines that are looked for"),
    ],
)
def test_what_cannot_be_is_refused(running: engines.Engine, options: tuple[str, ...], said: str) -> None:
    assert said in shell(running.home, "logs", "nano.0", *options, code=None).err


def test_what_comes_is_followed_and_looked_through(running: engines.Engine) -> None:
    log = running.home / "logs" / "live.0.log"
    log.write_text("before\n")
    command = [sys.executable, "-m", "aiwm_tui.main", "logs", "--home", str(running.home), "live.0", "-f", "-s", "hit"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with log.open("a") as file:
            file.write("a hit\nmiss\npart of a")
        assert process.stdout.readline() == "a hit\n"
        with log.open("a") as file:
            file.write(" hit\n")
        assert process.stdout.readline() == "part of a hit\n"
        process.kill()


def test_events_among_their_neighbours_and_those_of_a_chain(running: engines.Engine) -> None:
    client = running.client()
    client.call(QueuePause(name="demo", reason="x"))
    client.call(QueueResume(name="demo"))
    rows = json.loads(shell(running.home, "events", "search", "type:queue.pause", "-C", "1", "--json").out)["data"]
    assert [row["type"] for row in rows].count("queue.pause") == 1
    assert 2 <= len(rows) <= 3
    chain = next(row["correlation"] for row in rows if row["type"] == "queue.pause")
    found = json.loads(shell(running.home, "events", "search", "--chain", chain, "--json").out)["data"]
    assert "queue.pause" in {row["type"] for row in found}
    assert {row["correlation"] for row in found} == {chain}
