"""What shells are offered: by words alone here; by a real shell and a real engine in tests/process/test_completion_shells.py."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiwm_tui.cli import completing, words
from aiwm_tui.cli.completing import DIRECTORIES, FILES, candidates, complete, split
from engine.contract.requests.session import ViewRead, Welcome
from tests.support.fake_engine import FakeEngine

ROWS = {
    ":tasks": [
        {"id": "t-10002", "state": "failed", "queue": "etl"},
        {"id": "t-10001", "state": "completed", "queue": "demo"},
    ],
    ":tasks id:t-10001*": [{"id": "t-10001", "state": "completed", "queue": "demo"}],
    ":queues": [
        {"id": "demo", "state": "open"},
        {"id": "etl", "state": "paused"},
        {"id": "a$(reboot)", "state": "open"},
    ],
    ":models": [
        {"id": "nano.0", "model": "nano", "state": "ready"},
        {"id": "nano.1", "model": "nano", "state": "busy"},
    ],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The homes and locations that were asked for; the answers are ROWS."""
    seen: list[tuple[str, str]] = []

    def ask(home: str, requests: list[tuple[str, dict[str, Any]]], timeout_s: float) -> bytes:
        location = str(requests[-1][1]["location"])
        seen.append((home, location))
        return json.dumps({"id": 2, "result": {"rows": ROWS.get(location, [])}}).encode()

    monkeypatch.setattr(completing, "ask", ask)
    return seen


def offered(line: str) -> list[str]:
    typed, _ = split(line)
    return [word for word, _ in candidates(typed[1:])[0]]


def test_the_ready_made_words_are_those_of_the_commands() -> None:
    assert words.WORDS.read_text("utf-8") == words.render(), "run make help-text"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("aiwm qu", ["queue"]),
        ("aiwm queue sh", ["show"]),
        ("aiwm queue create x --dura", ["--durability"]),
        ("aiwm queue create x --durability ", ["disk", "os", "memory"]),
        ("aiwm queue create x --durability=d", ["--durability=disk"]),
        ("aiwm completion z", []),
        ("aiwm config set console.th", ["console.theme"]),
        ("aiwm call queue.sh", ["queue.show"]),
        ("aiwm view :dev", [":devices"]),
        ("aiwm view 'qu", [":queues"]),
        ("aiwm view ':tasks state:failed,comp", [":tasks state:failed,completed"]),
        ("aiwm view ':queues !na", [":queues !name:"]),
        ("aiwm view :tasks sort:-prio", ["sort:-prio", "sort:-priority"]),
        ("aiwm view :tasks state:sch", ["state:scheduled"]),
        ("aiwm task list state:comp", ["state:completed"]),
        ("aiwm task retry --where 'is:f", ["is:fault"]),
        ("aiwm nonsense ", []),
        ("aiwm task show t-1 ", []),
    ],
)
def test_words(asked: list[Any], line: str, expected: list[str]) -> None:
    assert offered(line) == expected
    assert not asked


@pytest.mark.parametrize(
    ("line", "expected", "location"),
    [
        ("aiwm task show ", ["t-10002", "t-10001"], ":tasks"),
        ("aiwm task show t-10001", ["t-10001"], ":tasks id:t-10001*"),
        ("aiwm task cancel t-10002 ", ["t-10001"], ":tasks"),
        ("aiwm queue pause e", ["etl"], ":queues"),
        ("aiwm task submit ", ["demo", "etl"], ":queues"),
        ("aiwm task move t-1 --queue d", ["demo"], ":queues"),
        ("aiwm view :queues/", [":queues/demo", ":queues/etl"], ":queues"),
        ("aiwm try n", ["nano"], ":models"),
        ("aiwm logs nano.", ["nano.0", "nano.1"], ":models"),
        ("aiwm why ':queues/e", [":queues/etl"], ":queues"),
    ],
)
def test_rows_of_the_engine(asked: list[Any], line: str, expected: list[str], location: str) -> None:
    assert offered(line) == expected
    assert [where for _, where in asked] == [location]


def test_the_home_is_the_one_that_was_typed(asked: list[Any]) -> None:
    offered("aiwm --home /a queue show ")
    offered("aiwm queue show --home=/b ")
    offered("aiwm queue --home /c show x --json --home /d ")
    assert [home for home, _ in asked] == ["/a", "/b"]
    assert [word for word, _ in candidates(["--home", "/d", "queue", "pause", ""])[0]] == ["demo", "etl"]
    assert asked[-1][0] == "/d"


def test_files_are_the_shells_business() -> None:
    assert candidates(["task", "submit", "--file", "x"]) == ([], FILES)
    assert candidates(["--home", "x"]) == ([], DIRECTORIES)


def test_bash_gets_what_stands_behind_its_word_breaks(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert complete(["bash", "aiwm view :queues/d"]) == 0
    assert capsys.readouterr().out == "queues/demo\topen\n"
    complete(["bash", "aiwm view ':queues/d"])
    assert capsys.readouterr().out == ":queues/demo\topen\n"
    complete(["bash", "aiwm task list prior"])
    assert capsys.readouterr().out == "priority\\>\n"
    complete(["fish", "task", "list", "prior"])
    assert capsys.readouterr().out == "priority>\n"


def test_a_name_that_a_shell_would_run_is_not_offered(asked: list[Any]) -> None:
    assert offered("aiwm queue show a") == []
    assert offered("aiwm queue show 'a$(") == []


@pytest.mark.parametrize(
    "answer", [b"", b"{}", b"[]", b'{"result": 3}', b'{"error": {}}', b'{"result": {"rows": [3]}}', b"\xff"]
)
def test_an_answer_that_is_none_offers_nothing(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(completing, "ask", lambda *_: answer)
    assert offered("aiwm task show ") == []


@pytest.fixture
def engine(home: Path) -> Iterator[FakeEngine]:
    welcome = Welcome(protocol=1, version="0", home=str(home), pid=1, epoch=1, host="h", read_only=True)
    rows = {"view": "", "seq": 0, "location": "", "table": "queues", "top": 0, "matched": 1, "total": 1}
    fake = FakeEngine(home, {"engine.hello": welcome, ViewRead.method: rows | {"rows": ROWS[":queues"]}})
    yield fake
    fake.close()


_SPY = "import sys, atexit; atexit.register(lambda: sys.stderr.write(' '.join(sys.modules))); "
_RUN = _SPY + "from aiwm_tui.main import main; sys.argv[1:] = {arguments!r}; sys.exit(main())"


def _answer(*arguments: str) -> tuple[str, set[str], float]:
    script = _RUN.format(arguments=["__complete", *arguments])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ran.stdout, set(ran.stderr.split()), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_it_is_quick_and_loads_nothing(engine: FakeEngine) -> None:
    out, modules, _ = _answer("fish", "--home", str(engine.home), "queue", "show", "")
    assert out == "demo\topen\netl\tpaused\n"
    assert not modules & {"textual", "rich", "typer", "msgspec", "asyncio", "numpy", "sqlite3", "typing"}


def test_nothing_is_started_or_made_where_no_engine_runs(tmp_path: Path) -> None:
    out, _, _ = _answer("fish", "--home", str(tmp_path / "none"), "queue", "show", "")
    assert out == ""
    assert not (tmp_path / "none").exists()


def test_it_costs_little_more_than_python_itself(engine: FakeEngine) -> None:
    def bare() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-P", "-c", "pass"], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    cost = min(_answer("fish", "--home", str(engine.home), "queue", "show", "")[2] for _ in range(3))
    assert cost - min(bare() for _ in range(3)) < 0.060, (
        "DESIGN §7 allows 40 ms for `engine status`; twice as much is broken"
    )
