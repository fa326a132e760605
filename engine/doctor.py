"""What works on this machine, and the fix for what does not."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from engine import __version__
from engine.contract.records import ModelRow
from engine.contract.requests.session import Finding
from engine.inference.backends.exllamav2 import availability
from engine.inference.memory.gpus import Gpus
from engine.inference.models.troubles import Trouble
from engine.resources import inbox, themes

_LOW_DISK = 1 * 2**30


def examine(
    home: Path,
    models: Callable[[], Iterable[ModelRow]],
    storage: str,
    keys: Iterable[tuple[str, str, str]] = (),
    sources: Iterable[tuple[str, str]] = (),
    troubles: Iterable[Trouble] = (),
) -> list[Finding]:
    """All findings, cheap ones first. Nothing is changed and nothing is fetched. `keys` are API keys by name with their status and a
    remark, `sources` data sources by name with what is wrong with them ("": nothing), `troubles` what is wrong with models that are
    known."""
    return [
        Finding(
            what="aiwm",
            state="ok",
            seen=f"{__version__}, Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}",
        ),
        _home(home),
        _disk(home),
        _storage(storage),
        _shipped(),
        *_models(models()),
        *(Finding(what=f"model {it.model}", state="warn", seen=it.what, fix=it.fix) for it in troubles),
        *(_key(*key) for key in keys),
        *(_source(*source) for source in sources),
        *_gpus(),
        *_exllamav2(),
        _llama_server(),
        _package("peft", "training of adapters", "pip install torch transformers peft"),
    ]


def _home(home: Path) -> Finding:
    mode = home.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding(
            what="home", state="warn", seen=f"{home} is open to others (mode {mode:o})", fix=f"chmod 700 {home}"
        )
    return Finding(what="home", state="ok", seen=str(home))


def _disk(home: Path) -> Finding:
    free = shutil.disk_usage(home).free
    seen = f"{free / 2**30:.1f} GiB free"
    if free < _LOW_DISK:
        return Finding(
            what="disk", state="warn", seen=seen, fix="make room: when it is full no task is accepted or started"
        )
    return Finding(what="disk", state="ok", seen=seen)


def _storage(storage: str) -> Finding:
    if storage != "working":
        return Finding(what="storage", state="missing", seen=f"the database is {storage}", fix="make room on the disk")
    return Finding(what="storage", state="ok", seen="the database takes writes")


def _shipped() -> Finding:
    missing = [what for what, there in (("themes", bool(themes())), ("examples", inbox().is_file())) if not there]
    if missing:
        return Finding(
            what="shipped files", state="missing", seen=f"no {' and no '.join(missing)}", fix="install aiwm again"
        )
    return Finding(what="shipped files", state="ok", seen="themes and examples are there")


def _models(models: Iterable[ModelRow]) -> list[Finding]:
    return [
        Finding(
            what=f"model {row.id}", state="warn", seen=f"{row.state}: {row.note}", fix=f"aiwm view ':events {row.id}'"
        )
        if row.state in ("failed", "backoff")
        else Finding(what=f"model {row.id}", state="ok", seen=f"{row.state} on {row.where}, {row.backend}")
        for row in models
    ]


def _key(name: str, status: str, note: str) -> Finding:
    seen = f"{status}: {note}" if note else status
    good = status == "Unknown" or (status == "Found" and not note)
    return Finding(what=f"key {name}", state="ok" if good else "warn", seen=seen, fix=None if good else "aiwm key list")


def _source(name: str, problem: str) -> Finding:
    if not problem:
        return Finding(what=f"source {name}", state="ok", seen="can be read")
    return Finding(what=f"source {name}", state="warn", seen=problem, fix=f"aiwm source show {name}")


def _gpus() -> list[Finding]:
    gpus = Gpus()
    found = gpus.look()
    if not found:
        seen = f"{gpus.note or 'no GPU'}: models run on the CPU"
        return [Finding(what="GPU", state="warn", seen=seen, fix="install NVIDIA's driver if there is a card")]
    return [
        Finding(what=gpu.id, state="ok", seen=f"{gpu.name}, {gpu.free / 2**30:.1f} of {gpu.total / 2**30:.1f} GiB free")
        for gpu in found
    ]


def _exllamav2() -> list[Finding]:
    """Everything that it lacks, each with its fix."""
    what = "exllamav2 (models on a GPU)"
    missing = availability.problems()
    if missing:
        return [Finding(what=what, state="warn", seen=problem.reason, fix=problem.fix) for problem in missing]
    return [Finding(what=what, state="ok", seen=availability.summary())]


def _llama_server() -> Finding:
    what, path = "llama-server (GGUF models)", shutil.which("llama-server")
    if path is None:
        return Finding(
            what=what, state="warn", seen="not in PATH", fix="install llama.cpp; needed for .gguf files only"
        )
    return Finding(what=what, state="ok", seen=path)


def _package(name: str, what: str, fix: str) -> Finding:
    if find_spec(name) is None:
        return Finding(what=what, state="warn", seen="not installed", fix=fix)
    return Finding(what=what, state="ok", seen="installed")
