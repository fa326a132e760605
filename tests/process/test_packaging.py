"""The wheel: what is in it, and that it works where nothing else of ours is, in a folder with traps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder whose modules must not be taken for ours."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("engine.py", "textual.py", "queue.py", "aiwm_tui.py"):
        (folder / name).write_text("raise SystemExit('a module of the current folder was imported')\n")
    return folder


def test_the_wheel_has_what_runs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "engine/data/config.toml",
        "engine/data/themes/dark.toml",
        "engine/data/examples/inbox.jsonl",
        "engine/inference/shipped/aiwm-nano/model.safetensors",
        "engine/py.typed",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith(("training/", "tests/", "benchmarks/"))]
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_works_beside_traps(wheel: Path, trap: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)],
        check=True,
        timeout=120,
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "AIWM_HOME": str(tmp_path / "h")}
    script = "import sys; from aiwm_tui.main import main; sys.argv[0] = 'aiwm'; sys.exit(main())"
    command = [sys.executable, "-P", "-c", script, "task", "run", "echo", "--payload", '{"x": 1}', "--json"]
    done = subprocess.run(command, cwd=trap, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["result"] == {"x": 1}
    where = [sys.executable, "-P", "-c", "import engine; print(engine.__file__)"]
    assert (
        str(site) in subprocess.run(where, cwd=trap, env=environment, capture_output=True, text=True, check=True).stdout
    )


@pytest.mark.slow
def test_the_wheel_installs_into_an_empty_environment_without_torch_or_compiler(
    wheel: Path, trap: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "empty"
    venv.create(folder, with_pip=True)
    before = _size(folder)
    environment = {**os.environ, "CC": "/bin/false", "CXX": "/bin/false", "AIWM_HOME": str(tmp_path / "h")}
    environment.pop("PYTHONPATH", None)
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--only-binary", ":all:", str(wheel)]
    subprocess.run(install, check=True, env=environment, timeout=600)
    assert not (folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages" / "torch").exists()
    assert _size(folder) - before <= 200 * 2**20
    aiwm = str(folder / "bin" / "aiwm")
    command = [aiwm, "demo", "--headless", "--tasks", "12", "--json"]
    done = subprocess.run(command, cwd=trap, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["completed"] == 12


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
