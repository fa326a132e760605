"""Other programs built with Textual, each in an environment of its own, to be measured beside the console.

What they show is not what the console shows: posting an empty collection, harlequin an in-memory database, dolphie its dialog for a
host (there is none). They say what people are used to, the empty Textual app says what can be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks._terminal import Terminal


class Peer(msgspec.Struct, frozen=True):
    """`word` is on its first whole frame; `keys` are typed in turns and paint something each."""

    name: str
    requirements: tuple[str, ...]
    arguments: tuple[str, ...]
    word: str
    keys: tuple[bytes, bytes] = (b"a", b"b")


PEERS = (
    # posting 2.11 dies in tree-sitter 0.26 on its first frame.
    Peer("posting", ("posting", "tree-sitter<0.26"), ("default",), "Enter a URL"),
    Peer("harlequin", ("harlequin",), (), "Query Editor"),
    Peer("dolphie", ("dolphie",), ("--tab-setup",), "Connect to a Host"),
)


def installed(peer: Peer, folder: Path) -> bool:
    """Make its environment below `folder`, if it is not there; False when it cannot be had."""
    if (folder / peer.name / "bin" / peer.name).exists():
        return True
    steps = (
        [sys.executable, "-m", "venv", str(folder / peer.name)],
        [str(folder / peer.name / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", *peer.requirements],
    )
    return all(subprocess.run(step, check=False).returncode == 0 for step in steps)


def version(peer: Peer, folder: Path) -> str:
    """Its version and that of its Textual."""
    code = f"from importlib.metadata import version as v; print(v('{peer.name}'), 'on Textual', v('textual'))"
    ran = subprocess.run(
        [str(folder / peer.name / "bin" / "python"), "-c", code], capture_output=True, text=True, check=False
    )
    return ran.stdout.strip() or "not installed"


def started(peer: Peer, folder: Path) -> Terminal:
    """It on a terminal, with a home of its own."""
    house = folder / f"{peer.name}-home"
    house.mkdir(exist_ok=True)
    environment = {"HOME": str(house), "PATH": os.environ["PATH"]}
    return Terminal([str(folder / peer.name / "bin" / peer.name), *peer.arguments], cwd=house, environment=environment)
