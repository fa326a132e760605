"""exllamav2's compiled part: imported if it is installed, else built once for each combination of versions and GPU, and kept.

exllamav2 would build it by itself at its first import, but with torch's lock, which a killed build leaves behind and every later
import then waits for without end; and it would ask for a compiler again at every start. So it is built here, under a lock of the kernel
that ends with its holder, and loaded straight from its file afterwards."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.base import Progress
from engine.inference.backends.exllamav2 import toolkit
from engine.inference.backends.exllamav2.availability import EXTENSION

BUILT = "built"  # a file in the folder of a build that is whole
JOB_BYTES = 3 * 2**30  # what one compiler takes at most
POLL = 1.0  # seconds between two looks at how far a build is
CPP20_FROM = (13, 3)  # from this CUDA on, nvcc misreads torch's headers in C++17 (exllamav3's pull request 360)


def load_extension(progress: Progress) -> None:
    """Make `import exllamav2_ext` work, building it first if need be (minutes). Raises backend_unavailable."""
    if EXTENSION in sys.modules or importlib.util.find_spec(EXTENSION) is not None:
        return
    folder = toolkit.builds() / "-sm".join([toolkit.versions(), *(name.replace(".", "") for name in _architectures())])
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "aiwm.lock", folder, progress):
        if (folder / BUILT).exists():
            sys.modules[EXTENSION] = _import(folder / f"{EXTENSION}.so")
        else:
            sys.modules[EXTENSION] = _build(folder, progress)


def _architectures() -> list[str]:
    """The compute capabilities of all GPUs, such as "9.0": the extension is built for each, as none runs what is built for another."""
    import torch

    found = {torch.cuda.get_device_capability(number) for number in range(torch.cuda.device_count())}
    return [f"{major}.{minor}" for major, minor in sorted(found)]


@contextmanager
def _locked(path: Path, folder: Path, progress: Progress) -> Iterator[BinaryIO]:
    """Hold the lock of a build; while another process holds it, tell how far that one is."""
    with path.open("wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress("another process builds exllamav2's extension", _share(folder))
                time.sleep(POLL)
        yield file


def _sources() -> list[Path]:
    spec = importlib.util.find_spec("exllamav2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / EXTENSION
    return sorted([*folder.rglob("*.cpp"), *folder.rglob("*.cu")])


def _share(folder: Path) -> float:
    """How much of a build is done, by the files that it made."""
    return min(1.0, len(list(folder.glob("build-*/*.o"))) / max(1, len(_sources())))


def _build(folder: Path, progress: Progress) -> ModuleType:
    """Compile in a thread, and tell how far it is from this one. We hold the lock, so what lies there of other builds is of killed ones,
    whose compilers may still be running: without their folder they end."""
    found = toolkit.find()
    if found is None:
        raise AiwmError(
            Code.backend_unavailable,
            "exllamav2's extension must be built, and the CUDA compiler nvcc was not found",
            field="backend",
            fix="install the CUDA toolkit or set CUDA_HOME to where it is",
        )
    for left in folder.glob("build-*"):
        shutil.rmtree(left, ignore_errors=True)
    place = folder / f"build-{os.getpid()}"
    _prepare_environment(toolkit.merge(found, place / "cuda_home"))
    started = time.monotonic()
    with ThreadPoolExecutor(1, thread_name_prefix="build") as pool:
        module = pool.submit(_compile, place, found)
        while not wait([module], timeout=POLL).done:
            share = _share(folder)
            progress(_words(share, time.monotonic() - started), share)
    try:
        built = module.result()
    except Exception as error:
        print(error, file=sys.stderr)
        raise AiwmError(
            Code.backend_unavailable,
            f"exllamav2's extension could not be built: {_last_lines(str(error))}",
            field="backend",
            fix="install the CUDA toolkit that torch was built for, and g++; the process's log has the compiler's whole output",
        ) from error
    (place / f"{EXTENSION}.so").replace(folder / f"{EXTENSION}.so")
    (folder / BUILT).touch()
    shutil.rmtree(place, ignore_errors=True)
    return built


def _words(share: float, seconds: float) -> str:
    words = f"building exllamav2's extension, {share:.0%}"
    if share < 0.1:
        return words
    return f"{words}, about {seconds / share * (1 - share) / 60 + 0.5:.0f} min left"


def _prepare_environment(cuda_home: Path) -> None:
    import psutil
    from torch.utils import cpp_extension

    os.environ["CUDA_HOME"] = str(cuda_home)
    cpp_extension.CUDA_HOME = str(cuda_home)  # it looked at the environment when it was imported
    os.environ["TORCH_CUDA_ARCH_LIST"] = ";".join(_architectures())
    jobs = min(os.cpu_count() or 1, int(psutil.virtual_memory().available // JOB_BYTES))
    os.environ["MAX_JOBS"] = str(max(1, jobs))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # has ninja


def _compile(folder: Path, found: toolkit.Toolkit) -> ModuleType:
    """Compile what changed and import it. The flags are exllamav2's own (ext.py)."""
    from torch.utils import cpp_extension

    number = tuple(int(part) for part in found.version.split(".")) if found.version else (0, 0)
    standard = ["-std=c++20"] if number >= CPP20_FROM else []
    sources = _sources()
    root = next(path for path in sources[0].parents if path.name == EXTENSION)
    module: ModuleType = cpp_extension.load(
        name=EXTENSION,
        sources=[str(path) for path in sources],
        extra_include_paths=[str(root)],
        extra_cflags=["-Ofast", *standard],
        extra_cuda_cflags=["-lineinfo", "-O3", *standard],
        build_directory=str(folder),
        verbose=False,
    )
    return module


def _last_lines(text: str, count: int = 3) -> str:
    return " / ".join([line.strip() for line in text.splitlines() if line.strip()][-count:])


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(EXTENSION, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise AiwmError(
            Code.backend_unavailable,
            f"exllamav2's extension {path} cannot be loaded: {error}",
            field="backend",
            fix=f"delete {path.parent}: it is built again at the next load",
        ) from error
    return module
