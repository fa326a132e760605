"""`aiwm task`: submit, run, look at, wait for."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer

from aiwm_tui.cli import bulk
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.comparing import compare_task, show_prompt
from aiwm_tui.cli.context import Context, context_text, explain
from aiwm_tui.cli.defining import text_of
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import shown, write
from aiwm_tui.cli.task_text import detail_text, result_text
from aiwm_tui.cli.waiting import Follower, deadline, outcome_code, wait
from aiwm_tui.typed import json_object
from engine.contract.errors import AiwmError, Code
from engine.contract.requests import tasks
from engine.contract.requests.comparisons import TaskCompare
from engine.contract.requests.context import TaskContextShow
from engine.contract.requests.session import EngineStatus


def add(app: typer.Typer) -> None:
    noun = group(app, "task", "Tasks: submit them, look at them, wait for them.")
    names = {"idempotency_key": "key"}
    command(noun, "submit", tasks.TaskSubmit, names=names, omit=("queue", "payload"))(_submit)
    command(noun, "run", tasks.TaskSubmit, names=names, omit=("queue", "payload"))(_run)
    command(noun, "list", tasks.TaskList, omit=("where",))(_list)
    command(noun, "export")(_export)
    command(noun, "show", tasks.TaskShow)(_show)
    command(noun, "compare", TaskCompare, omit=("adapters", "weights", "seed"))(compare_task)
    command(noun, "wait")(_wait)
    bulk.add(noun)
    command(noun, "explain", tasks.TaskExplain)(explain)


Queue = Annotated[
    str, typer.Argument(metavar="[QUEUE]", help="may be left out with a template that has one", show_default=False)
]
Payload = Annotated[
    str | None,
    typer.Option(
        "--payload",
        metavar="JSON",
        help="what the worker gets, a JSON object; - reads it from stdin",
        show_default=False,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", metavar="TEXT", help="the payload's prompt; - reads it from stdin", show_default=False),
]
Schema = Annotated[
    str | None,
    typer.Option(
        "--schema",
        metavar="FILE",
        help="the payload's schema: a JSON Schema that the answer satisfies; - reads it from stdin",
        show_default=False,
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream", help="print the text as it comes; with --json chunk objects, then the task", show_default=False
    ),
]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="wait at most: 30s, 5m, seconds", show_default=False)
]


def _submit(
    cli: Cli,
    request: tasks.TaskSubmit,
    *,
    queue: Queue = "",
    payload: Payload = None,
    prompt: Prompt = None,
    schema: Schema = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="wait for its end and print the result", show_default=False)
    ] = False,
    stream: Stream = False,
    timeout: Timeout = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="a task a line, JSON objects; - reads stdin; needs --batch",
            show_default=False,
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="with --file: submit the good lines", show_default=False)
    ] = False,
) -> int:
    """Put a task into a queue and print its id; with --wait or --stream its result.

    With --file many, as a batch: --key names the field by which a line is known, so that a submit that was stopped can be run again.

    It is stored when this returns, as durably as the queue promises. Exit code with --wait: 0 completed, 1 failed or cancelled, 4 not
    ended in time. JSON: kind task; with --wait the answer of a language model is data.result.text; with --file kind batch."""
    _check_queue(queue, request)
    if file is not None:
        if wait or stream or any(given is not None for given in (payload, prompt, schema)):
            raise AiwmError(
                Code.bad_request, "--file goes without --payload, --prompt, --schema, --wait and --stream", field="file"
            )
        from aiwm_tui.cli.batch import submit_file

        key, request = request.idempotency_key, msgspec.structs.replace(request, queue=queue)
        return submit_file(cli, request, file, key, skip_bad=skip_bad)
    request = msgspec.structs.replace(request, queue=queue, payload=_payload(payload, prompt, schema))
    if wait or stream:
        return _to_the_end(cli, request, stream=stream, timeout=timeout)
    with cli.connected() as client:
        acknowledged = client.call(request)
        cli.output.one("task", acknowledged, lambda: acknowledged.id)
        if acknowledged.duplicate:
            cli.output.talk(f"the key was known: this is task {acknowledged.id} again")
        elif cli.output.for_people:
            status = client.call(EngineStatus())
            if status.maintenance is not None:
                reason = f": {status.maintenance.reason}" if status.maintenance.reason else ""
                cli.output.talk(f"stored; nothing starts, for maintenance{reason} (aiwm engine resume)")
            elif not status.dispatching:
                cli.output.talk("stored; nothing works on this home now (aiwm engine run)")
    return ExitCode.ok


def _run(
    cli: Cli,
    request: tasks.TaskSubmit,
    *,
    queue: Queue = "",
    payload: Payload = None,
    prompt: Prompt = None,
    schema: Schema = None,
    stream: Stream = False,
    timeout: Timeout = None,
) -> int:
    """Submit a task, wait for its end and print its result: `task submit --wait`.

    Exit code: 0 completed, 1 failed or cancelled, 4 not ended in time (the task goes on). JSON: kind task, data.result."""
    _check_queue(queue, request)
    request = msgspec.structs.replace(request, queue=queue, payload=_payload(payload, prompt, schema))
    return _to_the_end(cli, request, stream=stream, timeout=timeout)


def _check_queue(queue: str, request: tasks.TaskSubmit) -> None:
    if not queue and request.template is None:
        raise AiwmError(
            Code.bad_request, "QUEUE is missing (or a --template that has one)", field="queue", fix="aiwm queue list"
        )


def _payload(text: str | None, prompt: str | None, schema: str | None) -> dict[str, Any]:
    if [text, prompt, schema].count("-") > 1:
        raise AiwmError(
            Code.bad_request, "only one of --payload, --prompt and --schema can read stdin", field="payload"
        )
    payload = json_object(sys.stdin.read() if text == "-" else text, "--payload") if text is not None else {}
    if prompt is not None:
        _put(payload, "prompt", sys.stdin.read() if prompt == "-" else prompt)
    if schema is not None:
        _put(payload, "schema", json_object(text_of(schema, "schema"), "--schema"))
    return payload


def _put(payload: dict[str, Any], name: str, value: Any) -> None:
    if name in payload:
        raise AiwmError(Code.bad_request, f"--payload has a {name} already", field=name, fix="leave one out")
    payload[name] = value


def _to_the_end(cli: Cli, request: tasks.TaskSubmit, *, stream: bool, timeout: str | None) -> int:
    until = deadline(timeout)
    follower: Follower | None = None
    with cli.connected(work=True) as client:
        acknowledged = client.call(request)
        if stream:
            follower = Follower(cli, acknowledged.id)
            try:
                follower.run(client, until)
            except KeyboardInterrupt:
                cli.output.talk(
                    f"aiwm: interrupted; task {acknowledged.id} is stored and goes on while an engine works"
                )
                raise
        outcome = wait(cli, client, [acknowledged.id], until)[0]
    if not cli.output.for_people:
        cli.output.line("task", outcome)
    elif outcome.result is not None and not (follower is not None and follower.printed):
        write(shown(result_text(outcome.result)))
    return outcome_code(cli, [outcome], f" in {timeout}" if timeout else "")


def _list(
    cli: Cli,
    request: tasks.TaskList,
    *,
    where: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILTER", help="such as state:failed queue:demo age>5m sort:-submitted", show_default=False
        ),
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", metavar="NAME", help="only those of this batch", show_default=False)
    ] = None,
) -> None:
    """Tasks that match a filter in the language of locations. JSON: kind tasks, total the number that match."""
    words = [*(where or []), *([f"batch:{batch}"] if batch is not None else [])]
    page = cli.call(msgspec.structs.replace(request, where=bulk.filter_text(" ".join(words))))
    empty = "no tasks match" if words else """no tasks (aiwm task submit demo --prompt "…")"""
    cli.output.many("task", "tasks", page.rows, page.total, empty=empty)


def _export(
    cli: Cli,
    *,
    where: bulk.Where = None,
    form: Annotated[str, typer.Option("--format", metavar="FORM", help="jsonl or csv")] = "jsonl",
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="default: stdout", show_default=False)
    ] = None,
) -> int:
    """Tasks with their payloads and results, the oldest first: a JSON object a line, or CSV with a line of names.

    All that match --where (default: all)."""
    from aiwm_tui.cli.export import export

    return export(cli, bulk.filter_text(where or ""), form, out)


def _show(
    cli: Cli,
    request: tasks.TaskShow,
    *,
    effective: Context = False,
    prompt: Annotated[
        bool, typer.Option("--prompt", help="the prompt as its model read it, instead of the rest", show_default=False)
    ] = False,
) -> None:
    """A task whole: what was asked, what came out, what happened. With --context what it may use too; JSON then has two objects a line.

    With --prompt what its model read in the last call, as it was read. It is kept as long as the task (see models.keep_prompt_chars)."""
    if prompt:
        show_prompt(cli, request.id)
    else:
        detail = cli.call(request)
        cli.output.one("task", detail, lambda: detail_text(detail))
    if effective:
        found = cli.call(TaskContextShow(id=request.id))
        cli.output.one("context", found, lambda: context_text(found))


def _wait(
    cli: Cli,
    *,
    ids: Annotated[list[str], typer.Argument(metavar="IDS", show_default=False)],
    timeout: Timeout = None,
) -> int:
    """Wait until tasks have ended. Exit code: 0 all completed, 1 some failed or were cancelled, 4 some have not ended in time."""
    with cli.connected(work=True) as client:
        outcomes = wait(cli, client, ids, deadline(timeout))
    cli.output.many("task", "tasks", outcomes, len(outcomes), columns="outcomes")
    return outcome_code(cli, outcomes, f" in {timeout}" if timeout else "")
