"""`aiwm demo`: a home of its own, messages of the shipped inbox run through the shipped model, and how many answers were right."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.console import console_on, on_terminal
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.leaving import wait_until_gone
from aiwm_tui.cli.waiting import ended
from aiwm_tui.demo_result import Message, is_right, judge, read_inbox, result_text, sample
from engine.client import BlockingClient, connect_blocking
from engine.contract.errors import AiwmError
from engine.contract.notifications import EngineNotice
from engine.contract.requests.session import EngineStatus, EngineStop
from engine.contract.requests.tasks import TaskOutcome, TaskSubmit, TaskWait
from engine.resources import inbox

QUEUE = "demo"
DEFAULT_TASKS = 60
_PROGRESS_MS = 2_000
_STOP_S = 10.0
_DRAIN_S = 60.0


def add(app: typer.Typer) -> None:
    command(app, "demo")(_demo)


def _demo(
    cli: Cli,
    *,
    headless: Annotated[
        bool, typer.Option("--headless", help="no console: run, print the result, end", show_default=False)
    ] = False,
    tasks: Annotated[int, typer.Option("--tasks", "-n", min=1, max=100_000, help="messages to submit")] = DEFAULT_TASKS,
    keep: Annotated[
        bool, typer.Option("--keep", help="leave the home there at the end, and say where", show_default=False)
    ] = False,
) -> int:
    """The shipped model at work, in a home of its own.

    Messages with known answers go through its queue; the result says how many were right. On a terminal the console opens on it while
    they run; with --headless, or without a terminal, the result is printed. The home is temporary unless --keep or --home is given. JSON:
    kind demo, data.submitted, completed, failed, correct, tokens, seconds, per_skill, wrong."""
    if headless or not on_terminal(cli):
        return headless_demo(cli, tasks, keep=keep)
    return _console_demo(cli, tasks, keep=keep)


class DemoHome:
    """A home of the demo's own: --home if it was given, else a temporary one that is removed at the end unless it is kept."""

    def __init__(self, cli: Cli, *, keep: bool) -> None:
        self._output = cli.output
        self._temporary = not cli.home_given
        self.keep = keep
        self.path = cli.home if cli.home_given else Path(tempfile.mkdtemp(prefix="aiwm-demo-"))

    def __enter__(self) -> DemoHome:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._temporary:
            return
        if self.keep:
            self._output.talk(f"demo: its home is {self.path} (aiwm --home {self.path})")
        else:
            shutil.rmtree(self.path, ignore_errors=True)


# -- without a console -------------------------------------------------------------------------------------------------


def headless_demo(cli: Cli, count: int = DEFAULT_TASKS, *, keep: bool = False) -> int:
    """Run the demo without a console and print its result; 0 when every task completed."""
    messages = sample(read_inbox(inbox()), count)
    # Ended from outside, it must still clean up: the exit code is the one a shell expects of a SIGTERM.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with DemoHome(cli, keep=keep) as home, connect_blocking(home.path, work=True) as client:
        started = time.monotonic()
        try:
            cli.output.talk(f"demo: {len(messages)} messages through the shipped model, home {home.path}")
            ids = [_submit(client, message) for message in messages]
            outcomes = _watch(cli, client, ids, messages)
            result = judge(messages, outcomes, time.monotonic() - started)
        except KeyboardInterrupt:
            cli.output.talk("aiwm: interrupted; the demo's engine stops and nothing of it goes on")
            raise
        finally:
            _stop(client)
    cli.output.one("demo", result, lambda: result_text(result))
    return ExitCode.ok if result.completed == result.submitted else ExitCode.failed


def _submit(client: BlockingClient, message: Message) -> str:
    return client.call(TaskSubmit(queue=QUEUE, payload=message.payload(), batch="demo")).id


def _watch(cli: Cli, client: BlockingClient, ids: Sequence[str], messages: Sequence[Message]) -> list[TaskOutcome]:
    """Wait for all of them; says now and then how far they are."""
    said = 0
    while True:
        outcomes = client.call(TaskWait(ids=tuple(ids), timeout_ms=_PROGRESS_MS))
        done = sum(map(ended, outcomes))
        if done == len(ids):
            return outcomes
        if done != said:
            said = done
            right = sum(is_right(message, outcome) for message, outcome in zip(messages, outcomes, strict=True))
            cli.output.talk(f"demo: {done} of {len(ids)} done, {right} right")


def _stop(client: BlockingClient) -> None:
    """End the demo's engine and wait for it: its home may go away next."""
    try:
        client.call(EngineStop(mode="now"), timeout_s=_STOP_S)
    except (AiwmError, OSError):
        # Gone already, or told to stop by someone else: that is what is wanted.
        pass
    wait_until_gone(client, _STOP_S)


# -- behind the console ------------------------------------------------------------------------------------------------


def _console_demo(cli: Cli, count: int, *, keep: bool) -> int:
    """The console on the demo's home, while a thread submits the messages to the engine that the console started."""
    with DemoHome(cli, keep=keep) as home:
        feeder = _Feeder(home.path, sample(read_inbox(inbox()), count))
        feeder.start()
        try:
            code = console_on(home.path, location=":overview", read_only=cli.read_only)
        finally:
            client = feeder.finish()
        if client is not None:
            _at_the_end(cli, home, client)
    return code


class _Feeder(threading.Thread):
    """Submits messages as soon as an engine serves the home, on a connection of its own."""

    def __init__(self, home: Path, messages: Sequence[Message]) -> None:
        super().__init__(daemon=True)
        self._home = home
        self._messages = messages
        self._over = threading.Event()
        self._client: BlockingClient | None = None

    def run(self) -> None:
        try:
            while self._client is None and not self._over.wait(0.05):
                self._client = self._attached()
            for message in self._messages:
                if self._client is None or self._over.is_set():
                    return
                _submit(self._client, message)
        except (AiwmError, OSError):
            # The engine was stopped from the console: it shows that itself.
            pass

    def _attached(self) -> BlockingClient | None:
        try:
            return connect_blocking(self._home, spawn=False, work=True)
        except AiwmError:
            return None

    def finish(self) -> BlockingClient | None:
        """Submit no more; the connection, if there ever was an engine."""
        self._over.set()
        self.join(_STOP_S)
        return self._client


def _at_the_end(cli: Cli, home: DemoHome, client: BlockingClient) -> None:
    """The console was left: see what its user wants of the engine, and wait where it ends."""
    try:
        status = client.call(EngineStatus(), timeout_s=_STOP_S)
    except (AiwmError, OSError):
        # It was stopped from the console and has hung up already.
        wait_until_gone(client, _STOP_S)
        return
    if any(isinstance(note, EngineNotice) and note.what == "stopping" for note in client.notifications(0)):
        cli.output.talk("demo: waiting for its engine to end")
        wait_until_gone(client, _DRAIN_S)
    elif status.running + status.waiting:
        home.keep = True
        cli.output.talk(f"demo: its work goes on (aiwm engine stop --home {home.path})")
    else:
        _stop(client)
