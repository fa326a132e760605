"""`aiwm try MODEL "…"`: from a model to an answer, whatever is missing on the way is made and named."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated, Any

import msgspec
import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.output import Format, shown, write
from aiwm_tui.cli.task_text import result_text
from aiwm_tui.cli.waiting import Follower, deadline, outcome_code, wait
from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code
from engine.contract.records import ModelRow
from engine.contract.requests.fleet import ModelList
from engine.contract.requests.models import ModelOffer, Offered
from engine.contract.requests.tasks import TaskSubmit

_QUICK_S, _LOOK_S, _SAY_AGAIN_S, _LONGEST_LOAD_S = 1.5, 0.2, 10.0, 3600.0


def add(app: typer.Typer) -> None:
    command(app, "try")(_try)


def _try(
    cli: Cli,
    *,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="a known name, a directory or .gguf file, or a server's address", show_default=False
        ),
    ],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="- reads it from stdin", show_default=False)],
    remote: Annotated[
        str, typer.Option("--remote", metavar="NAME", help="which of a server's models", show_default=False)
    ] = "",
    key: Annotated[
        str, typer.Option("--key", metavar="NAME", help="the API key of config.toml for the server", show_default=False)
    ] = "",
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", help="tokens of the answer at most", show_default=False)
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", metavar="X", help="0 always takes the likeliest", show_default=False),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="wait at most: 30s, 5m, seconds", show_default=False)
    ] = None,
) -> int:
    """Put one prompt to a model and print the answer as it comes. A model that is not known yet is added first, with a worker
    definition, a pool and a queue of its name; what was made is said.

    JSON: kind tried at the end, with data.offered for what was made; --jsonl: kind offered, chunks as they come, then kind task."""
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise AiwmError(Code.bad_request, "the prompt is empty", field="prompt")
    sampling = {"max_tokens": max_tokens, "temperature": temperature}
    said = {name: value for name, value in sampling.items() if value is not None}
    payload: dict[str, Any] = {"prompt": text, **said}
    until = deadline(timeout)
    with cli.connected(work=True) as client:
        offered = client.call(ModelOffer(model=_named(model), remote=remote, key=key))
        _say(cli, offered)
        task = client.call(TaskSubmit(queue=offered.queue, payload=payload))
        if cli.output.for_people:
            _say_loading(cli, client, offered.model, until)
        follower = Follower(cli, task.id)
        if cli.output.form is not Format.json:
            follower.run(client, until)
        outcome = wait(cli, client, [task.id], until)[0]
    if cli.output.form is Format.json:
        cli.output.one("tried", {**msgspec.structs.asdict(outcome), "offered": offered})
    elif cli.output.form is Format.jsonl:
        cli.output.line("task", outcome)
    elif outcome.result is not None and not follower.printed:
        write(shown(result_text(outcome.result)))
    return outcome_code(cli, [outcome], f" in {timeout}" if timeout else "")


def _say_loading(cli: Cli, client: BlockingClient, model: str, until: float | None) -> None:
    """While the model comes up: say so, and how long it will take where that is known. A quick one passes without a word."""
    began, said = time.monotonic(), 0.0
    while until is None or time.monotonic() < until:
        rows = {row.state: row for row in client.call(ModelList()) if row.model == model}
        now = time.monotonic()
        starting = rows.get("starting")
        if rows.keys() - {"starting", "stopped"} or now - began > _LONGEST_LOAD_S:
            return
        if starting is not None and now - began > _QUICK_S and now - said > _SAY_AGAIN_S:
            said = now
            cli.output.talk(f"{model} is being loaded{_progress(starting)}")
        elif starting is None and now - began > _QUICK_S:
            return  # it runs elsewhere, or something else comes first
        time.sleep(_LOOK_S)


def _progress(row: ModelRow) -> str:
    words = [f"{row.progress:.0%}"] if row.progress is not None else []
    if row.eta_ms is not None and (left := row.eta_ms - time.time_ns() // 1_000_000) > 0:
        from aiwm_tui.live.format import span

        words.append(f"about {span(left)} to go")
    return f": {', '.join(words)}" if words else ""


def _named(model: str) -> str:
    """A path as the engine knows it; a name or an address as it is."""
    if model.startswith(("http://", "https://")):
        return model
    looks_like_path = model.startswith(("/", "~", "./", "../")) or model in (".", "..") or model.endswith(".gguf")
    return os.path.abspath(os.path.expanduser(model)) if looks_like_path else model


def _say(cli: Cli, offered: Offered) -> None:
    if cli.output.form is Format.jsonl:
        cli.output.line("offered", offered)
    elif offered.made:
        cli.output.talk(f"made {', '.join(offered.made)} (aiwm model show {offered.model})")
