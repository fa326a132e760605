"""From what an operator said to a definition: a path, an address, a command or a route becomes a model, with a verdict where there is
one."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from engine.contract.definitions import NAME_PATTERN, Backend, ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.models import ModelAdd, Verdict
from engine.contract.suggest import nearest
from engine.inference.commands.words import check_words
from engine.inference.launch import Sizes, in_process, settings_of
from engine.inference.models.defaults import definition_for, kind_text
from engine.inference.models.detect import ask, base_url, is_loopback
from engine.inference.models.kinds import ModelKind, Seen
from engine.inference.models.look import look, models_in
from engine.inference.models.machine import Machine
from engine.inference.models.sample import samples
from engine.inference.models.verdict import judge
from engine.inference.remote.options import read_options
from engine.inference.remote.routes import route_fault
from engine.inference.settings import ProcessSettings

_TAKEN_OVER = (
    "key",
    "slots",
    "context",
    "replicas",
    "devices",
    "split",
    "kv",
    "kv_bytes",
    "idle_ms",
    "memory_bytes",
    "description",
)
_MOST_SLOTS, _MOST_CONTEXT, _MOST_REPLICAS = 1024, 2**24, 64


async def check_path(
    path: str, machine: Machine, slots: int, context: int, known: Callable[[Path], str]
) -> list[Verdict]:
    """The verdict on every model at a path, with samples of their chat templates. `known` says what a path is called already."""
    seen = await asyncio.to_thread(lambda: [look(found) for found in models_in(absolute(path))])
    if not seen:
        message = f"there is no model in {path[:200]}"
        raise AiwmError(
            Code.model_not_found, message, field="path", fix="a directory with config.json, or a .gguf file"
        )
    tried = await samples([it.template for it in seen])
    return [
        msgspec.structs.replace(
            judge(it, machine, slots=slots, context=context, known_as=known(Path(it.path))),
            template=sample.verdict,
            sample=sample.text,
        )
        for it, sample in zip(seen, tried, strict=True)
    ]


def absolute(path: str) -> Path:
    """A path of this machine. Raises bad_request for one that is not absolute."""
    if not path.startswith("/") or "\0" in path:
        raise AiwmError(Code.bad_request, f'"{path[:200]}" is no absolute path', field="path", fix="/srv/models/NAME")
    return Path(path)


async def proposed(
    request: ModelAdd, machine: Machine, known: Callable[[Path], str]
) -> tuple[ModelDefinition, Verdict | None]:
    """The definition that a request means, not yet looked at as a whole. Raises what is wrong with it."""
    given = [word for word in ("path", "url", "command", "route") if getattr(request, word)]
    if given not in (["path"], ["url"], ["command"], ["path", "command"], ["route"]):
        message = "say one of path, url, command and route (a command may have a path)"
        raise AiwmError(Code.bad_request, message, field="path", fix="aiwm model add PATH_OR_URL")
    if request.path:
        definition, verdict = await _of_path(request, machine, known)
    elif request.url:
        definition, verdict = await _of_url(request), None
    else:
        definition, verdict = _of_words(request), None
    changes = {word: getattr(request, word) for word in _TAKEN_OVER if getattr(request, word)}
    if verdict is not None:
        changes = {"slots": verdict.slots, "context": verdict.context, **changes}
    if request.health is not None:
        changes["health"] = request.health
    return msgspec.structs.replace(definition, **changes), verdict


async def _of_path(
    request: ModelAdd, machine: Machine, known: Callable[[Path], str]
) -> tuple[ModelDefinition, Verdict]:
    path = absolute(request.path)
    found = await asyncio.to_thread(models_in, path)
    if len(found) > 1:
        message = f"{path} holds {len(found)} models"
        raise AiwmError(Code.bad_request, message, field="path", fix=f"aiwm model check {path}, then add one of them")
    seen = await asyncio.to_thread(look, found[0] if found else path)
    (sample,) = await samples([seen.template])
    judged = judge(seen, machine, slots=request.slots, context=request.context, known_as=known(Path(seen.path)))
    verdict = msgspec.structs.replace(judged, template=sample.verdict, sample=sample.text)
    _refuse(seen, verdict, request)
    name = request.name or seen.name
    if request.command:
        check_words(request.command)
        return ModelDefinition(name=name, backend=Backend.command, path=seen.path, command=request.command), verdict
    if request.backend in (Backend.reference, Backend.exllamav2):
        return ModelDefinition(name=name, backend=request.backend, path=seen.path), verdict
    if request.backend is not None:
        message = f"a path is run by reference or exllamav2, or by a command, not by {request.backend.value}"
        raise AiwmError(
            Code.bad_request, message, field="backend", fix="--command 'llama-server -m {path} --port {port}'"
        )
    made = definition_for(name, seen)
    if verdict.runs_with in (Backend.reference.value, Backend.exllamav2.value):
        made = msgspec.structs.replace(made, backend=Backend(verdict.runs_with))
    return made, verdict


def _refuse(seen: Seen, verdict: Verdict, request: ModelAdd) -> None:
    """Raise for what cannot run: never when it is damaged or no model; a refusal by our backends gives way to a command, or to `anyway`."""
    if verdict.state in ("damaged", "no model") or seen.refused:
        message = f"{seen.path}: {verdict.why}"
        raise AiwmError(Code.model_invalid, message, field="path", fix=verdict.fix)
    if verdict.state == "refused" and not request.command and not request.anyway:
        message = f"{seen.path} is {kind_text(seen)}, which nothing here runs: {verdict.why}"
        raise AiwmError(Code.model_refused, message, field="path", fix=verdict.fix or "--anyway adds it all the same")


async def with_files(definition: ModelDefinition) -> ModelDefinition:
    """The definition with the path of the model that lies at its path. Raises model_refused when none does that can be read."""
    path = absolute(definition.path)
    found = await asyncio.to_thread(models_in, path)
    seen = await asyncio.to_thread(look, found[0]) if len(found) == 1 else None
    if seen is not None and seen.kind is not ModelKind.unknown and not seen.damaged and not seen.refused:
        return msgspec.structs.replace(definition, path=seen.path)
    many = f"it holds {len(found)} models" if found else "it holds no model"
    why = many if seen is None else next(filter(None, (*seen.damaged, seen.refused, *seen.notes)), "it holds no model")
    raise AiwmError(
        Code.model_refused,
        f"path is {path}, from where no model can be run: {why}",
        field="path",
        fix=f"a directory with config.json and weights, or a .gguf file (aiwm model check {path})",
    )


def check_program(definition: ModelDefinition) -> None:
    """Raise bad_request for a command whose program is not on this machine."""
    if not definition.command or "{" in definition.command[0] or shutil.which(definition.command[0]):
        return
    program = definition.command[0][:200]
    where = "there" if "/" in program else "in PATH"
    message = f"{program} is not {where}, or cannot be executed"
    raise AiwmError(Code.bad_request, message, field="command", fix="install it, or give the program's whole path")


async def check_memory(definition: ModelDefinition, defaults: ProcessSettings) -> None:
    """Raise model_refused for a bound that the model's own process would pass at once."""
    if not definition.memory_bytes or not in_process(definition):
        return
    settings = settings_of(definition, defaults)
    needs = (await asyncio.to_thread(Sizes().estimate, definition, settings)).total
    if definition.memory_bytes < needs:
        raise AiwmError(
            Code.model_refused,
            f"memory_bytes is {definition.memory_bytes:,}, but a process of {definition.name} needs {needs:,}",
            field="memory_bytes",
            fix=f"memory={-(-needs // 2**20)}M, or fewer slots or a shorter context (aiwm model plan {definition.name})",
        )


async def _of_url(request: ModelAdd) -> ModelDefinition:
    url = base_url(request.url)
    backend = request.backend or (Backend.command if is_loopback(url) and not request.key else Backend.openai)
    if backend not in (Backend.openai, Backend.anthropic, Backend.command):
        message = f"an address is used as openai, anthropic or command, not as {backend.value}"
        raise AiwmError(Code.bad_request, message, field="backend", fix="--backend openai")
    remote = request.remote
    if not (remote and (request.anyway or request.key)):
        remote = await _remote(request, url)
    name = request.name or re.sub(r"[^A-Za-z0-9._-]+", "-", remote.rpartition("/")[2]).strip("-._")[:64]
    return ModelDefinition(name=name, backend=backend, url=url, remote=remote)


async def _remote(request: ModelAdd, url: str) -> str:
    """The model that is meant at a server: the one that was named, or the only one that there is."""
    server = await ask(url)
    if server.needs_key:
        fix = "--remote MODEL --key NAME, with [keys.NAME] in config.toml"
        raise AiwmError(Code.bad_request, f"{url} says nothing without an API key", field="key", fix=fix)
    if request.remote:
        if server.models and request.remote not in server.models:
            fix = nearest(request.remote, server.models) or f"one of {', '.join(server.models[:8])}"
            message = f'{url} has no model "{request.remote[:80]}"'
            raise AiwmError(Code.model_not_found, message, field="remote", fix=fix)
        return request.remote
    if len(server.models) != 1:
        some = f": {', '.join(server.models[:8])}{' …' if len(server.models) > 8 else ''}" if server.models else ""
        message = f"{url} offers {len(server.models)} models{some}"
        raise AiwmError(Code.bad_request, message, field="remote", fix="name one: --remote MODEL (or --all)")
    return server.models[0]


def _of_words(request: ModelAdd) -> ModelDefinition:
    if not request.name:
        raise AiwmError(Code.bad_request, "a command or route needs a name", field="name", fix="--name NAME")
    if request.command:
        check_words(request.command)
        return ModelDefinition(
            name=request.name, backend=Backend.command, command=request.command, remote=request.remote
        )
    return ModelDefinition(name=request.name, backend=Backend.hybrid, route=request.route, policy=request.policy)


def check(definition: ModelDefinition, keys: Collection[str], find: Callable[[str], object]) -> None:
    """Raise bad_request naming the field of a definition that cannot work. `find` raises for a model that does not exist."""
    if not re.fullmatch(NAME_PATTERN, definition.name):
        fix = "letters, digits, dot, dash and underscore, at most 64, a letter or digit first"
        raise AiwmError(Code.bad_request, f'"{definition.name[:80]}" is no name for a model', field="name", fix=fix)
    for field, value, low, high in (
        ("slots", definition.slots, 0, _MOST_SLOTS),
        ("context", definition.context, 0, _MOST_CONTEXT),
        ("replicas", definition.replicas, 0, _MOST_REPLICAS),
        ("kv_bytes", definition.kv_bytes, 0, 2**50),
        ("adapter_slots", definition.adapter_slots, 0, 10_000),
        ("adapter_bytes", definition.adapter_bytes, 0, 2**50),
        ("idle_ms", definition.idle_ms, -1, 2**40),
        ("memory_bytes", definition.memory_bytes, 0, 2**50),
        *(("devices", device, 0, 63) for device in definition.devices),
        *(("split", share, 0, 2**20) for share in definition.split),
    ):
        if not low <= value <= high:
            message = f"{field} is {value}, but must lie between {low} and {high}"
            raise AiwmError(Code.bad_request, message, field=field)
    _check_way(definition)
    if definition.key and definition.key not in keys:
        message = f'config.toml lists no API key "{definition.key[:64]}"'
        raise AiwmError(Code.key_not_found, message, field="key", fix=nearest(definition.key, keys) or "aiwm key list")
    if definition.backend is Backend.hybrid:
        fault = route_fault(definition)
        if fault is not None:
            raise fault
        for name in definition.route:
            find(name)


def _check_way(definition: ModelDefinition) -> None:
    """That a definition has what its backend goes by, in a form that can be used."""
    needed = {
        Backend.reference: ("path",),
        Backend.exllamav2: ("path",),
        Backend.openai: ("url",),
        Backend.anthropic: ("url",),
        Backend.command: ("command", "url"),
        Backend.hybrid: ("route",),
    }[definition.backend]
    if not any(getattr(definition, field) for field in needed):
        message = f"a model run by {definition.backend.value} needs a {' or a '.join(needed)}"
        raise AiwmError(Code.bad_request, message, field=needed[0])
    if definition.path:
        absolute(definition.path)
    if definition.url:
        base_url(definition.url)
        read_options(definition.metadata, {})
    if definition.command:
        check_words(definition.command)
    if not definition.health.startswith("/") or any(c.isspace() for c in definition.health):
        message = f'"{definition.health[:80]}" is no path of an address'
        raise AiwmError(Code.bad_request, message, field="health", fix="/health")
