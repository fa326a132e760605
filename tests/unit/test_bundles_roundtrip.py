"""Whatever is in force comes back from its export, whichever way its keys are written; a diff says exactly what is different."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.definitions import (
    AdapterUse,
    Cost,
    DataSource,
    DefinitionStatus,
    Interaction,
    PoolDefinition,
    Provider,
    QueueDefinition,
    RateLimits,
    Retirement,
    RetryPolicy,
    Sampling,
    SourceType,
    TaskTemplate,
    WorkerDefinition,
)
from engine.contract.states import Durability
from engine.control.bundles.diff import counts, differences
from engine.control.bundles.export import export
from engine.control.bundles.names import spellings
from engine.control.bundles.read import read_document
from engine.control.bundles.validate import prepare
from engine.control.checks import Surroundings
from engine.control.definitions import Definitions, Kind
from engine.workers.registry import KindRegistry

AROUND = Surroundings(kinds=KindRegistry(), files=Path("/nowhere/home/files"), keys=lambda: ("openai", "other"))
NAMES = ("a", "b", "long-name.2", "C_3")
TEXT = st.text(max_size=12)
SCHEMA = st.sampled_from([{}, {"type": "object", "properties": {"a": {"type": "string"}}}])
FREE = st.dictionaries(
    st.text(max_size=6),
    st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | TEXT, st.lists, max_leaves=4),
    max_size=3,
)
COUNT = st.integers(0, 1_000)
SHARE = st.floats(0, 1)


def _some(names: Any) -> Any:
    return st.lists(st.sampled_from(sorted(names)), unique=True, max_size=3).map(tuple) if names else st.just(())


def _one(names: Any) -> Any:
    return st.sampled_from(["", *sorted(names)])


@st.composite
def _sources(draw: Any) -> dict[str, DataSource]:
    made = {}
    for name in draw(st.sets(st.sampled_from(NAMES))):
        store = draw(st.booleans())
        path = draw(st.text(string.ascii_letters, min_size=1, max_size=6))
        made[name] = DataSource(
            name=name,
            type=SourceType.file_store if store else SourceType.local_directory,
            path=f"fm:/{path}" if store else path,
            description=draw(TEXT),
            target=draw(st.sampled_from(["", "fm:/x/y"])),
            read_only=draw(st.booleans()),
            recursive=draw(st.booleans()),
            filters=draw(st.sampled_from([(), ("*.md", "?.txt")])),
            metadata=draw(FREE),
        )
    return made


def _worker(draw: Any, name: str, workers: set[str], sources: set[str]) -> WorkerDefinition:
    kind = draw(st.sampled_from(["goat", "template"]))
    provider = draw(st.sampled_from(Provider))
    address = {"base_url": "http://10.0.0.7:8000/v1"} if provider is Provider.custom else {}
    return WorkerDefinition(
        name=name,
        kind=kind,
        description=draw(TEXT),
        provider=provider,
        model="aiwm-nano" if kind == "goat" else "",
        system=draw(TEXT),
        adapters=draw(st.sampled_from([(), (AdapterUse(name="x"), AdapterUse(name="y", weight=0.5))])),
        sampling=Sampling(
            temperature=draw(SHARE),
            top_p=draw(SHARE),
            max_tokens=draw(st.integers(1, 99)),
            seed=draw(st.none() | COUNT),
        ),
        context_tokens=draw(COUNT),
        options={**draw(FREE), **address},
        key=draw(st.sampled_from(["", "openai", "other"])),
        interaction=draw(st.sampled_from(Interaction)),
        capabilities=draw(st.sampled_from([(), ("json", "text")])),
        limits=RateLimits(requests_per_minute=draw(COUNT), tokens_per_day=draw(COUNT)),
        cost=Cost(input_usd_per_1k=draw(SHARE), output_usd_per_1k=draw(SHARE)),
        status=draw(st.sampled_from(DefinitionStatus)),
        sources=draw(_some(sources)),
        tools_allow=draw(st.sampled_from([(), ("*",)])),
        max_steps=draw(st.integers(1, 99)),
        answer_schema=draw(SCHEMA),
        supervisor=draw(st.sampled_from(["", "rules/watch", *sorted(workers)])),
        metadata=draw(FREE),
    )


@st.composite
def definitions(draw: Any) -> Definitions:
    """Any set of definitions that may be in force together."""
    sources = draw(_sources())
    names = draw(st.sets(st.sampled_from(NAMES), min_size=1))
    workers = {name: _worker(draw, name, names, set(sources)) for name in names}
    pools = {
        name: PoolDefinition(
            name=name,
            definition=draw(st.sampled_from(sorted(workers))),
            min_idle=draw(st.integers(0, 2)),
            max_total=draw(st.integers(2, 1_000)),
            retirement=Retirement(max_tasks=draw(COUNT), max_age_ms=draw(COUNT)),
            cooldown_ms=draw(COUNT),
            sources=draw(_some(sources)),
            supervisor=draw(_one(workers)),
            mission_critical=draw(st.booleans()),
            metadata=draw(FREE),
        )
        for name in draw(st.sets(st.sampled_from(NAMES)))
    }
    queues = {
        name: QueueDefinition(
            name=name,
            pools=draw(_some(pools)),
            default_priority=draw(st.integers(-9, 9)),
            retry=RetryPolicy(max_retries=draw(COUNT), backoff=draw(st.floats(1, 3)), jitter=draw(SHARE)),
            durability=draw(st.sampled_from(Durability)),
            max_length=draw(st.none() | st.integers(1, 9)),
            paused=draw(st.booleans()),
            pause_reason=draw(TEXT),
            draining=draw(st.booleans()),
            retention_ms=draw(st.none() | COUNT),
            sources=draw(_some(sources)),
            metadata=draw(FREE),
        )
        for name in draw(st.sets(st.sampled_from(NAMES)))
    }
    templates = {
        name: TaskTemplate(
            name=name,
            queue=draw(_one(queues)),
            definition=draw(_one(workers)),
            capabilities=draw(st.sampled_from([(), ("json",)])),
            payload_schema=draw(SCHEMA),
            answer_schema=draw(SCHEMA),
            defaults=draw(FREE),
            priority=draw(st.none() | st.integers(-9, 9)),
            metadata=draw(FREE),
        )
        for name in draw(st.sets(st.sampled_from(NAMES)))
    }
    return Definitions(sources, workers, pools, queues, templates)


def _loaded(document: dict[str, Any], base: Definitions) -> Definitions:
    found = prepare(read_document(msgspec.json.encode(document)), base, AROUND)
    assert found.errors == []
    return found.valid


@settings(max_examples=20, deadline=None)
@given(definitions(), definitions())
def test_an_export_gives_the_same_state_wherever_it_is_loaded(wanted: Definitions, before: Definitions) -> None:
    assert _loaded(export(wanted), Definitions()) == wanted
    assert _loaded(export(wanted), before) == wanted


def _in_camel_case(document: dict[str, Any], acronyms: int) -> dict[str, Any]:
    free = {"metadata", "options", "payload_schema", "answer_schema", "defaults"}

    def item(value: Any) -> Any:
        if isinstance(value, list):
            return [item(part) for part in value]
        if not isinstance(value, dict):
            return value
        return {spellings(key)[: acronyms + 1][-1]: part if key in free else item(part) for key, part in value.items()}

    return {key: item(value) for key, value in document.items()}


@settings(max_examples=15, deadline=None)
@given(definitions(), st.integers(1, 9))
def test_both_key_styles_load_to_equal_definitions(wanted: Definitions, acronyms: int) -> None:
    assert _loaded(_in_camel_case(export(wanted), acronyms), Definitions()) == wanted


@settings(max_examples=15, deadline=None)
@given(definitions(), definitions())
def test_a_diff_says_exactly_what_is_different(before: Definitions, after: Definitions) -> None:
    for change in differences(before, after):
        kind = Kind(change.kind)
        old, new = before.of(kind), after.of(kind)
        assert set(change.added) == new.keys() - old.keys()
        assert set(change.removed) == old.keys() - new.keys()
        assert {it.name for it in change.changed} == {
            name for name in old.keys() & new.keys() if old[name] != new[name]
        }
        assert len(change.added) + len(change.changed) + change.unchanged == counts(after)[kind.plural]
        for item in change.changed:
            assert item.fields
            for field in item.fields:
                assert field.before != field.after
    assert all(not (it.added or it.changed or it.removed) for it in differences(before, before))


JUNK_KEYS = st.text(max_size=8) | st.sampled_from(["name", "pools", "auth"])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JUNK_KEYS, inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    key for kind in ("workers", "aiWorkerDefinitions", "pools", "queues", "templates", "sources") for key in (kind,)
]


@st.composite
def _spoiled(draw: Any) -> dict[str, Any]:
    """A document that was right, with something in it replaced by anything."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(export(draw(definitions()))))
    document[draw(st.sampled_from(KEYS))] = draw(JUNK | st.lists(JUNK, max_size=2))
    for key in list(document):
        items = document[key]
        if isinstance(items, list) and items and isinstance(items[0], dict) and draw(st.booleans()):
            field = draw(st.sampled_from([*items[0], "auth", "baseConfig", "rate_limits", "retryPolicy", "x"]))
            items[0][field] = draw(JUNK)
    return document


@settings(max_examples=40, deadline=None)
@given(_spoiled())
def test_whatever_a_document_says_it_is_told_and_what_stands_is_sound(document: dict[str, Any]) -> None:
    found = prepare(document, Definitions(), AROUND)
    again = prepare(export(found.valid), Definitions(), AROUND)
    assert again.errors == []
    assert again.valid == found.valid
