"""The CUDA toolkit that builds exllamav2's extension: where it is, and a CUDA_HOME that has everything.

Toolkits come in parts. torch's headers include those of cuBLAS, cuSPARSE and others, which a toolkit of only a compiler does not
bring, but the packages that torch depends on do (`nvidia/cu13/include`, `nvidia/*/include`). So a folder of links joins both."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ASKING = 10.0  # seconds for which nvcc may take to say what it is


@dataclass(frozen=True, slots=True)
class Toolkit:
    """`root` has bin/nvcc. `version` such as "13.0", empty if it does not say."""

    root: Path
    version: str


def site_packages() -> Path:
    return Path(sysconfig.get_path("purelib"))


def find() -> Toolkit | None:
    """The first toolkit of: CUDA_HOME, CUDA_PATH, the nvcc on PATH, /usr/local/cuda*, the packages of this environment."""
    for root in _candidates():
        if (root / "bin" / "nvcc").exists():
            return Toolkit(root, _version(root))
    return None


def _candidates() -> Iterator[Path]:
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    on_path = shutil.which("nvcc")
    if on_path is not None:
        yield _root_of(Path(on_path))
    yield Path("/usr/local/cuda")
    yield from sorted(Path("/usr/local").glob("cuda-*"), reverse=True)
    yield from sorted(site_packages().glob("nvidia/cu*"), reverse=True)


def _root_of(nvcc: Path) -> Path:
    """An nvcc on PATH may be a link or a script that calls the real one: it says itself where it is."""
    root = nvcc.resolve().parent.parent
    if (root / "nvvm").is_dir():
        return root
    with tempfile.NamedTemporaryFile(suffix=".cu") as empty:
        text = _ask(nvcc, "--dryrun", empty.name)
    here = re.search(r"^#\$ _HERE_=(.+)$", text, re.MULTILINE)
    return Path(here[1]).parent if here else root


def _version(root: Path) -> str:
    found = re.search(r"release (\d+\.\d+)", _ask(root / "bin" / "nvcc", "--version"))
    return found[1] if found else ""


def _ask(nvcc: Path, *words: str) -> str:
    try:
        answer = subprocess.run([str(nvcc), *words], capture_output=True, text=True, timeout=_ASKING, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout + answer.stderr


def merge(toolkit: Toolkit, target: Path) -> Path:
    """A CUDA_HOME of links: the toolkit, and of this environment's CUDA packages the headers and libraries that it lacks. The toolkit's
    own come first: its compiler must see the headers of its own version."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("bin", "nvvm"):
        if (toolkit.root / name).exists():
            (target / name).symlink_to(toolkit.root / name)
    packages = sorted(path for path in site_packages().glob("nvidia/*") if path.is_dir())
    _link_all(target / "include", [toolkit.root / "include", *(package / "include" for package in packages)])
    _link_all(target / "lib64", [toolkit.root / "lib64", *(package / "lib" for package in packages)])
    for library in sorted((target / "lib64").glob("*.so.*")):
        plain = library.with_name(library.name.split(".so.")[0] + ".so")  # what a linker asks for; packages lack it
        if not plain.exists():
            plain.symlink_to(library.resolve())
    return target


def _link_all(folder: Path, sources: list[Path]) -> None:
    folder.mkdir()
    for source in sources:
        for entry in sorted(source.iterdir()) if source.is_dir() else ():
            link = folder / entry.name
            if not link.is_symlink():
                link.symlink_to(entry)


def builds() -> Path:
    """Where built extensions are kept, one folder for each combination of versions and GPU."""
    from platformdirs import user_cache_path

    return user_cache_path("aiwm") / "exllamav2"


def versions() -> str:
    """What an extension is built for and must match, as a folder's name."""
    named = []
    for package in ("exllamav2", "torch"):
        try:
            named.append(f"{package}-{version(package)}")
        except PackageNotFoundError:
            named.append(f"{package}-none")
    return "-".join([*named, sysconfig.get_config_var("SOABI") or "python"])


def built_before() -> bool:
    """Whether an extension for these versions was built here, for any GPU."""
    return any(builds().glob(f"{versions()}-*/built"))
