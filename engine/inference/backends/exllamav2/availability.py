"""Whether exllamav2 can run on this machine, and the fix for what is missing. Imports neither torch nor exllamav2."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from engine.inference.backends.exllamav2 import toolkit
from engine.inference.memory.gpus import Gpus

INSTALL = "pipx install 'aiwm-console[gpu]'"
EXTENSION = "exllamav2_ext"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps exllamav2 from running here, and what to do about it."""

    reason: str
    fix: str


def problems() -> tuple[Problem, ...]:
    """Everything that is missing, what the rest depends on first. Empty: it can run, though its extension may have to be built first."""
    return tuple(problem for problem in (_package(), _torch(), _device(), _extension()) if problem is not None)


def summary() -> str:
    """What there is, where nothing is missing."""
    built = find_spec(EXTENSION) is not None or toolkit.built_before()
    extension = "its extension is built" if built else "its extension is built at the first load, in some minutes"
    return f"exllamav2 {version('exllamav2')} with torch {torch_build()[0]}; {extension}"


def _package() -> Problem | None:
    if find_spec("exllamav2") is None:
        return Problem("exllamav2 is not installed", INSTALL)
    return None


def _torch() -> Problem | None:
    if find_spec("torch") is None:
        return Problem("torch is not installed", INSTALL)
    number, cuda = torch_build()
    if cuda is None:
        return Problem(
            f"torch {number} was built without CUDA", "install torch's CUDA build: pip install --force-reinstall torch"
        )
    return None


def torch_build() -> tuple[str, str | None]:
    """(torch's version, the CUDA version it was built for), read from its files: importing it takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return "", None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return "", None
    number = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b.*= '([0-9.]+)'", text, re.MULTILINE)
    return number[1] if number else "", cuda[1] if cuda else None


def _device() -> Problem | None:
    if os.environ.get("CUDA_VISIBLE_DEVICES", "x").strip() in ("", "-1"):
        return Problem("CUDA_VISIBLE_DEVICES hides every GPU", "unset CUDA_VISIBLE_DEVICES")
    gpus = Gpus()
    if not gpus.look():
        return Problem(
            gpus.note or "there is no GPU",
            "install NVIDIA's driver if there is a card; until then models run on the CPU or on servers",
        )
    return None


def _extension() -> Problem | None:
    """exllamav2 brings its kernels as source: they were built before, or there is what builds them."""
    if find_spec(EXTENSION) is not None or toolkit.built_before():
        return None
    found = toolkit.find()
    _, cuda = torch_build()
    if found is None:
        wanted = f" {cuda}" if cuda else ""
        return Problem(
            "exllamav2's extension is not built, and the CUDA compiler nvcc, which builds it, was not found",
            f"install the CUDA toolkit{wanted} (nvcc) or set CUDA_HOME to where it is",
        )
    if cuda is not None and found.version and found.version.split(".")[0] != cuda.split(".")[0]:
        return Problem(
            f"nvcc is of CUDA {found.version}, torch of CUDA {cuda}: what one builds the other cannot load",
            f"install the CUDA toolkit {cuda} and set CUDA_HOME to where it is",
        )
    if shutil.which("g++") is None:
        return Problem("exllamav2's extension is not built, and there is no g++ to build it", "apt install g++")
    if shutil.which("ninja") is None and not (Path(sys.executable).parent / "ninja").exists():
        return Problem("exllamav2's extension is not built, and there is no ninja to build it", "pip install ninja")
    return None
