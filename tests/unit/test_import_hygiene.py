"""What each command may import, seen in a process of its own; and that the ready-made help is what typer would print."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiwm_tui.cli import help_text
from aiwm_tui.cli.quick import home_path, status_options
from engine.contract.requests.tasks import TaskPage
from engine.home import default_home
from tests.support.cli import STATUS
from tests.support.fake_engine import FakeEngine

ROOT = Path(__file__).parents[2]
# The modules that are there after the command has run, as one line on stderr.
_SPY = "import sys, atexit; atexit.register(lambda: sys.stderr.write('\\n' + ' '.join(sys.modules))); "
_RUN = (
    _SPY
    + "sys.path.insert(0, {root!r}); sys.argv[1:] = {arguments!r}; from aiwm_tui.main import main; sys.exit(main())"
)


@pytest.fixture
def engine(home: Path) -> Iterator[FakeEngine]:
    fake = FakeEngine(home, {"engine.status": STATUS, "task.list": TaskPage(rows=[], total=0)})
    yield fake
    fake.close()


def _modules(*arguments: str, code: int = 0) -> tuple[str, set[str]]:
    script = _RUN.format(root=str(ROOT), arguments=list(arguments))
    ran = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
    return ran.stdout, set(ran.stderr.rpartition("\n")[2].split())


HEAVY = {"textual", "rich", "typer", "numpy", "torch", "asyncio", "msgspec", "sqlite3"}


def test_version_imports_nothing() -> None:
    out, modules = _modules("--version")
    assert out.startswith("aiwm ")
    assert not modules & (HEAVY | {"json", "re", "typing", "enum", "pathlib", "socket"})
    assert {name for name in modules if name.startswith(("engine", "aiwm_tui"))} == {
        "engine",
        "aiwm_tui",
        "aiwm_tui.main",
    }


def test_help_imports_nothing() -> None:
    out, modules = _modules("--help")
    assert out == help_text.HELP.read_text("utf-8")
    assert not modules & (HEAVY | {"json", "re", "typing", "enum", "pathlib", "socket"})


def test_engine_status_imports_nothing_heavy(engine: FakeEngine) -> None:
    out, modules = _modules("engine", "status", "--home", str(engine.home))
    assert out == "well\n"
    assert not modules & HEAVY
    out, modules = _modules("engine", "status", "--home", str(engine.home), "--json")
    assert '"kind": "engine"' in out
    assert not modules & HEAVY
    _, modules = _modules("engine", "status", "--home", str(engine.home / "none"), code=3)
    assert not modules & HEAVY


def test_task_list_imports_no_console_and_no_engine(engine: FakeEngine) -> None:
    _, modules = _modules("task", "list", "--home", str(engine.home), "--json")
    assert not modules & {"textual", "torch", "sqlite_utils", "sqlite3", "numpy", "aiosqlite", "jinja2", "tokenizers"}
    rooms = {name.split(".")[1] for name in modules if name.startswith("engine.")}
    assert rooms <= {"contract", "client", "home", "wire", "resources"}


def test_the_ready_made_help_is_what_typer_prints() -> None:
    assert help_text.HELP.read_text("utf-8") == help_text.render(), "run python -m aiwm_tui.cli.help_text"


@pytest.mark.parametrize(
    ("arguments", "answered"),
    [
        (["engine", "status"], True),
        (["engine", "status", "--json"], True),
        (["--home", "/h", "engine", "status"], True),
        (["engine", "status", "--home=/h"], True),
        (["engine", "status", "--help"], False),
        (["engine", "status", "--home"], False),
        (["task", "run", "status"], False),
    ],
)
def test_the_quick_path_takes_only_what_it_knows(arguments: list[str], answered: bool) -> None:
    assert (status_options(arguments) is not None) is answered


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"AIWM_HOME": "/a/b"},
        {"AIWM_HOME": "~/c"},
        {"AIWM_HOME": "rel/x"},
        {"AIWM_HOME": ""},
        {"XDG_DATA_HOME": "/d"},
    ],
)
def test_the_quick_home_is_the_home(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIWM_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert home_path(None) == str(default_home())


def test_a_home_with_a_long_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A directory of the user's own, and short: pytest's are neither.
    runtime = tempfile.TemporaryDirectory(prefix="aiwm-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime.name)
    home = tmp_path / ("x" * 120)
    engine = FakeEngine(home, {"engine.status": STATUS})
    try:
        out, _ = _modules("engine", "status", "--home", str(home))
        assert out == "well\n"
    finally:
        engine.close()
        runtime.cleanup()


def test_grammars_are_loaded_by_a_bound_request_and_by_nothing_else() -> None:
    script = "; ".join(
        (
            "import sys, engine.host, engine.workers.kinds.goat",
            "from engine.inference.backends.reference.backend import ReferenceBackend",
            "from engine.inference.backends.base import LoadSpec, Request",
            "from engine.inference.names import SHIPPED",
            "backend = ReferenceBackend()",
            "backend.load(LoadSpec(SHIPPED / 'aiwm-nano', 1))",
            "backend.prepare(Request('a', prompt='x'))",
            "assert not {'llguidance', 'jsonschema_rs'} & set(sys.modules)",
            "backend.prepare(Request('b', prompt='x', schema={}))",
            "assert 'llguidance' in sys.modules and 'jsonschema_rs' not in sys.modules",
        )
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
