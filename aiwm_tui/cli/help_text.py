"""Writes `help.txt`, the ready-made answer to `aiwm --help`: run this module after changing a command's name or help."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

HELP = Path(__file__).with_name("help.txt")


def render() -> str:
    """What typer itself would print for `aiwm --help` on a terminal of 80 columns."""
    import typer

    from aiwm_tui.cli.app import build

    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        root: Any = typer.main.get_command(build())
        text: str = root.get_help(root.make_context("aiwm", [], resilient_parsing=True))
    finally:
        if width is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = width
    return text.rstrip("\n") + "\n"


if __name__ == "__main__":
    HELP.write_text(render(), encoding="utf-8")
