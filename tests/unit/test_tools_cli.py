"""The commands about tools, files of sources, keys, approvals and contexts, against a stand-in engine."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.errors import ErrorInfo
from engine.contract.records.approvals import ApprovalRow
from engine.contract.requests.context import EffectiveContext, GivenSource, GivenSupervisor, LevelSays
from engine.contract.requests.keys import KeyRow
from engine.contract.requests.sources import FileContent, SourceFile, SourceListing, SyncFailure, SyncResult
from engine.contract.requests.tools import ToolResult, ToolRow
from tests.support.cli import DETAIL, EVIL, Run, in_process
from tests.support.fake_engine import FakeEngine

TOOL = ToolRow(id="read_file", allowed="allowed", gate="all", why=EVIL, effect="read", request="", description="reads")
CLOSED = ToolRow(
    id="key_list", allowed="blocked", gate="policy", why="no", effect="read", request="key.list", description=""
)
KEY = KeyRow(id="openai", method="env", status="Found", hosts=("api.example.com",), workers=("w",), note=EVIL)
GONE = KeyRow(id="openai", method="env", status="Not Found", hosts=(), workers=(), note="the variable is not set")
APPROVAL = ApprovalRow(
    id="ap-1", state="pending", method="task.cancel", params={"ids": ["t-10001"], "reason": EVIL}, by="task:t-10002", why=EVIL,
    asked_ms=1_700_000_000_000, expires_ms=1_700_000_100_000, task="t-10002",
)  # fmt: skip
CONTEXT = EffectiveContext(
    task="t-10001",
    levels=(LevelSays(level="queue", name="etl", sources=("docs",), supervisor="boss"),),
    sources=(GivenSource(source="docs", level="queue", name="etl", also=("task",), problem=EVIL),),
    supervisor=GivenSupervisor(supervisor="boss", level="queue", name="etl", over=("definition",)),
    tools=("read_file",),
    needs_approval=("task_cancel",),
    tools_allow=("*",),
    tools_deny=("write_file",),
    tools_from=("worker w",),
    bounded_by=("t-10000",),
    note="not started",
)
FILES = SourceListing(source="docs", files=[SourceFile(id="a.txt", size_bytes=3, modified_ms=1, digest="abc")])
SYNCED = SyncResult(source="docs", target="fm:/docs", copied=["a.txt"], skipped=["b.txt", "c.txt"], failed=[])
DONE = ToolResult(tool="read_file", verdict="allowed", gate="all", ok=True, text="hi", ms=1.0)
CONTENT = FileContent(source="docs", path="a.txt", size_bytes=2, text="hi")
CASES: list[tuple[str, str, Any, str, str]] = [
    ("tool list --definition w", "tool.list", [TOOL, CLOSED], "tools", "read_file"),
    ("tool call read_file {} --as w", "tool.call", DONE, "tool", "hi"),
    ("source files docs", "source.files", FILES, "files", "a.txt"),
    ("source read docs a.txt", "source.read", CONTENT, "file", "hi"),
    ("source sync docs", "source.sync", SYNCED, "synced", "1 copied, 2 skipped, 0 failed to fm:/docs"),
    ("key list", "key.list", [KEY], "keys", "api.example.com"),
    ("key check openai", "key.check", KEY, "key", "Found"),
    ("approval list", "approval.list", [APPROVAL], "approvals", "task.cancel"),
    ("approval show ap-1", "approval.show", APPROVAL, "approval", "task:t-10002"),
    ("approval approve ap-1", "approval.approve", APPROVAL, "approval", "ap-1"),
    ("approval reject ap-1 --reason no", "approval.reject", APPROVAL, "approval", "ap-1"),
    ("task explain t-10001 --context", "task.context", CONTEXT, "context", "docs  from queue etl, also task"),
]  # fmt: skip


@pytest.fixture
def aiwm(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    monkeypatch.setenv("AIWM_HOME", str(home))
    fake = FakeEngine(home)
    yield fake
    fake.close()


@pytest.mark.parametrize(("line", "method", "answer", "kind", "words"), CASES, ids=[case[0] for case in CASES])
def test_each_command_asks_and_prints(
    aiwm: Run, engine: FakeEngine, line: str, method: str, answer: Any, kind: str, words: str
) -> None:
    engine.answers[method] = answer
    people = aiwm(*line.split())
    assert people.code == 0, people.err
    assert words in people.out
    assert "\x1b" not in people.out
    assert aiwm(*line.split(), "--json").json["kind"] == kind
    assert engine.asked[-1][0] == method


def test_a_context_reads_level_by_level(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers |= {"task.context": CONTEXT, "task.show": DETAIL}
    out = aiwm("task", "show", "t-10001", "--context").out
    for words in (
        "task.submitted",
        "queue       etl  sources docs · supervisor boss",
        "supervisor  boss  from queue etl, before definition",
        "tools  read_file",
        "with approval  task_cancel",
        "allow * · deny write_file",
        "bounded by what started it: t-10000",
        "not started",
    ):
        assert words in out
    assert "context of" not in aiwm("task", "show", "t-10001").out


def test_only_what_may_be_called(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers["tool.list"] = [TOOL, CLOSED]
    assert "key_list" in aiwm("tool", "list").out
    assert "key_list" not in aiwm("tool", "list", "--allowed").out


@pytest.mark.parametrize(("verdict", "code"), [("denied", 5), ("approval", 5), ("arguments", 5), ("allowed", 1)])
def test_a_call_that_came_to_nothing_has_its_exit_code(aiwm: Run, engine: FakeEngine, verdict: str, code: int) -> None:
    engine.answers["tool.call"] = ToolResult(tool="x", verdict=verdict, gate="g", ok=False, text="why not", ms=0.0)
    ran = aiwm("tool", "call", "x", '{"a": 1}', "--as", "w")
    assert ran.code == code
    assert f"why not [{verdict}, gate g]" in ran.out
    assert engine.params("tool.call") == {"name": "x", "definition": "w", "arguments": {"a": 1}}
    assert aiwm("tool", "call", "x", "{", "--as", "w").code == 2


def test_what_is_not_found_or_failed_has_its_exit_code(aiwm: Run, engine: FakeEngine) -> None:
    failure = ErrorInfo(code="file_too_large", message="too large")
    engine.answers |= {
        "key.check": GONE,
        "source.sync": SyncResult(
            source="s", target="fm:/s", copied=[], skipped=[], failed=[SyncFailure(path="b", error=failure)]
        ),
        "approval.approve": ApprovalRow(
            id="ap-2",
            state="failed",
            method="task.cancel",
            params={},
            by="t",
            why="",
            asked_ms=1,
            expires_ms=2,
            error=failure,
        ),
    }
    assert aiwm("key", "check", "openai").code == 1
    ran = aiwm("source", "sync", "s")
    assert ran.code == 1
    assert "failed b: too large" in ran.out
    assert aiwm("approval", "approve", "ap-2").code == 1


def test_a_key_is_not_written_without_a_passphrase(
    aiwm: Run, engine: FakeEngine, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk-text\n"))
    ran = aiwm("key", "set", "openai")
    assert ran.code == 2
    assert "passphrase" in ran.err
    assert not (home / "keys.vault").exists()
    (tmp_path / "passphrase").write_text("word\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk-text\n"))
    ran = aiwm("key", "set", "openai", "--passphrase-file", str(tmp_path / "passphrase"))
    assert ran.code == 0
    assert "sk-text" not in ran.out + ran.err
    assert (home / "keys.vault").exists()
    assert aiwm("key", "remove", "openai", "--passphrase-file", str(tmp_path / "passphrase")).code == 0
    (tmp_path / "passphrase").write_text("wrong\n")
    assert aiwm("key", "remove", "openai", "--passphrase-file", str(tmp_path / "passphrase")).code == 5
