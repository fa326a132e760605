"""The command line as a shell runs it, on a home with a real engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.cli import Ran

AIWM = [sys.executable, "-P", "-m", "aiwm_tui.main"]


def shell(home: Path, *arguments: str, code: int | None = 0, timeout_s: float = 60.0) -> Ran:
    """Run a command line; AssertionError with what it said unless it ends with `code` (None: any)."""
    ran = subprocess.run(
        [*AIWM, *arguments, "--home", str(home)], capture_output=True, text=True, check=False, timeout=timeout_s
    )
    assert code is None or ran.returncode == code, f"{arguments}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    return Ran(ran.returncode, ran.stdout, ran.stderr)
