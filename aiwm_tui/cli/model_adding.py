"""`aiwm model add` and `check`: a path, an address, a command, or the configuration of llama-swap becomes models."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import msgspec
import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.defining import DryRun, text_of
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.model_changing import cache_field, numbers
from aiwm_tui.cli.model_text import added_text, verdict_text
from aiwm_tui.typed import absolute_path, size_bytes
from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code
from engine.contract.requests import models

_OWN = ("path", "url", "key", "command", "devices", "split", "kv", "kv_bytes", "memory_bytes", "dry_run")


def register(noun: typer.Typer) -> None:
    command(noun, "add", models.ModelAdd, omit=_OWN, names={"policy": "route-policy"})(_add)
    command(noun, "check")(_check)


Target = Annotated[
    str,
    typer.Argument(metavar="[PATH|URL]", help="a directory, a .gguf file, or a server's address", show_default=False),
]
Key = Annotated[
    str,
    typer.Option("--key", metavar="NAME", help="the API key of config.toml that a server is sent", show_default=False),
]
Command = Annotated[
    str,
    typer.Option(
        "--command",
        metavar="WORDS",
        help="starts a server: {port} {path} {name} {context} {slots} {total_context} are filled in",
        show_default=False,
    ),
]
Devices = Annotated[
    str, typer.Option("--devices", metavar="N,N", help="the GPUs it goes to, such as 0,1", show_default=False)
]
Split = Annotated[
    str, typer.Option("--split", metavar="GB,GB", help="GB of weights for each of these GPUs", show_default=False)
]
Kv = Annotated[
    str,
    typer.Option(
        "--kv", metavar="KIND|SIZE", help="of keys and values: fp16, q8, q6, q4, or such as 4G", show_default=False
    ),
]
Memory = Annotated[
    str, typer.Option("--memory", metavar="SIZE", help="what its process may take, such as 16G", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="every model there that can run here", show_default=False)]
LlamaSwap = Annotated[
    str | None,
    typer.Option("--llama-swap", metavar="FILE", help="take over llama-swap's config.yaml", show_default=False),
]


def _add(
    cli: Cli,
    request: models.ModelAdd,
    *,
    target: Target = "",
    key: Key = "",
    words: Command = "",
    devices: Devices = "",
    split: Split = "",
    kv: Kv = "",
    memory: Memory = "",
    every: All = False,
    llama_swap: LlamaSwap = None,
    dry_run: DryRun = False,
) -> int:
    """Let workers use a model: a directory or GGUF file, a server, or a command that starts one. Nothing is copied or loaded.

    With it come a worker definition, a pool and a queue of its name (--bare: not). A directory that holds several is judged, a line
    each; --all adds those that can run. JSON: kind model; kind models for several."""
    if llama_swap is not None:
        return _import(cli, models.ModelImport(text=text_of(llama_swap), bare=request.bare, dry_run=dry_run))
    given: dict[str, Any] = {"key": key, "dry_run": dry_run, "command": _words(words), **cache_field(kv)}
    given |= {"devices": tuple(map(int, numbers(devices, "--devices")))}
    given |= {
        "split": tuple(numbers(split, "--split")),
        "memory_bytes": size_bytes(memory, "--memory") if memory else 0,
    }
    request = msgspec.structs.replace(request, **given)
    with cli.connected() as client:
        if target.startswith(("http://", "https://")):
            request = msgspec.structs.replace(request, url=target)
            return _several(cli, client, _of_server(client, request)) if every else _one(cli, client, request)
        if not target:
            return _one(cli, client, request)
        request = msgspec.structs.replace(request, path=absolute_path(target))
        found = client.call(models.ModelCheck(path=request.path, context=request.context, slots=request.slots))
        if len(found) == 1 and not every:
            return _one(cli, client, msgspec.structs.replace(request, path=found[0].path))
        if not every:
            _table(cli, found)
            cli.output.talk(f"{len(found)} models; nothing was added: aiwm model add PATH of one of them, or --all")
            return ExitCode.ok
        usable = [it for it in found if it.state in ("usable", "no room") and not it.known_as]
        return _several(cli, client, [msgspec.structs.replace(request, path=it.path, name="") for it in usable])


def _one(cli: Cli, client: BlockingClient, request: models.ModelAdd) -> int:
    added = client.call(request)
    cli.output.one("model", added, lambda: added_text(added))
    return ExitCode.ok


def _several(cli: Cli, client: BlockingClient, requests: list[models.ModelAdd]) -> int:
    """Add one after the other; what is refused hinders nothing and is said."""
    added, failed = [], 0
    for request in requests:
        try:
            added.append(client.call(request))
        except AiwmError as error:
            failed += 1
            cli.output.error(error)
    _print_added(cli, added)
    return ExitCode.failed if failed else ExitCode.ok


def _of_server(client: BlockingClient, request: models.ModelAdd) -> list[models.ModelAdd]:
    """A request for each model that a server offers."""
    port = request.url.rpartition(":")[2].partition("/")[0]
    if not port.isdecimal():
        raise AiwmError(Code.bad_request, "--all is for servers of this machine", field="all", fix="--remote MODEL")
    found = client.call(models.ModelDetect(ports=(int(port),)))
    names = [name for server in found.servers if f":{port}/" in f"{server.url}/" for name in server.models]
    if not names:
        raise AiwmError(Code.remote_failed, f"{request.url} offers no models", field="url", fix="aiwm model detect")
    return [msgspec.structs.replace(request, remote=name, name="") for name in names]


def _import(cli: Cli, request: models.ModelImport) -> int:
    done = cli.call(request)
    _print_added(cli, list(done.added))
    for refused in done.refused:
        cli.output.talk(f"not taken over: {refused.name}: {refused.why}")
    return ExitCode.failed if done.refused else ExitCode.ok


def _print_added(cli: Cli, added: list[models.Added]) -> None:
    if cli.output.for_people:
        for one in added:
            cli.output.one("model", one, lambda one=one: added_text(one))  # type: ignore[misc]
    else:
        cli.output.many("model", "models", added, len(added))


def _check(
    cli: Cli,
    *,
    target: Annotated[str, typer.Argument(metavar="PATH", help="a directory or a .gguf file", show_default=False)],
    context: Annotated[
        int, typer.Option("--context", metavar="N", help="tokens a request may have", show_default=False)
    ] = 0,
    slots: Annotated[int, typer.Option("--slots", metavar="N", help="requests at once", show_default=False)] = 0,
) -> None:
    """What a directory or file is, what it needs, whether it can run here and with what. Reads headers only and changes nothing.

    A directory that holds several models gets a line for each. JSON: kind verdicts."""
    found = cli.call(models.ModelCheck(path=absolute_path(target), context=context, slots=slots))
    if len(found) == 1 and cli.output.for_people:
        cli.output.one("verdict", found[0], lambda: verdict_text(found[0]))
    else:
        _table(cli, found)


def _table(cli: Cli, found: list[models.Verdict]) -> None:
    cli.output.many("verdict", "verdicts", found, len(found), empty="no models there")


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise AiwmError(Code.bad_request, f"--command cannot be split: {error}", field="command") from None
