"""What is on this machine already: servers that listen on the known ports, directories that hold models, programs that run them.

Only the loopback interface is asked, all ports at once, briefly. What a server says is data: names of models are cut and cleaned."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.contract.models import url_fault
from engine.contract.requests.models import Detected, FoundDirectory, FoundServer
from engine.inference.models.look import models_in

PORTS: Mapping[int, str] = {
    8080: "llama-server",
    8000: "vLLM",
    5000: "TabbyAPI",
    11434: "Ollama",
    1234: "LM Studio",
    30000: "SGLang",
    5001: "KoboldCpp",
}
"""The default ports of servers that speak OpenAI's protocol (from their documentation); llama-swap shares 8080."""

_OWNERS = {
    "llamacpp": "llama-server",
    "vllm": "vLLM",
    "tabbyapi": "TabbyAPI",
    "llama-swap": "llama-swap",
    "library": "Ollama",
    "sglang": "SGLang",
    "organization_owner": "LM Studio",
    "koboldcpp": "KoboldCpp",
}
"""`owned_by` of a server's models → the program."""

PROGRAMS = ("llama-server", "llama-swap", "vllm", "ollama")
_TIMEOUT_S = 1.0
_MOST_BYTES = 4_000_000
_MOST_MODELS = 500


class _Model(msgspec.Struct):
    id: str
    owned_by: str | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


async def detect(ports: Iterable[int] = (), known: Mapping[str, tuple[str, ...]] = {}) -> Detected:
    """Look around. `known` are the names of models of ours by the place of the address that they go to."""
    asked = [f"http://127.0.0.1:{port}/v1" for port in dict.fromkeys((*PORTS, *ports))]
    answers, directories = await asyncio.gather(
        asyncio.gather(*(_there(url) for url in asked)), asyncio.to_thread(_directories)
    )
    servers = tuple(
        msgspec.structs.replace(server, known_as=known.get(place(server.url), ()))
        for server in answers
        if server is not None
    )
    programs = tuple(f"{name} {path}" for name in PROGRAMS if (path := shutil.which(name)))
    return Detected(servers=servers, directories=directories, programs=programs)


def base_url(url: str) -> str:
    """A server's address as clients of OpenAI's protocol want it, with /v1. Raises bad_request."""
    wrong = url_fault(url)
    if wrong:
        raise AiwmError(Code.bad_request, f"url: {wrong}", field="url", fix="http://127.0.0.1:8080")
    bare = url.rstrip("/")
    return bare if bare.endswith("/v1") or bare.count("/") > 2 else f"{bare}/v1"


def place(url: str) -> str:
    """An address under which two are equal that mean the same server."""
    return url.replace("://localhost", "://127.0.0.1", 1).rstrip("/")


def is_loopback(url: str) -> bool:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


async def ask(url: str, timeout_s: float = 5.0) -> FoundServer:
    """What a server at an OpenAI address (with /v1) offers. Raises remote_failed when it does not answer, or speaks something else."""
    httpx = await asyncio.to_thread(importlib.import_module, "httpx")
    try:
        status, body = await _get(httpx, f"{url}/models", timeout_s)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        message = f"{url} does not answer: {reason}"
        raise AiwmError(
            Code.remote_failed, message, field="url", fix="start the server, or correct the address"
        ) from None
    if status in (401, 403):
        return FoundServer(url=url, program=_by_port(url), needs_key=True)
    try:
        if status != 200:
            raise ValueError(f"says {status}")
        models = msgspec.json.decode(body, type=_Models).data[:_MOST_MODELS]
    except (ValueError, RecursionError) as error:
        reason = "is no list of models" if isinstance(error, NOT_JSON) else str(error)
        message = f"{url}/models {reason}: not a server that speaks OpenAI's protocol"
        raise AiwmError(Code.remote_failed, message, field="url", fix="aiwm model detect") from None
    owner = next((_OWNERS.get((model.owned_by or "").lower()) for model in models), None)
    names = tuple(clean for model in models if (clean := _clean(model.id)))
    return FoundServer(url=url, program=owner or _by_port(url), models=names)


async def _get(httpx: Any, url: str, timeout_s: float) -> tuple[int, bytes]:
    """Status and the body's first 4 MB. No proxies, no redirects."""
    body = bytearray()
    async with (
        httpx.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False) as client,
        client.stream("GET", url) as answer,
    ):
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > _MOST_BYTES:
                break
        return int(answer.status_code), bytes(body[:_MOST_BYTES])


async def _there(url: str) -> FoundServer | None:
    try:
        async with asyncio.timeout(2 * _TIMEOUT_S):
            return await ask(url, _TIMEOUT_S)
    except (AiwmError, TimeoutError):
        return None


def _by_port(url: str) -> str:
    port = url.rpartition(":")[2].partition("/")[0]
    return PORTS.get(int(port), "") if port.isdecimal() else ""


def _clean(name: str) -> str:
    """A model's name as a server says it; nothing that could move a cursor."""
    return "".join(c for c in name if c.isprintable())[:200]


def usual_places(home: Path, environment: Mapping[str, str]) -> list[Path]:
    """Where models lie that tools have fetched."""
    hub = environment.get("HF_HUB_CACHE") or f"{environment.get('HF_HOME') or home / '.cache/huggingface'}/hub"
    places = [
        home / "models",
        Path(hub),
        home / ".cache/llama.cpp",
        home / ".lmstudio/models",
        home / ".cache/lm-studio/models",
    ]
    places += [home / "text-generation-webui/user_data/models", Path("/models"), Path("/srv/models")]
    return places


def _directories() -> tuple[FoundDirectory, ...]:
    found = []
    for place in usual_places(Path.home(), os.environ):
        try:
            count = len(models_in(place)) if place.is_dir() else 0
        except OSError:
            continue
        if count:
            found.append(FoundDirectory(path=str(place), models=count))
    return tuple(found)
