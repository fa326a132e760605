"""What a provider's model is called: its name alone says how it is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.definitions import Backend, Provider, WorkerDefinition
from engine.contract.models import URLS, host_of, implied, model_name, provider_fault, url_fault
from engine.control.checks import Surroundings, check
from engine.control.definitions import Definitions
from engine.workers.registry import KindRegistry


def _worker(**fields: Any) -> WorkerDefinition:
    return WorkerDefinition(name="w", **fields)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"model": "aiwm-nano"}, "aiwm-nano"),
        ({"model": "/models/x"}, "/models/x"),
        ({"provider": Provider.openai, "model": "gpt-4o", "key": "openai"}, "openai/gpt-4o"),
        ({"provider": Provider.openai, "model": "gpt-4o", "key": "team"}, "openai/gpt-4o#team"),
        ({"provider": Provider.ollama, "model": "llama3:8b"}, "ollama/llama3:8b"),
        (
            {"provider": Provider.custom, "model": "meta/l3", "options": {"base_url": "http://10.0.0.7:8000/v1/"}},
            "custom/meta/l3@http://10.0.0.7:8000/v1",
        ),
        ({"provider": Provider.openai, "model": ""}, ""),
        (
            {
                "provider": Provider.openai,
                "model": "m",
                "key": "openai",
                "options": {"base_url": URLS[Provider.openai]},
            },
            "openai/m",
        ),
    ],
)
def test_names(fields: dict[str, Any], name: str) -> None:
    assert model_name(_worker(**fields)) == name


@pytest.mark.parametrize(
    ("name", "backend", "url", "remote", "key"),
    [
        ("openai/gpt-4o", Backend.openai, URLS[Provider.openai], "gpt-4o", "openai"),
        ("anthropic/claude", Backend.anthropic, "https://api.anthropic.com/v1", "claude", "anthropic"),
        ("google/gemini", Backend.openai, URLS[Provider.google], "gemini", "google"),
        ("ollama/llama3:8b", Backend.openai, "http://localhost:11434/v1", "llama3:8b", ""),
        ("anthropic/c@http://127.0.0.1:9#k", Backend.anthropic, "http://127.0.0.1:9", "c", "k"),
    ],
)
def test_what_a_name_says(name: str, backend: Backend, url: str, remote: str, key: str) -> None:
    found = implied(name)
    assert found is not None
    assert (found.name, found.backend, found.url, found.remote, found.key) == (name, backend, url, remote, key)


@pytest.mark.parametrize("name", ["aiwm-nano", "/openai/x", "local/x", "openai", "openai/", "", "elsewhere/x"])
def test_names_of_the_book_are_not_ours(name: str) -> None:
    assert implied(name) is None


_OTHERS = st.sampled_from([provider for provider in Provider if provider is not Provider.local])
_URLS = st.sampled_from(["", "http://127.0.0.1:8000/v1", "https://[::1]:9/x/", *URLS.values()])
_MODELS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=30)


@given(_OTHERS, _MODELS, _URLS, st.sampled_from(["", "openai", "anthropic", "team.key-1"]))
def test_a_name_says_all_that_its_worker_said(provider: Provider, model: str, url: str, key: str) -> None:
    worker = _worker(provider=provider, model=model, key=key, options={"base_url": url} if url else {})
    if provider_fault(worker) is not None:
        return
    found = implied(model_name(worker))
    assert found is not None
    assert (found.remote, found.key) == (model, key)
    assert found.url == (url.rstrip("/") or URLS[provider])
    assert not url_fault(found.url)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"provider": Provider.openai, "key": "far", "options": {"base_url": "http://10.0.0.7:8000/v1"}}, None),
        ({"provider": Provider.openai, "key": "far"}, 'the key "far" may not be sent to api.openai.com'),
        ({"provider": Provider.anthropic, "key": ""}, "anthropic answers nobody without an API key"),
        ({"provider": Provider.ollama}, None),
    ],
)
def test_a_key_that_cannot_go_is_said_at_once(fields: dict[str, Any], words: str | None) -> None:
    worker = _worker(model="m", **fields)
    around = Surroundings(
        kinds=KindRegistry(),
        files=Path("/nowhere"),
        keys=lambda: ["far"],
        sendable=lambda _, host: host == "10.0.0.7:8000",
    )
    faults = check(worker, Definitions(workers={"w": worker}), around)
    assert [fault.message for fault in faults] == ([words] if words else [])
    assert all(fault.warning and fault.field == "key" for fault in faults)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.example.com/v1", "api.example.com"),
        ("https://api.example.com:443/v1", "api.example.com"),
        ("http://api.example.com:443/v1", "api.example.com:443"),
        ("http://[::1]:8000/v1", "[::1]:8000"),
        ("http://LOCALHOST/", "localhost"),
    ],
)
def test_hosts_as_keys_list_them(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"provider": Provider.custom}, "options.base_url"),
        ({"provider": Provider.openai, "options": {"base_url": 7}}, "options.base_url"),
        ({"provider": Provider.openai, "options": {"base_url": "ftp://x"}}, "options.base_url"),
        ({"provider": Provider.openai, "options": {"base_url": "http://me:secret@x/v1"}}, "options.base_url"),
        ({"provider": Provider.openai, "options": {"base_url": "http://x/v1?key=secret"}}, "options.base_url"),
        ({"provider": Provider.openai, "options": {"base_url": "http://x:99999/"}}, "options.base_url"),
        ({"provider": Provider.openai, "options": {"base_url": "http://x/ v1"}}, "options.base_url"),
        ({"provider": Provider.openai, "model": "a#b"}, "model"),
        ({"provider": Provider.openai, "model": "a\x1b[0m"}, "model"),
    ],
)
def test_what_can_never_be_reached(fields: dict[str, Any], field: str) -> None:
    found = provider_fault(_worker(**{"model": "m", **fields}))
    assert found is not None
    assert found.info.field == field
    assert "secret" not in found.info.message
