"""An engine as a process: the commands that run one, how one is started, and what one that cannot run has said."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.home import log_path, make_home

# Imported where it is used, as in the client.
if TYPE_CHECKING:
    import subprocess


def engine_command(home: Path, *arguments: str) -> list[str]:
    """The command that runs an engine on a home. `-P` keeps the current folder's modules out of it."""
    return [sys.executable, "-P", "-m", "engine", "run", "--home", str(home), *arguments]


def replay_command(files: Sequence[str]) -> list[str]:
    """The command of an engine that plays a recording (a ring's files in their order) over its stdin and stdout."""
    return [sys.executable, "-P", "-m", "engine", "replay", *files, "--stdio"]


def spawn(home: Path, arguments: list[str], *, pipes: bool) -> tuple[subprocess.Popen[bytes], int]:
    """Start an engine in a session of its own: Ctrl-C and a closed terminal never reach it. Its stderr goes to its log, from the
    place that is returned on."""
    import subprocess

    try:
        make_home(home)
    except OSError as error:
        raise AiwmError(
            Code.config_invalid,
            f"{error.filename or home}: {error.strerror}",
            field="home",
            fix="choose another --home",
        ) from None
    ends = subprocess.PIPE if pipes else subprocess.DEVNULL
    with log_path(home, "engine").open("ab") as log:
        log_start = log.tell()
        process = subprocess.Popen(
            engine_command(home, *arguments), stdin=ends, stdout=ends, stderr=log, start_new_session=True, bufsize=0
        )
    return process, log_start


async def exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """How an engine that closed its pipe ended; None if it lives on."""
    import asyncio

    for _ in range(100):
        if process.poll() is not None:
            break
        await asyncio.sleep(0.05)
    return process.returncode


def died(home: Path, log_start: int) -> AiwmError | None:
    """The reason an engine wrote as the last line of its log before it exited. What lies before `log_start` is of other engines."""
    try:
        with log_path(home, "engine").open("rb") as log:
            log.seek(log_start)
            lines = log.read(65_536).splitlines()
    except OSError:
        return None
    reason = error_in(lines)
    if reason is not None:
        return reason
    tail = tuple(line.decode(errors="replace") for line in lines[-20:])
    return AiwmError(
        Code.engine_unreachable, "the engine did not start", fix=f"see {log_path(home, 'engine')}", stderr=tail
    )


def error_in(lines: Sequence[bytes]) -> AiwmError | None:
    """The last error that an engine wrote among its words, if it wrote one."""
    for line in reversed(lines):
        if line.startswith(b'{"v":1,"kind":"error"'):
            return AiwmError.of(msgspec.json.decode(line, type=ErrorInfo))
    return None
