"""What a worker's model is called, and what a provider's model is that nobody has defined.

A worker of provider `local` names a model of this machine's book. For every other provider the name says all that is needed to reach
the model, so that no table has to be kept: `openai/gpt-4o`, `ollama/llama3:8b`, `custom/m@http://10.0.0.7:8000/v1#team-key`."""

from __future__ import annotations

from urllib.parse import urlsplit

from engine.contract.definitions import Backend, ModelDefinition, Provider, WorkerDefinition
from engine.contract.errors import AiwmError, Code

URLS = {
    Provider.openai: "https://api.openai.com/v1",
    Provider.anthropic: "https://api.anthropic.com/v1",
    Provider.google: "https://generativelanguage.googleapis.com/v1beta/openai",
    Provider.ollama: "http://localhost:11434/v1",
}
"""Where the providers answer, from their API references (platform.openai.com, docs.anthropic.com, ai.google.dev/gemini-api/docs/openai,
docs.ollama.com/openai). All but Anthropic's speak OpenAI's protocol; /chat/completions or /messages follows. A custom provider has no
address of its own."""

_KEYLESS = frozenset({Provider.ollama, Provider.custom})
_OTHERS = {provider.value: provider for provider in Provider if provider is not Provider.local}


def needs_key(provider: Provider) -> bool:
    """Whether a provider answers nobody who has no API key."""
    return provider is not Provider.local and provider not in _KEYLESS


def model_name(worker: WorkerDefinition) -> str:
    """The model that a worker's calls go to; empty for a worker without one. Faults of its options are `provider_fault`'s to tell."""
    provider = worker.provider
    if provider is Provider.local or not worker.model:
        return worker.model
    name = f"{provider.value}/{worker.model}"
    url = _base_url(worker)
    if url:
        name += f"@{url}"
    return name if worker.key == _usual_key(provider, url) else f"{name}#{worker.key}"


def implied(name: str) -> ModelDefinition | None:
    """The definition that a provider's model has by its name alone; None for a name of the book, or a path."""
    word, _, rest = name.partition("/")
    provider = _OTHERS.get(word)
    if not rest or provider is None:
        return None
    rest, marked, key = rest.rpartition("#") if "#" in rest else (rest, "", "")
    at = max(rest.rfind("@http://"), rest.rfind("@https://"))
    remote, url = (rest, "") if at < 0 else (rest[:at], rest[at + 1 :])
    return ModelDefinition(
        name=name,
        backend=Backend.anthropic if provider is Provider.anthropic else Backend.openai,
        url=url or URLS.get(provider, ""),
        remote=remote,
        key=key if marked else _usual_key(provider, url),
    )


def provider_fault(worker: WorkerDefinition) -> AiwmError | None:
    """Why the model of a worker of another provider can never be reached, if so. The field is the worker's."""
    if worker.provider is Provider.local or not worker.model:
        return None
    given = worker.options.get("base_url", "")
    if not isinstance(given, str):
        return _fault("options.base_url", "options.base_url must be text", '"http://127.0.0.1:8000/v1"')
    if not given and worker.provider is Provider.custom:
        return _fault("options.base_url", "a custom provider needs its address", '"http://127.0.0.1:8000/v1"')
    if given and (wrong := url_fault(given)):
        return _fault("options.base_url", wrong, '"http://127.0.0.1:8000/v1"')
    if "#" in worker.model or "@http" in worker.model or not worker.model.isprintable():
        return _fault("model", f"{worker.model[:80]!a} is no name of a model")
    return None


def url_fault(url: str) -> str:
    """What is wrong with a server's address (`https://host:port/path`); empty for a good one. Nothing secret may stand in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"{_shown(url)} is no address: {error}"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return f"{_shown(url)} is no http or https address"
    if "@" in parts.netloc:
        return "an address may hold no user name or password: name a key"
    if parts.query or parts.fragment or not url.isprintable() or any(character.isspace() for character in url):
        return f"{_shown(url)} must end with its path"
    return ""


def host_of(url: str) -> str:
    """`api.example.com`, with its port where it is not the usual one: what keys are listed for."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return host if parts.port in (None, usual) else f"{host}:{parts.port}"


def _base_url(worker: WorkerDefinition) -> str:
    """The address that a worker gives, if it is not its provider's own."""
    given = worker.options.get("base_url", "")
    url = given.rstrip("/") if isinstance(given, str) else ""
    return "" if url == URLS.get(worker.provider) else url


def _usual_key(provider: Provider, url: str) -> str:
    """The name of the key that need not be said: the provider's own, at its own address."""
    return provider.value if needs_key(provider) and not url else ""


def _shown(url: str) -> str:
    """An address without what might be secret in it."""
    return ascii(url.rpartition("@")[2].partition("?")[0][:120])


def _fault(field: str, message: str, fix: str | None = None) -> AiwmError:
    return AiwmError(Code.definition_invalid, message, field=field, fix=fix)
