"""`aiwm key`: API keys. Their texts come from a terminal or a pipe and go into the vault; none is ever printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.exit_codes import ExitCode
from engine.contract.errors import NOT_JSON, AiwmError, Code, ErrorInfo
from engine.contract.requests.keys import KeyCheck, KeyList

_PASSPHRASE = "AIWM_VAULT_PASSPHRASE"

Name = Annotated[str, typer.Argument(metavar="NAME", help="the key's name in config.toml", show_default=False)]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", metavar="FILE", help="a 0600 file with the vault's passphrase", show_default=False
    ),
]


def add(app: typer.Typer) -> None:
    noun = group(app, "key", "API keys: which there are, whether they are found, to which hosts they may go.")
    plain(noun, KeyList)
    command(noun, "check", KeyCheck)(_check)
    command(noun, "set")(_set)
    command(noun, "remove")(_remove)


def _check(cli: Cli, request: KeyCheck) -> int:
    """Look for one API key now, in the vault too. Exit code: 0 found, 1 not. JSON: kind key."""
    row = cli.call(request)

    def people() -> str:
        from aiwm_tui.live.text import clean

        return clean(f"{row.id}  {row.status}  {row.note}").rstrip()

    cli.output.one("key", row, people)
    return ExitCode.ok if row.status == "Found" else ExitCode.failed


def _set(cli: Cli, *, name: Name, passphrase_file: PassphraseFile = None) -> int:
    """Put an API key into the home's encrypted vault. It is asked for on a terminal, or read from stdin.

    The passphrase comes from AIWM_VAULT_PASSPHRASE, --passphrase-file, or is asked for."""
    key = _hidden(f"the key {name}: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not key:
        raise AiwmError(Code.bad_request, "no key was given", field="name", fix=f"aiwm key set {name} < FILE")
    _write(cli, name, key, _passphrase(passphrase_file, new=not (cli.home / "keys.vault").exists()))
    cli.output.talk(
        f'{name} is in the vault; [keys.{name}] in config.toml needs method = "vault" and hosts'
        f" (read when the engine starts; aiwm key check {name})"
    )
    return ExitCode.ok


def _remove(cli: Cli, *, name: Name, passphrase_file: PassphraseFile = None) -> int:
    """Remove an API key from the vault."""
    _write(cli, name, None, _passphrase(passphrase_file, new=False))
    cli.output.talk(f"{name} is not in the vault any more")
    return ExitCode.ok


def _write(cli: Cli, name: str, key: str | None, passphrase: str) -> None:
    """In a process of the engine's, through a pipe: neither argument lists nor environments show what goes through it."""
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "engine", "key", name, "--home", str(cli.home)],
        input=msgspec.json.encode({"passphrase": passphrase, "key": key}),
        capture_output=True,
        check=False,
    )
    if ran.returncode == 0:
        return
    try:
        raise AiwmError.of(msgspec.json.decode(ran.stderr, type=ErrorInfo))
    except NOT_JSON:
        raise AiwmError(Code.internal, "the vault was not written", fix=f"aiwm key check {name}") from None


def _passphrase(file: Path | None, *, new: bool) -> str:
    found = os.environ.get(_PASSPHRASE, "")
    if file is not None:
        lines = file.read_text("utf-8").splitlines()
        found = lines[0].strip() if lines else ""
    if not found and sys.stdin.isatty():
        found = _hidden("the vault's passphrase: ")
        if new and found and _hidden("once more: ") != found:
            raise AiwmError(Code.bad_request, "the two passphrases differ; nothing was written", field="passphrase")
    if not found:
        raise AiwmError(
            Code.bad_request,
            "the vault needs a passphrase",
            field="passphrase",
            fix=f"{_PASSPHRASE}, or --passphrase-file",
        )
    return found


def _hidden(prompt: str) -> str:
    from getpass import getpass

    return getpass(prompt, stream=sys.stderr).strip()
