"""Definitions: every mistake is named with its place and the nearest right word, and a bad file leaves the old set in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.contract.definitions import PoolDefinition, QueueDefinition, RetryPolicy
from engine.contract.errors import AiwmError
from engine.control.catalogue import FILE_NAME, Catalogue
from engine.workers.registry import KindRegistry


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    made = Catalogue(tmp_path, KindRegistry())
    made.write_shipped()
    assert made.load_workers().errors == []
    return made


def _write(catalogue: Catalogue, document: Any) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    catalogue.file.write_text(text)


@pytest.mark.parametrize(
    ("document", "field", "part"),
    [
        ('{"workers": [', None, "is not JSON"),
        ({"worker": []}, "workers", "must be an object with a list"),
        ({"workers": [{"name": "a", "kind": "template", "modle": "x"}]}, "workers[0].modle", 'did you mean "model"?'),
        ({"workers": [{"name": "a", "kind": "gaot", "model": "x"}]}, "workers[0].kind", 'did you mean "goat"?'),
        ({"workers": [{"name": "a"}]}, "workers[0].model", "needs a model"),
        ({"workers": [{"name": "../a", "kind": "template"}]}, "workers[0].name", "is no name"),
        (
            {"workers": [{"name": "a", "kind": "template", "sampling": {"top_p": "x"}}]},
            "workers[0].sampling.top_p",
            "expected",
        ),
        ({"workers": [], "pools": []}, "pools", "unknown key"),
    ],
)
def test_a_mistake_is_named_and_nothing_changes(
    catalogue: Catalogue, document: Any, field: str | None, part: str
) -> None:
    before = catalogue.workers
    _write(catalogue, document)
    result = catalogue.load_workers()
    texts = [f"{error.field}|{error.message} {error.fix}" for error in result.errors]
    assert any(text.startswith(f"{field}|") and part in text for text in texts), texts
    assert catalogue.workers is before


def test_all_mistakes_of_a_file_are_reported_at_once(catalogue: Catalogue) -> None:
    _write(
        catalogue,
        {"workers": [{"name": "a", "kind": "no"}, {"name": "b", "kind": "template", "x": 1}, {"kind": "template"}]},
    )
    assert len(catalogue.load_workers().errors) == 3


def test_a_reload_says_what_changed(catalogue: Catalogue) -> None:
    document = json.loads(catalogue.file.read_text())
    document["workers"][1]["description"] = "another"
    document["workers"].append({"name": "new", "kind": "template"})
    _write(catalogue, document)
    result = catalogue.load_workers()
    assert (result.added, result.changed, result.removed, result.unchanged) == (["new"], ["echo"], [], 1)


def test_a_worker_that_a_pool_uses_cannot_vanish(catalogue: Catalogue) -> None:
    catalogue.put_pool(PoolDefinition(name="p", definition="echo"))
    _write(catalogue, {"workers": [{"name": "ecko", "kind": "template"}]})
    (error,) = catalogue.load_workers().errors
    assert "echo" in error.message
    assert error.fix == 'did you mean "ecko"?'


@pytest.mark.parametrize(
    ("pool", "field"),
    [
        (PoolDefinition(name="p", definition="ehco"), "definition.definition"),
        (PoolDefinition(name="p/..", definition="echo"), "definition.name"),
        (PoolDefinition(name="p", definition="echo", min_idle=3, max_total=2), "definition.min_idle"),
        (PoolDefinition(name="p", definition="echo", max_total=10**30), "definition.max_total"),
        (PoolDefinition(name="p\n", definition="echo"), "definition.name"),
    ],
)
def test_a_pool_that_cannot_work_is_refused(catalogue: Catalogue, pool: PoolDefinition, field: str) -> None:
    with pytest.raises(AiwmError) as caught:
        catalogue.check_pool(pool)
    assert caught.value.info.field == field


@pytest.mark.parametrize(
    ("queue", "field"),
    [
        (QueueDefinition(name="q", aging_ms=2**62), "definition.aging_ms"),
        (QueueDefinition(name="q", max_length=-5), "definition.max_length"),
        (QueueDefinition(name="q", retry=RetryPolicy(delay_ms=2**66)), "definition.retry.delay_ms"),
        (QueueDefinition(name="q", retry=RetryPolicy(max_retries=2**70)), "definition.retry.max_retries"),
        (QueueDefinition(name="q", retry=RetryPolicy(jitter=float("nan"))), "definition.retry.jitter"),
    ],
)
def test_a_queue_with_numbers_out_of_range_is_refused(catalogue: Catalogue, queue: QueueDefinition, field: str) -> None:
    with pytest.raises(AiwmError) as caught:
        catalogue.check_queue(queue)
    assert caught.value.info.field == field


def test_a_queue_must_name_pools_that_exist(catalogue: Catalogue) -> None:
    catalogue.put_pool(PoolDefinition(name="demo", definition="echo"))
    with pytest.raises(AiwmError) as caught:
        catalogue.check_queue(QueueDefinition(name="q", pools=("dmeo",)))
    assert caught.value.info.fix == 'did you mean "demo"?'


def test_the_shipped_file_has_the_name_of_the_seeds(catalogue: Catalogue) -> None:
    assert catalogue.file.name == FILE_NAME == "ai_worker_definitions.json"
