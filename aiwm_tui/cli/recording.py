"""`aiwm record` and `aiwm replay`: what happens, kept in a file; and a file, looked at as if it were now."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.console import on_terminal
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import Format
from aiwm_tui.live import format as form
from aiwm_tui.live.moments import moment_ms
from aiwm_tui.live.text import clean
from engine.client import BlockingClient, connect_blocking, connect_through
from engine.contract.errors import AiwmError, Code
from engine.contract.query import span_ms
from engine.contract.requests.recordings import (
    Recording,
    RecordShow,
    RecordStart,
    RecordStop,
    ReplaySeek,
    ReplayShow,
)
from engine.spawning import error_in, replay_command

_LOOK_S = 1.0
_START_S = 60.0


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def add(app: typer.Typer) -> None:
    command(app, "record")(_record)
    command(app, "replay")(_replay)


def _record(
    cli: Cli,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a file that is not there yet", show_default=False)],
    redact: Annotated[
        bool, typer.Option("--redact", help="without payloads, results, prompts and error texts", show_default=False)
    ] = False,
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="how long, such as 1h; else until Ctrl-C")
    ] = None,
) -> int:
    """Record what happens in this home's engine, to look at it later with `aiwm replay FILE`.

    FILE is made on the engine's machine, for its owner alone (0600): JSON lines, first everything as it is, then every change with its
    time. The engine must run; what a console or a command does meanwhile is recorded too. JSON: kind recording.

    Exit code 0 when it was ended by Ctrl-C or --for, 1 when it ended by itself."""
    wanted_s = None if lasting is None else _span_s(lasting)
    with cli.connected(spawn=False) as client:
        made = client.call(RecordStart(path=str(Path(os.path.expanduser(file)).absolute()), redact=redact))
        try:
            whole = _watch(cli, client, made.id, wanted_s)
            done = client.call(RecordStop(id=made.id))
        except KeyboardInterrupt:
            whole, done = True, client.call(RecordStop(id=made.id))
    if cli.output.for_people and sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    cli.output.one("recording", done, lambda: _said(done))
    return ExitCode.ok if whole and not done.problem else ExitCode.failed


def _span_s(text: str) -> float:
    try:
        return span_ms(text) / 1000
    except ValueError as error:
        raise AiwmError(Code.bad_request, f"--for: {error}", field="for", fix="--for 1h") from None


def _watch(cli: Cli, client: BlockingClient, identifier: str, wanted_s: float | None) -> bool:
    """Until the time is up (True) or the recording ended by itself (False). Says on a terminal how far it is."""
    began = time.monotonic()
    while True:
        passed = time.monotonic() - began
        if wanted_s is not None and passed >= wanted_s:
            return True
        now = client.call(RecordShow(id=identifier))
        if now.problem:
            return False
        if cli.output.for_people and sys.stderr.isatty():
            line = f"recording {form.age(passed * 1000)}  {form.size(now.bytes)}  {now.changes:,} changes  Ctrl-C ends"
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        time.sleep(min(_LOOK_S, max(0.0, _LOOK_S if wanted_s is None else wanted_s - passed)))


def _said(done: Recording) -> str:
    text = f"{done.files[0]}: {done.changes:,} changes, {form.size(done.bytes)}"
    parts = [text, f"it ended by itself: {done.problem}" if done.problem else ""]
    parts.append(f"left out: {done.left_out}" if done.left_out else "")
    return "\n".join([part for part in parts if part] + [f"aiwm replay {done.files[0]}"])


def _replay(
    cli: Cli,
    *,
    file: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="a recording; a ring's files in order", show_default=False)
    ],
    at: Annotated[
        str | None, typer.Option("--at", metavar="MOMENT", help="02:40, +5m from its start, end", show_default=False)
    ] = None,
    view: Annotated[
        str | None, typer.Option("--view", metavar="LOCATION", help="print this, instead of the console")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="only play it, for other commands: aiwm --home DIR", show_default=False)
    ] = False,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="carry the protocol over stdin and stdout", show_default=False)
    ] = False,
) -> int:
    """Look at a recording as if it were now: in every screen, and in every command that only looks.

    Opens the console where it begins, or --at a moment. ; lets it go on, , and . go from change to change, < and > scrub, { and } set the
    speed, @ goes to a moment. With --view a location is printed as it was (the end, unless --at says otherwise). Nothing can be changed.

    A recording that was cut off is played to where it goes, and that is said; a file that is damaged or none of aiwm's is refused."""
    files = [str(Path(os.path.expanduser(each)).absolute()) for each in file]
    if stdio:
        os.execv(sys.executable, replay_command(files))
    if serve or view is not None:
        with _played(files) as home:
            return _serve(cli, home, at) if view is None else _view(cli, home, at or "end", view)
    if not on_terminal(cli):
        fix = f"aiwm replay {file[0]} --view :overview"
        raise AiwmError(Code.bad_request, "the console needs a terminal", field="--view", fix=fix)
    return _console(cli, files, at or "")


def _console(cli: Cli, files: list[str], at: str) -> int:
    from aiwm_tui.preferences import preferences
    from aiwm_tui.running import run_console

    asyncio.run(_try(files))
    wants = preferences(**cli.console)
    return run_console(cli.home, read_only=True, preferences=wants, through=replay_command(files), replay_at=at)


async def _try(files: list[str]) -> None:
    """What cannot be played is said on the shell, not in a console that has nothing to show."""
    client = await connect_through(replay_command(files), work=False, read_only=True, name="replay")
    await client.close()


@contextmanager
def _played(files: list[str]) -> Iterator[Path]:
    """A home in which an engine plays these files, until it is left."""
    with tempfile.TemporaryDirectory(prefix="aiwm-replay-") as folder:
        home = Path(folder)
        words = home / "replay.log"
        with words.open("wb") as log:
            process = subprocess.Popen(
                [*replay_command(files)[:-1], "--home", str(home)], stdout=log, stderr=log, start_new_session=True
            )
        try:
            _await(process, home, words)
            yield home
        finally:
            process.terminate()
            process.wait()


def _await(process: subprocess.Popen[bytes], home: Path, words: Path) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            connect_blocking(home, spawn=False, read_only=True).close()
            return
        except AiwmError:
            time.sleep(0.02)
    said = words.read_bytes().splitlines()
    last = said[-1].decode(errors="replace") if said else "it said nothing"
    raise error_in(said) or AiwmError(Code.engine_unreachable, f"the recording is not played: {last}", field="file")


def _seek(cli: Cli, home: Path, at: str) -> None:
    """Go there; on the shell it is said once what the recording has not."""
    with connect_blocking(home, spawn=False, read_only=True) as client:
        state = client.call(ReplayShow())
        if state.cut:
            cli.output.talk(clean(f"the recording ends {form.moment(state.to_ms, wall_ms())} {state.ends}", 400))
        if state.left_out:
            cli.output.talk(clean(f"not recorded: {state.left_out}", 400))
        client.call(ReplaySeek(at_ms=moment_ms(at, state)))


def _view(cli: Cli, home: Path, at: str, location: str) -> int:
    """What `aiwm view` prints of that moment."""
    from aiwm_tui.cli.app import run

    _seek(cli, home, at)
    forms = {Format.json: ["--json"], Format.jsonl: ["--jsonl"]}
    return run(["view", location, "--home", str(home), *forms.get(cli.output.form, [])])


def _serve(cli: Cli, home: Path, at: str | None) -> int:
    """Play until Ctrl-C."""
    _seek(cli, home, at or "start")
    cli.output.talk(f"aiwm --home {home} …  looks at it, as long as this runs; Ctrl-C ends")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return ExitCode.ok
