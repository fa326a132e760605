"""The commands about definitions against a stand-in engine: what they ask for, when they want a yes, what they print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.definitions import DataSource, TaskTemplate
from engine.contract.records.definitions import ScaleStep, SourceDetail, SourceRow, TemplateDetail, TemplateRow
from engine.contract.requests.bundles import BundleReport, ChangedItem, Exported, FieldChange, KindDiff, Policy, Problem
from engine.contract.requests.definitions import Deleted
from engine.contract.requests.maintenance import Drained, Maintenance, Resumed, RunningTask
from tests.support.cli import EVIL, POOL_DETAIL, QUEUE_DETAIL, Run, in_process
from tests.support.fake_engine import FakeEngine

TEMPLATE = TemplateRow(
    id="t",
    queue="",
    definition="nano",
    capabilities=(),
    priority=None,
    fields=("prompt",),
    digest="d",
    description=EVIL,
)
SOURCE = SourceRow(
    id="s",
    state="missing",
    type="local_directory",
    path="notes",
    external=False,
    read_only=True,
    filters=("*.md",),
    target="",
    used_by=("pool p",),
    note="the directory does not exist",
    description="",
)
STEP = ScaleStep(id="p/1", at_ms=1, pool="p", change=1, instance="i-1", reason=EVIL, total=1, idle=1, busy=0, waiting=3)
MAINTENANCE = Maintenance(reason="driver", by="jan", since_ms=1)


@pytest.fixture
def aiwm(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    monkeypatch.setenv("AIWM_HOME", str(home))
    fake = FakeEngine(home)
    yield fake
    fake.close()


CASES: list[tuple[str, str, Any, str, str]] = [
    ("template list", "template.list", [TEMPLATE], "templates", "prompt"),
    ("template show t", "template.show", TemplateDetail(row=TEMPLATE, definition=TaskTemplate(name="t")), "template", "nano"),
    ("template create t", "template.create", TemplateDetail(row=TEMPLATE, definition=TaskTemplate(name="t")), "template", "t"),
    ("template update t --priority 3", "template.update", TemplateDetail(row=TEMPLATE, definition=TaskTemplate(name="t")), "template", "t"),
    ("template delete t --yes", "template.delete", Deleted(kind="template", name="t"), "deleted", "template"),
    ("source list", "source.list", [SOURCE], "sources", "does not exist"),
    ("source show s", "source.show", SourceDetail(row=SOURCE, definition=DataSource(name="s", path="x")), "source", "notes"),
    ("source create s notes", "source.create", SourceDetail(row=SOURCE, definition=DataSource(name="s", path="x")), "source", "notes"),
    ("source update s --no-read-only", "source.update", SourceDetail(row=SOURCE, definition=DataSource(name="s", path="x")), "source", "s"),
    ("source delete s --yes", "source.delete", Deleted(kind="source", name="s"), "deleted", "source"),
    ("pool update p --max-total 9", "pool.update", POOL_DETAIL, "pool", "nano"),
    ("pool history p", "pool.history", [STEP], "steps", "+1"),
    ("pool delete p --yes", "pool.delete", Deleted(kind="pool", name="p"), "deleted", "pool"),
    ("queue update q --clear max_length", "queue.update", QUEUE_DETAIL, "queue", "demo"),
    ("queue drain q --reason move", "queue.drain", QUEUE_DETAIL, "queue", "demo"),
    ("queue delete q --yes --cancel-tasks", "queue.delete", Deleted(kind="queue", name="q", cancelled=3), "deleted", "3"),
    ("bundle policy", "bundle.policy", Policy(policy="load-valid"), "policy", "load-valid"),
    ("bundle policy fail-fast", "bundle.setpolicy", Policy(policy="fail-fast"), "policy", "fail-fast"),
    ("bundle schema", "bundle.schema", {"title": "aiwm bundle"}, "schema", "aiwm bundle"),
    ("engine resume", "engine.resume", Resumed(maintenance=MAINTENANCE, waiting=2), "resumed", "is over"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "method", "answer", "kind", "words"), CASES, ids=[case[0] for case in CASES])
def test_each_command_asks_and_prints(
    aiwm: Run, engine: FakeEngine, line: str, method: str, answer: Any, kind: str, words: str
) -> None:
    engine.answers[method] = answer
    people = aiwm(*line.split())
    assert people.code == 0, people.err
    assert words in people.out
    assert "\x1b" not in people.out
    whole = aiwm(*line.split(), "--json")
    assert whole.json["kind"] == kind


def test_an_update_sends_only_what_was_said(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers["queue.update"] = QUEUE_DETAIL
    options = "--pools a --pools b --retry-delay 2s --no-paused --mission-critical --clear max_length --clear sources"
    assert aiwm("queue", "update", "etl", *options.split(), "--metadata", '{"a": 1}').code == 0
    assert engine.params("queue.update") == {
        "name": "etl",
        "clear": ["max_length", "sources"],
        "changes": {
            "pools": ["a", "b"],
            "retry": {"delay_ms": 2_000},
            "paused": False,
            "mission_critical": True,
            "metadata": {"a": 1},
        },
    }


@pytest.mark.parametrize(
    ("noun", "detail"),
    [
        ("queue", QUEUE_DETAIL),
        ("pool", POOL_DETAIL),
        ("template", TemplateDetail(row=TEMPLATE, definition=TaskTemplate(name="t"))),
        ("source", SourceDetail(row=SOURCE, definition=DataSource(name="s", path="x"))),
    ],
)
def test_a_delete_wants_a_yes_and_shows_without_one(aiwm: Run, engine: FakeEngine, noun: str, detail: Any) -> None:
    engine.answers[f"{noun}.show"] = detail
    refused = aiwm(noun, "delete", "x")
    assert refused.code == 5
    assert "--yes" in refused.err
    planned = aiwm(noun, "delete", "x", "--dry-run", "--json")
    assert planned.json["data"] == {"request": f"{noun}.delete", "ids": ["x"], "count": 1}
    assert f"{noun}.delete" not in [method for method, _ in engine.asked]


def _report(*, loaded: bool = True, policy: str = "load-valid", **fields: Any) -> BundleReport:
    changes = [
        KindDiff(kind="worker", added=["new"], changed=[], removed=["old"], unchanged=1),
        KindDiff(
            kind="pool",
            added=[],
            changed=[ChangedItem(name="p", fields=[FieldChange(field="max_total", before=4, after=EVIL)])],
            removed=fields.pop("pools_gone", []),
            unchanged=0,
        ),
    ]
    return BundleReport(policy=policy, loaded=loaded, changes=changes, counts={"workers": 2, "pools": 1}, **fields)


WRONG = Problem(
    kind="pool", name="p", field="pools[0].max", message='unknown key "max"', fix='did you mean "max_total"?'
)


def test_a_load_says_what_changed_and_apart_from_it_what_is_wrong(
    aiwm: Run, engine: FakeEngine, tmp_path: Path
) -> None:
    file = tmp_path / "b.json"
    file.write_text('{"workers": []}')
    engine.answers["bundle.diff"] = engine.answers["bundle.load"] = _report(errors=[WRONG], warnings=[WRONG])
    ran = aiwm("bundle", "load", str(file), "--policy", "load-valid", "--keep-others")
    assert ran.code == 1
    assert ran.out.splitlines()[:2] == ["+ worker new", "- worker old"]
    assert "~ pool p  max_total 4 → " in ran.out
    assert "\x1b" not in ran.out
    assert "warning: pool p: pools[0].max" in ran.err
    assert 'error: pool p: pools[0].max: unknown key "max" (did you mean "max_total"?)' in ran.err
    asked = {"bundle": '{"workers": []}', "policy": "load-valid", "keep_others": True}
    assert engine.params("bundle.diff") == engine.params("bundle.load") == asked
    engine.answers["bundle.load"] = _report(errors=[WRONG], policy="fail-fast", loaded=False)
    assert aiwm("bundle", "load", str(file)).code == 2
    assert aiwm("bundle", "diff", str(file)).code == 2


def test_a_load_that_removes_pools_wants_a_yes(aiwm: Run, engine: FakeEngine) -> None:
    engine.answers["bundle.diff"] = engine.answers["bundle.load"] = _report(pools_gone=["gone"])
    refused = aiwm("bundle", "load")
    assert refused.code == 5
    assert "pool gone" in refused.err
    assert aiwm("bundle", "load", "--dry-run").code == 0
    assert "bundle.load" not in [method for method, _ in engine.asked]
    assert aiwm("bundle", "load", "--yes").code == 0


def test_an_export_is_the_document_itself_and_is_written_whole(aiwm: Run, engine: FakeEngine, tmp_path: Path) -> None:
    engine.answers["bundle.export"] = Exported(bundle={"workers": [{"name": "a"}]}, counts={"workers": 1})
    assert json.loads(aiwm("bundle", "export").out) == {"workers": [{"name": "a"}]}
    out = tmp_path / "x.json"
    assert aiwm("bundle", "export", "--out", str(out)).code == 0
    assert json.loads(out.read_text()) == {"workers": [{"name": "a"}]}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
    assert aiwm("bundle", "export", "--out", str(tmp_path / "none" / "x.json")).code == 1


@pytest.mark.parametrize("verb", ["load", "validate"])
def test_a_file_that_cannot_be_read_is_named(aiwm: Run, verb: str, tmp_path: Path) -> None:
    ran = aiwm("worker", verb, str(tmp_path / "none.json"), "--json")
    assert ran.code == 2
    assert "none.json" in ran.error["message"]


def test_a_drain_says_first_what_a_restart_takes_back(aiwm: Run, engine: FakeEngine) -> None:
    running = RunningTask(
        id="t-10001", instance="i-1", definition="mailer", kind="mail", idempotent=False, for_ms=5_000
    )
    engine.answers["engine.drain"] = Drained(
        maintenance=MAINTENANCE, idle=False, running=[running], risky=["mail"], waiting=7
    )
    ran = aiwm("engine", "drain", "--reason", "driver", "--wait", "2s")
    assert ran.code == 4
    assert "t-10001  mailer on i-1  (kind mail may do things twice)" in ran.err
    assert "1 still running, 7 waiting" in ran.out
    assert [params for method, params in engine.asked if method == "engine.drain"] == [
        {"reason": "driver"},
        {"reason": "driver", "wait_ms": 2_000},
    ]
    assert aiwm("engine", "drain").code == 0
