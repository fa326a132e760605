"""API keys with real engines: their text is nowhere, and who misses one does not begin (spec §6, 6)."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from engine.contract.errors import Code
from engine.contract.requests.fleet import WorkerReload
from engine.contract.requests.tasks import TaskRun
from tests.support.cli import Run, in_process
from tests.support.engines import engine, make_queue
from tests.support.house import WORKERS, House

KEY = "sk-THE-KEY-ITSELF-0123456789"


def test_the_text_of_a_key_is_nowhere(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inline, environment, file and vault; listed, checked, shown, reported by doctor, named by a worker, in events and logs."""
    config = tmp_path / "config.toml"
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    config.write_text(
        f'[keys.inline]\nmethod = "inline"\nvalue = "{KEY}"\nhosts = ["api.example.com"]\n'
        '[keys.env]\nmethod = "env"\nvalue = "SOME_KEY"\nhosts = ["api.example.com"]\n'
        f'[keys.file]\nmethod = "file"\npath = "{tmp_path}/key"\nhosts = ["api.example.com"]\n'
        '[keys.vault]\nmethod = "vault"\nhosts = ["api.example.com"]\n[keys.gone]\nmethod = "env"\nvalue = "NOT_SET"\n'
    )
    environment = {"AIWM_CONFIG": str(config), "SOME_KEY": KEY, "AIWM_VAULT_PASSPHRASE": "a passphrase"}
    said = _set_key(home, environment)
    run = in_process(capsys)
    with engine(home, environment=environment) as running, running.client():
        workers = [*WORKERS[:2], {"name": "keyed", "model": "aiwm-nano", "key": "inline"}]
        (home / "ai_worker_definitions.json").write_text(json.dumps({"workers": workers}))

        def aiwm(*arguments: str) -> str:
            ran = run(*arguments, "--home", str(home))
            return ran.out + ran.err

        statuses = {name: aiwm("key", "check", name) for name in ("inline", "env", "file", "vault", "gone")}
        assert all("Found" in statuses[name] for name in ("inline", "env", "file", "vault")), statuses
        assert "Not Found" in statuses["gone"]
        said += (
            "".join(statuses.values()) + aiwm("worker", "reload") + aiwm("key", "list") + aiwm("key", "check", "none")
        )
        for command in (
            "doctor",
            "config show --origin",
            "worker show keyed",
            "events search",
            "engine status",
            "tool list",
        ):
            said += aiwm(*command.split()) + aiwm(*command.split(), "--json")
        assert "(hidden)" in said
        assert "keyed" in aiwm("key", "list")
        said += aiwm("task", "run", "demo", "--prompt", "What is 1 plus 1?", "--json")
        said += (running.log).read_text()
    assert KEY not in said
    hidden = KEY.encode()
    for path in home.rglob("*"):
        if path.is_file():
            assert hidden not in path.read_bytes(), path
    with sqlite3.connect(home / "aiwm.db") as database:
        assert hidden not in b"".join(line.encode() for line in database.iterdump())


def _set_key(home: Path, environment: dict[str, str]) -> str:
    """`aiwm key set` as a script would use it: the key through a pipe."""
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "aiwm_tui.main", "key", "set", "vault", "--home", str(home)],
        input=KEY,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=True,
    )
    return ran.stdout + ran.stderr


def test_a_worker_whose_key_is_missing_does_not_begin(house: House, in_house: Run) -> None:
    workers = [*WORKERS, {"name": "keyed", "model": "aiwm-nano", "key": "late"}]
    (house.home / "ai_worker_definitions.json").write_text(json.dumps({"workers": workers}))
    assert not house.client.call(WorkerReload()).errors
    make_queue(house.client, "keyed", definition="keyed")
    outcome = house.client.call(TaskRun(queue="keyed", payload={"prompt": "hello"}, timeout_ms=30_000))
    assert outcome.error is not None
    assert outcome.error.code == Code.key_not_found
    assert outcome.error.message == 'the API key "late" is Not Found: the environment variable NOT_SET is not set'
    assert outcome.error.fix == "aiwm key check late"
    assert "late" in in_house("doctor").out
