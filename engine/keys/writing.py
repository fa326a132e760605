"""`python -P -m engine key`: write the vault. A process of its own, so that a key travels through a pipe to a file and nowhere else."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError
from engine.home import default_home, make_home
from engine.keys.vault import Vault
from engine.secret import Secret


class Change(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What stdin says, as one JSON object: the vault's passphrase and the key, or null to remove it."""

    passphrase: str
    key: str | None = None


def main(arguments: list[str]) -> int:
    """Exit codes: 0 written, 1 failed; then stderr has the error as one JSON object."""
    parser = argparse.ArgumentParser(prog="engine key", description="Write one key of the home's vault, from stdin.")
    parser.add_argument("name")
    parser.add_argument("--home", type=Path, default=None)
    parsed = parser.parse_args(arguments)
    home = (parsed.home or default_home()).expanduser().absolute()
    try:
        change = msgspec.json.decode(sys.stdin.buffer.read(), type=Change)
    except NOT_JSON:
        print("engine key: stdin is not what `aiwm key set` writes", file=sys.stderr)
        return 2
    try:
        make_home(home)
        Vault(home).change(Secret(change.passphrase), lambda keys: _apply(keys, parsed.name, change.key))
    except AiwmError as error:
        sys.stderr.buffer.write(msgspec.json.encode(error.info) + b"\n")
        return 1
    return 0


def _apply(keys: dict[str, str], name: str, key: str | None) -> None:
    if key is None:
        keys.pop(name, None)
    else:
        keys[name] = key
