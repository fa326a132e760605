"""Data sources outside the home, and the contexts that tasks get, with a real engine (spec §6, 5)."""

from __future__ import annotations

import pytest

from engine.contract.definitions import DataSource, PoolDefinition, QueueDefinition, TaskTemplate
from engine.contract.errors import AiwmError, Code
from engine.contract.requests import catalogue
from engine.contract.requests.context import TaskContextShow
from engine.contract.requests.definitions import SourceCreate, TemplateCreate
from engine.contract.requests.fleet import PoolCreate, QueueCreate
from engine.contract.requests.sources import SourceFiles, SourceRead, SourceSync
from engine.contract.requests.tasks import TaskSubmit
from engine.contract.states import Effect
from tests.support.cli import Run
from tests.support.house import House

# -- external paths --------------------------------------------------------------------------------------------------


def test_outside_the_home_only_what_the_configuration_lists(house: House, in_house: Run) -> None:
    assert [file.id for file in house.client.call(SourceFiles(name="far")).files] == ["a.txt", "b.txt", "c.txt"]
    assert house.client.call(SourceRead(name="far", path="a.txt")).text == "a"
    for path in ("/etc", str(house.outside / "unlisted"), str(house.outside / "listed" / ".." / "unlisted")):
        ran = in_house("source", "create", "bad", path, "--external")
        assert ran.code in (2, 5), ran
        assert "bad" not in in_house("source", "list").out
    assert in_house("source", "create", "bad", str(house.outside / "listed")).code in (2, 5), "and only when it says so"


def test_no_request_loosens_security() -> None:
    writing = [method for method, kind in catalogue().by_method.items() if kind.effect is not Effect.read]
    assert not [method for method in writing if method.startswith(("config.", "security.", "key."))]


def test_a_sync_copies_the_one_of_three_that_changed(house: House, in_house: Run) -> None:
    first = house.client.call(SourceSync(name="far"))
    assert (first.copied, first.skipped) == (["a.txt", "b.txt", "c.txt"], [])
    (house.outside / "listed/b.txt").write_text("B")
    ran = in_house("source", "sync", "far", "--json")
    assert ran.code == 0
    assert (ran.json["data"]["copied"], ran.json["data"]["skipped"]) == (["b.txt"], ["a.txt", "c.txt"])
    by_alias = in_house("call", "syncDataSource", '{"name": "far"}', "--json").json["data"]
    assert (by_alias["copied"], by_alias["skipped"]) == ([], ["a.txt", "b.txt", "c.txt"])
    (synced,) = [event for event in house.events("type:source.synced") if event.text.startswith("1 copied")]
    assert "2 skipped, 0 failed to fm:/far" in synced.text


# -- contexts --------------------------------------------------------------------------------------------------------


def test_the_explain_screen_says_which_level_gave_what(house: House, in_house: Run) -> None:
    call = house.client.call
    for name in ("s-queue", "s-pool", "s-template", "s-task"):
        (house.home / "files" / name).mkdir()
        call(SourceCreate(definition=DataSource(name=name, path=name)))
    call(
        PoolCreate(
            definition=PoolDefinition(name="levels", definition="rich", sources=("s-pool", "docs"), supervisor="echo")
        )
    )
    call(QueueCreate(definition=QueueDefinition(name="levels", pools=("levels",), sources=("s-queue",), paused=True)))
    call(
        TemplateCreate(definition=TaskTemplate(name="tpl", queue="levels", sources=("s-template",), supervisor="nano"))
    )
    ack = call(TaskSubmit(queue="", template="tpl", sources=("s-task",)))
    context = call(TaskContextShow(id=ack.id))
    assert [(source.source, source.level) for source in context.sources] == [
        ("docs", "definition"),
        ("vault", "definition"),
        ("s-queue", "queue"),
        ("s-pool", "pool"),
        ("s-template", "template"),
        ("s-task", "task"),
    ]
    assert context.sources[0].also == ("pool",)
    assert context.supervisor is not None
    assert (context.supervisor.supervisor, context.supervisor.level) == ("nano", "template")
    assert context.supervisor.over == ("pool", "definition")
    text = in_house("task", "explain", ack.id, "--context").out
    assert "s-template  from template tpl" in text
    assert "supervisor  nano  from template tpl, before pool, definition" in text
    assert "not started" in text
    assert text in in_house("task", "show", ack.id, "--context").out
    assert in_house("task", "explain", ack.id, "--context", "--json").json["kind"] == "context"
    with pytest.raises(AiwmError) as unknown:
        call(TaskSubmit(queue="levels", sources=("nowhere",)))
    assert unknown.value.code == Code.not_found
    assert '"nowhere"' in str(unknown.value)
