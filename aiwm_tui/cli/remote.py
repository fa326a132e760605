"""`aiwm --ssh HOST`: the console here, the engine there; and every other command there.

The protocol is lines over a pipe, and ssh carries pipes: nothing listens anywhere for this."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.contract.errors import AiwmError, Code

_OPTIONS = ("-o", "BatchMode=yes", "-o", "ServerAliveInterval=15")
"""It must not ask for a password on a terminal that is the console's, and a dead line must be noticed."""


def ssh_command(host: str, words: Sequence[str], home: Path | None = None, *, terminal: bool = False) -> list[str]:
    """The command that runs `aiwm WORDS` on a host. Raises `bad_request` for what ssh would take for an option."""
    if not host or host.startswith("-") or any(character.isspace() for character in host):
        raise AiwmError(Code.bad_request, f'"{host[:80]}" is no host', field="--ssh", fix="HOST, or USER@HOST")
    there = ["aiwm", *words, *(["--home", str(home)] if home is not None else [])]
    try:
        program = shlex.split(os.environ.get("AIWM_SSH", "")) or ["ssh"]
    except ValueError as error:
        text = f"AIWM_SSH is no command: {error}"
        raise AiwmError(Code.config_invalid, text, field="AIWM_SSH", fix="AIWM_SSH='ssh -p 2222'") from None
    asks = ("-t",) if terminal else ()
    return [*program, *_OPTIONS, *asks, host, "--", shlex.join(there)]


def run_there(host: str, arguments: Sequence[str]) -> None:
    """Replace this process by the same command on the host."""
    words = list(arguments)
    at = next(place for place, word in enumerate(words) if word == "--ssh" or word.startswith("--ssh="))
    del words[at : at + (2 if words[at] == "--ssh" else 1)]
    command = ssh_command(host, words, terminal=sys.stdin.isatty() and sys.stdout.isatty())
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise AiwmError(Code.engine_unreachable, f"{command[0]} cannot be started: {error.strerror}") from None
