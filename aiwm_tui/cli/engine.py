"""`aiwm engine`, and the verbs that are the engine: they replace this process."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import msgspec
import typer

from aiwm_tui.cli.answers import show
from aiwm_tui.cli.command import Cli, Home, cli_of, command, group
from aiwm_tui.cli.console import attach_console
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.leaving import wait_until_gone
from engine.client import connect_blocking
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.base import result_type
from engine.contract.requests.maintenance import Drained, EngineDrain, EngineResume
from engine.contract.requests.session import EngineStop
from engine.home import socket_path

_STOP_TIMEOUT_S = 60.0
_ANYTHING = {"allow_extra_args": True, "ignore_unknown_options": True}


def add(app: typer.Typer) -> None:
    noun = group(app, "engine", "The engine of a home: run it, look at it, stop it, attach to it.")
    noun.command("run", context_settings=_ANYTHING)(_run)
    command(noun, "status")(_status)
    command(noun, "stop", EngineStop)(_stop)
    command(noun, "attach")(_attach)
    command(noun, "drain", EngineDrain)(_drain)
    command(noun, "resume", EngineResume)(_resume)
    app.command("http", context_settings=_ANYTHING)(_http)
    app.command("simulate", context_settings={**_ANYTHING, "help_option_names": []})(_simulate)


def _run(context: typer.Context, home: Home = None) -> None:
    """Run the engine of a home here, until it is stopped (Ctrl-C drains).

    Further options are the engine's: --stdio talks over stdin and stdout too, --on-demand leaves with its last client, --read-only
    changes nothing."""
    cli = cli_of(context, home)
    where = cli.home
    try:
        with connect_blocking(where, spawn=False) as client:
            welcome = client.welcome
    except AiwmError as error:
        if error.code != Code.engine_unreachable:
            raise
        welcome = None
    if welcome is not None and not welcome.brief:
        pid = welcome.pid
        raise AiwmError(Code.engine_running, f"an engine (pid {pid}) serves {where} already", fix="aiwm engine status")
    _become("run", [*_given(cli), *context.args])


def _http(context: typer.Context, home: Home = None) -> None:
    """OpenAI's HTTP protocol in front of this home's queues, until it is stopped (docs/http.md).

    Further options: --host, --port, --no-token, --allow-host NAME. A client's model is a worker or a queue."""
    _become("http", [*_given(cli_of(context, home)), *context.args])


def _simulate(context: typer.Context) -> None:
    """The real scheduler under simulated faults."""
    _become("simulate", list(context.args))


def _given(cli: Cli) -> list[str]:
    """What stood before the verb: the home, and that nothing may be changed."""
    return ["--home", str(cli.home), *(["--read-only"] if cli.read_only else [])]


def _become(verb: str, arguments: list[str]) -> None:
    """Replace this process by the engine. -P keeps modules of the current folder out of it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "engine", verb, *arguments])


def _status(cli: Cli) -> int:
    """How the engine of this home is. Exit code 3 when there is none; none is started."""
    from aiwm_tui.cli.quick import engine_status

    return engine_status((str(cli.home), not cli.output.for_people))


def _stop(
    cli: Cli,
    request: EngineStop,
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="wait until it is gone")] = True,
) -> int:
    """Stop the engine. --mode drain (the default) waits for running tasks, --mode now gives them back to their queues; nothing is lost
    either way."""
    with cli.connected(spawn=False) as client:
        stopping = client.call(request)
        show(cli.output, result_type(EngineStop), stopping)
        if wait and not wait_until_gone(client, _STOP_TIMEOUT_S):
            fix = "aiwm engine stop --mode now"
            raise AiwmError(Code.timeout, f"the engine has not left after {_STOP_TIMEOUT_S:g} s", fix=fix)
    return ExitCode.ok


def _drain(cli: Cli, request: EngineDrain) -> int:
    """Start no more tasks, for maintenance: what runs goes on, what is submitted waits. It outlasts restarts, until engine resume.

    Says first what a restart now would take back; with --wait it then waits for what runs. Exit code 4 when something still runs after
    that. JSON: kind drained."""
    with cli.connected() as client:
        begun = client.call(msgspec.structs.replace(request, wait_ms=0))
        for line in _taken_back(begun):
            cli.output.talk(line)
        done = begun if begun.idle or not request.wait_ms else client.call(request)
    state = "nothing runs" if done.idle else f"{len(done.running)} still running"
    cli.output.one("drained", done, lambda: f"{state}, {done.waiting} waiting; aiwm engine resume ends the maintenance")
    return ExitCode.ok if done.idle or not request.wait_ms else ExitCode.timeout


def _taken_back(drained: Drained) -> list[str]:
    """What a restart would do to the tasks that run, task by task."""
    lines = [
        f"{task.id}  {task.definition} on {task.instance}"
        + ("" if task.idempotent else f"  (kind {task.kind} may do things twice)")
        for task in drained.running
    ]
    if lines:
        lines.insert(0, f"{len(lines)} running; a restart now would take them back to their queues and run them again:")
    return lines


def _resume(cli: Cli, request: EngineResume) -> None:
    """End the maintenance: tasks start again. JSON: kind resumed."""
    done = cli.call(request)
    ended = "there was no maintenance" if done.maintenance is None else "the maintenance is over"
    cli.output.one("resumed", done, lambda: f"{ended}, {done.waiting} waiting")


def _attach(
    cli: Cli,
    *,
    stdio: Annotated[
        bool,
        typer.Option(
            "--stdio",
            help="carry the protocol over stdin and stdout: ssh HOST aiwm engine attach --stdio",
            show_default=False,
        ),
    ] = False,
) -> int:
    """Attach to the engine of this home: the console, or with --stdio the bare protocol for a program (started if there is none)."""
    if not stdio:
        return attach_console(cli)
    # The engine must be there, and stay for the moment between its answer and our own connection.
    with cli.connected():
        _carry(str(socket_path(cli.home)))
    return ExitCode.ok


def _carry(path: str) -> None:
    """Copy stdin to the socket and the socket to stdout, each in a thread of its own: either may have to wait for its reader."""
    import socket
    import threading

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)

        def up() -> None:
            try:
                while data := os.read(0, 65536):
                    connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        threading.Thread(target=up, daemon=True).start()
        while data := connection.recv(65536):
            while data:
                data = data[os.write(1, data) :]
