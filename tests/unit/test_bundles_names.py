"""What documents may say: the seeds' names and units in both key styles become ours, and every mistake is named with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.contract.definitions import (
    Cost,
    DataSource,
    DefinitionStatus,
    Interaction,
    PoolDefinition,
    QueueDefinition,
    RateLimits,
    Retirement,
    RetryPolicy,
    Sampling,
    SourceType,
    TaskTemplate,
    WorkerDefinition,
)
from engine.contract.errors import AiwmError
from engine.contract.states import Durability
from engine.control.bundles.names import spellings
from engine.control.bundles.read import read_document
from engine.control.bundles.schema import bundle_schema
from engine.control.bundles.validate import Prepared, prepare
from engine.control.checks import Surroundings
from engine.control.definitions import Definitions
from engine.workers.registry import KindRegistry

KEY = "sk-live-0123456789abcdef"

NESTED: list[Any] = []
for _ in range(600):
    NESTED = [NESTED]

SNAKE: dict[str, Any] = {
    "global_data_sources": [
        {
            "name": "guides",
            "type": "local_directory",
            "local_path": "guides",
            "remote_target_path": "synced/guides",
            "read_only": True,
            "filters": ["*.md"],
            "recursive": True,
        },
        {"name": "store", "type": "file_api", "file_api_path": "fm:/shared"},
    ],
    "ai_worker_definitions": [
        {
            "definition_id": "8e1b",
            "name": "reader",
            "provider": "local",
            "model_name": "aiwm-nano",
            "auth": {"method": "none", "value": None},
            "interaction_models": ["conversational", "stateless_task"],
            "capabilities": ["extraction"],
            "base_config": {"temperature": 0.2, "top_p": 0.9, "num_ctx": 256, "max_output_tokens": 64, "mirostat": 2},
            "cost_metrics": {"input_cost_per_token": 0.00001, "output_tokens_usd_per_1k": 0.03},
            "rate_limits": {
                "max_requests_per_minute": 10,
                "max_tokens_per_minute": 20,
                "max_tokens_per_day": 30,
                "max_concurrent_active_instances": 4,
            },
            "status": "active",
            "default_file_contexts": ["datasource://guides/a.md"],
            "data_source_refs": ["guides"],
            "tool_allowlist": ["ReadFile"],
            "tool_denylist": ["WriteFile"],
            "default_supervisory_ai_ref": "reader",
            "aggregate_performance_summary": {"total_tasks_attempted": 9},
            "metadata": {"keptAsItIs": {"camelToo": 1}},
            "created_timestamp": "2025-05-09T00:00:00Z",
        }
    ],
    "ai_worker_pool_definitions": [
        {
            "pool_id": "p-1",
            "name": "readers",
            "target_ai_worker_definition_name": "8e1b",
            "min_idle_instances": 1,
            "max_total_instances": 5,
            "instance_retirement_policy": {"max_tasks_per_instance": 500, "max_instance_age_hours": 12},
            "data_source_refs": ["store"],
            "supervisory_ai_ref": "reader",
            "is_mission_critical": True,
        }
    ],
    "work_queue_definitions": [
        {
            "queue_id": "q-1",
            "name": "inbox",
            "associated_pool_names": ["p-1"],
            "default_priority": 3,
            "retry_policy": {"max_retries": 2, "retry_delay_seconds": 300},
            "persist_tasks": False,
            "is_mission_critical": True,
        }
    ],
    "work_item_definitions": [
        {
            "work_item_definition_id": "w-1",
            "name": "read",
            "default_target_worker_criteria": {"definition_name": "reader", "capabilities": ["extraction"]},
            "default_payload_schema": {
                "input": {"type": "string", "description": "the text"},
                "material": {"type": "string", "default": "steel"},
            },
            "default_data_source_refs": ["guides"],
            "default_priority": 0,
            "default_supervisory_ai_ref": "reader",
        }
    ],
}
"""The seeds' sample in their snake_case."""

WANTED = (
    Definitions()
    .put(
        DataSource(
            name="guides", path="guides", target="fm:/synced/guides", read_only=True, filters=("*.md",), recursive=True
        )
    )
    .put(DataSource(name="store", type=SourceType.file_store, path="fm:/shared"))
    .put(
        WorkerDefinition(
            name="reader",
            model="aiwm-nano",
            interaction=Interaction.both,
            capabilities=("extraction",),
            sampling=Sampling(temperature=0.2, top_p=0.9, max_tokens=64),
            context_tokens=256,
            options={"mirostat": 2},
            cost=Cost(input_usd_per_1k=0.01, output_usd_per_1k=0.03),
            limits=RateLimits(requests_per_minute=10, tokens_per_minute=20, tokens_per_day=30, max_instances=4),
            status=DefinitionStatus.active,
            files=("datasource://guides/a.md",),
            sources=("guides",),
            tools_allow=("ReadFile",),
            tools_deny=("WriteFile",),
            supervisor="reader",
            metadata={"keptAsItIs": {"camelToo": 1}},
        )
    )
    .put(
        PoolDefinition(
            name="readers",
            definition="reader",
            min_idle=1,
            max_total=5,
            retirement=Retirement(max_tasks=500, max_age_ms=43_200_000),
            sources=("store",),
            supervisor="reader",
            mission_critical=True,
        )
    )
    .put(
        QueueDefinition(
            name="inbox",
            pools=("readers",),
            default_priority=3,
            retry=RetryPolicy(max_retries=2, delay_ms=300_000, backoff=1.0, jitter=0.0, max_delay_ms=4_838_400_000),
            durability=Durability.memory,
            mission_critical=True,
        )
    )
    .put(
        TaskTemplate(
            name="read",
            definition="reader",
            capabilities=("extraction",),
            payload_schema={
                "type": "object",
                "properties": {
                    "input": {"type": "string", "description": "the text"},
                    "material": {"type": "string", "default": "steel"},
                },
            },
            defaults={"material": "steel"},
            priority=0,
            sources=("guides",),
            supervisor="reader",
        )
    )
)


def load(document: Any, base: Definitions | None = None, **options: Any) -> Prepared:
    around = Surroundings(kinds=KindRegistry(), files=Path("/nowhere/home/files"), keys=lambda: ("openai",))
    return prepare(document, base or Definitions(), around, **options)


def camel(value: Any, spelling: int) -> Any:
    """A document with its struct keys in camelCase; free-form objects stay as they are."""
    free = {"metadata", "default_payload_schema", "base_config", "aggregate_performance_summary"}
    if isinstance(value, list):
        return [camel(item, spelling) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        spellings(key)[: spelling + 1][-1]: item if key in free else camel(item, spelling)
        for key, item in value.items()
    }


@pytest.mark.parametrize("document", [SNAKE, camel(SNAKE, 1), camel(SNAKE, 9)], ids=["snake", "camel", "acronyms"])
def test_the_seeds_names_become_ours_in_both_styles(document: Any) -> None:
    found = load(document)
    assert found.errors == []
    assert found.valid == WANTED


def test_camel_case_knows_acronyms_both_ways() -> None:
    assert spellings("file_api_path") == ["file_api_path", "fileApiPath", "fileAPIPath"]
    assert "targetAIWorkerDefinitionName" in spellings("target_ai_worker_definition_name")
    assert spellings("name") == ["name"]


@pytest.mark.parametrize(
    ("document", "field", "part"),
    [
        ({"workers": [{"name": "a", "kind": "template", "modle": "x"}]}, "workers[0].modle", 'did you mean "model"?'),
        ({"workers": [{"name": "a", "kind": "gaot", "model": "x"}]}, "workers[0].kind", 'did you mean "goat"?'),
        ({"workers": [{"name": "a"}]}, "workers[0].model", "needs a model"),
        ({"workers": [{"name": "../a", "kind": "template"}]}, "workers[0].name", "is no name"),
        ({"workers": [{"kind": "template"}]}, "workers[0].name", "missing required field"),
        ({"workers": [{"name": "a", "kind": "template", "sampling": {"top_p": "x"}}]}, "workers[0].sampling.top_p", "number"),
        ({"workers": [{"name": "a", "kind": "template", "sampling": {"top_p": 3}}]}, "workers[0].sampling.top_p", "between"),
        ({"workers": [{"name": "a", "kind": "template", "status": "activ"}]}, "workers[0].status", 'did you mean "active"?'),
        ({"workers": [{"name": "a", "kind": "template", "key": "opnai"}]}, "workers[0].key", 'did you mean "openai"?'),
        ({"workers": [7]}, "workers[0]", "object"),
        ({"workers": {}}, "workers", "array"),
        ({"wrokers": []}, "wrokers", 'did you mean "workers"?'),
        ({"pools": [{"name": "p", "definition": "no"}]}, "pools[0].definition", "does not exist"),
        (
            {"pools": [{"name": "p", "target_ai_worker_definition_name": "no"}]},
            "pools[0].target_ai_worker_definition_name",
            "does not exist",
        ),
        ({"queues": [{"name": "q", "retryPolicy": {"retryDelaySeconds": -1}}]}, "queues[0].retryPolicy.retryDelaySeconds", "between"),
        ({"queues": [{"name": "q", "retry_policy": {}, "retry": {}}]}, "queues[0].retry", "has said this already"),
        ({"queues": [{"name": "q"}, {"name": "q"}]}, "queues[1].name", "two queues are named"),
        ({"queues": [{"name": "q", "queue_id": "1"}, {"name": "r", "queue_id": "1"}]}, "queues[1]", "the id"),
        ({"queues": [{"name": "q", "max_length": "5"}]}, "queues[0].max_length", "integer"),
        ({"queues": [{"name": "q", "pools": ["a", 3]}]}, "queues[0].pools[1]", "string"),
        ({"templates": [{"name": "t", "payload_schema": {"type": "objekt"}}]}, "templates[0].payload_schema", "no JSON Schema"),
        (
            {"templates": [{"name": "t", "payload_schema": {"$ref": "http://127.0.0.1:9/x"}}]},
            "templates[0].payload_schema",
            "never fetched",
        ),
        ({"templates": [{"name": "t", "queue": "no"}]}, "templates[0].queue", "does not exist"),
        ({"sources": [{"name": "s", "path": "/etc"}]}, "sources[0].external", "outside"),
        ({"sources": [{"name": "s", "path": "/etc", "external": True}]}, "sources[0].path", "external_roots"),
        ({"sources": [{"name": "s", "path": "../x"}]}, "sources[0].path", "no path"),
        ({"sources": [{"name": "s", "path": "/nowhere/home"}]}, "sources[0].path", "the home itself"),
        ({"sources": [{"name": "s", "path": "a\u0000b"}]}, "sources[0].path", "no path"),
        ({"sources": [{"name": "s", "path": "x", "target": "fm:/a/../b"}]}, "sources[0].target", "file store"),
        ({"sources": [{"name": "s"}]}, "sources[0].path", "missing required field"),
        ({"workers": [{"name": "a", "kind": "template", "max_steps": 10**400}]}, "workers[0].max_steps", "between"),
        ({"sources": [{"name": "s", "path": "a" * 300}]}, "sources[0].path", "no path"),
        ({"templates": [{"name": "t", "metadata": NESTED}]}, "", "Recursion"),
        ({"version": 2}, "version", "1"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_where_it_stands(document: Any, field: str, part: str) -> None:
    found = load(document)
    texts = [f"{problem.field}|{problem.message} {problem.fix}" for problem in found.errors]
    assert any(text.startswith(f"{field}|") and part in text for text in texts), texts


def test_all_mistakes_are_told_at_once_with_kind_and_name() -> None:
    found = load(
        {
            "workers": [{"name": "a", "kind": "no"}, {"name": "b", "kind": "template", "x": 1}],
            "pools": [{"name": "p", "definition": "b", "max_total": 0}],
            "sources": [{"name": "s", "path": "/etc", "external": True}],
        }
    )
    assert {(problem.kind, problem.name) for problem in found.errors} == {
        ("worker", "a"),
        ("worker", "b"),
        ("pool", "p"),
        ("source", "s"),
    }
    assert found.valid == Definitions()


@pytest.mark.parametrize(
    ("worker", "part"),
    [
        ({"status": "inactive"}, "disabled"),
        ({"auth": {"method": "env", "value": "A"}}, "env_var"),
        ({"cost_metrics": {"input_token_cost": 1}}, "left out"),
    ],
)
def test_slips_of_the_seeds_are_warned_of(worker: dict[str, Any], part: str) -> None:
    document = {"workers": [{"name": "a", "kind": "template", **worker}]}
    found = load(document, key_for=lambda _, __: "openai")
    assert found.errors == []
    assert [problem.name for problem in found.warnings] == ["a"]
    assert part in found.warnings[0].message


def test_an_empty_list_of_interaction_models_is_conversational() -> None:
    worker = {"name": "a", "kind": "template", "interaction_models": []}
    assert load({"workers": [worker]}).valid.workers["a"].interaction is Interaction.conversational


def test_an_auth_names_a_key_of_the_configuration() -> None:
    worker = {"name": "a", "kind": "template", "auth": {"method": "env_var", "value": "OPENAI_API_KEY"}}
    found = load({"workers": [worker]}, key_for=lambda method, value: "openai" if value == "OPENAI_API_KEY" else None)
    assert found.valid.workers["a"].key == "openai"
    (error,) = load({"workers": [worker]}).errors
    assert error.field == "workers[0].auth"
    assert "OPENAI_API_KEY" in error.message


@pytest.mark.parametrize(
    "auth",
    [
        {"method": "inline", "value": KEY},
        {"method": "env_var", "value": KEY},
        KEY,
        {"method": KEY},
        [KEY],
        {"value": KEY},
        {"method": "none", KEY: 1},
    ],
)
def test_a_key_in_a_bundle_is_never_said_back(auth: Any) -> None:
    found = load({"workers": [{"name": "a", "kind": "template", "auth": auth}]})
    told = [*found.errors, *found.warnings]
    assert told
    if not (isinstance(auth, dict) and KEY in auth):
        assert KEY not in repr(told)
    assert KEY not in repr(found.valid)


def test_text_that_is_not_json_says_where() -> None:
    with pytest.raises(AiwmError) as caught:
        read_document('{"workers": [\n\n {"name": }]}')
    assert "line 3" in caught.value.info.message


def test_the_schema_is_valid_for_editors_and_refers_only_to_itself() -> None:
    import jsonschema_rs

    schema = bundle_schema()
    assert jsonschema_rs.Draft202012Validator(schema).is_valid(SNAKE)
    text = json.dumps(schema)
    assert all(part.startswith("#/$defs/") for part in text.split('"$ref": "')[1:])
