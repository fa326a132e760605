"""What an engine that has no use for it does not import: every start would wait for it."""

from __future__ import annotations

import subprocess
import sys

_LATE = (
    "engine.inference.remote.hybrid",
    "engine.inference.remote.model",
    "fastapi",
    "httpx",
    "jsonschema_rs",
    "llguidance",
    "numpy",
    "pynvml",
    "sqlite_utils",
    "tokenizers",
    "torch",
)


def test_an_engine_starts_without_what_it_may_never_need() -> None:
    program = f"import sys, engine.host; print([name for name in {_LATE!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
