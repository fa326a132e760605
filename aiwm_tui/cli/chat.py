"""`aiwm instance chat`: one turn, or a conversation on a terminal."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from aiwm_tui.cli.command import Cli
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import shown, write
from aiwm_tui.typed import duration_ms
from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code
from engine.contract.notifications import InstanceChunk
from engine.contract.records import ChatTurn
from engine.contract.requests.instances import InstanceChat, InstanceShow


def chat(
    cli: Cli,
    *,
    id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    message: Annotated[
        str | None,
        typer.Argument(
            metavar="MESSAGE", help="what to say; - reads stdin; on a terminal it may be left out", show_default=False
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="print the answer as it comes; with --json chunk objects, then the turn",
            show_default=False,
        ),
    ] = False,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait",
            metavar="TIME",
            help="for a rate limit wait at most: 0, 30s, 5m (default: as long as it takes)",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Talk to a directly spawned instance (aiwm instance spawn): print the answer to a message.

    It answers to the conversation so far. Without a message, on a terminal: a conversation until Ctrl-D; Ctrl-C stops an answer. JSON:
    kind turn, with data.text and what it took."""
    wait_ms = None if wait is None else duration_ms(wait, "--wait")
    if message is None and sys.stdin.isatty() and cli.output.for_people:
        return _converse(cli, id, wait_ms)
    if message is None:
        raise AiwmError(Code.bad_request, "a message is missing", field="message", fix='aiwm instance chat ID "…"')
    text = sys.stdin.read() if message == "-" else message
    with cli.connected(work=True) as client:
        turn, printed = _turn(cli, client, InstanceChat(id=id, message=text, stream=stream, wait_ms=wait_ms))
    if not cli.output.for_people:
        cli.output.line("turn", turn)
    elif not printed:
        write(shown(turn.text))
    return ExitCode.ok


def _converse(cli: Cli, identifier: str, wait_ms: int | None) -> int:
    """Turn by turn until the end of the input. An answer that is interrupted is given up: its connection is closed under it."""
    with cli.connected(work=True) as client:
        detail = client.call(InstanceShow(id=identifier))
    row = detail.row
    if row is not None:
        cli.output.talk(
            f"{identifier}, {row.definition}, {row.done} turns so far. Ctrl-D ends, Ctrl-C stops an answer."
        )
    while True:
        try:
            message = input("› ")
        except EOFError:
            write("")
            return ExitCode.ok
        if not message.strip():
            continue
        try:
            with cli.connected(work=True) as client:
                turn, printed = _turn(
                    cli, client, InstanceChat(id=identifier, message=message, stream=True, wait_ms=wait_ms)
                )
            if not printed:
                write(shown(turn.text))
            cli.output.talk(_took(turn))
        except KeyboardInterrupt:
            cli.output.talk("stopped; the turn is not kept")
        except AiwmError as error:
            code = cli.output.error(error)
            if not error.info.retryable:
                return code


def _turn(cli: Cli, client: BlockingClient, request: InstanceChat) -> tuple[ChatTurn, bool]:
    """The turn, and whether its text was printed on the way."""
    printed = ""

    def heard(note: Any) -> None:
        nonlocal printed
        if not isinstance(note, InstanceChunk) or note.instance != request.id:
            return
        if note.until_ms is not None:
            left_s = max(0, note.until_ms - time.time_ns() // 1_000_000) / 1000
            cli.output.talk(f"waits {left_s:.0f} s: {note.why}")
        elif cli.output.for_people:
            sys.stdout.write(shown(note.text))
            sys.stdout.flush()
        else:
            cli.output.line("chunk", note)
        printed += note.text

    turn = client.call(request, heard=heard if request.stream else None)
    rest = turn.text[len(printed) :] if turn.text.startswith(printed) else ""
    if cli.output.for_people and printed:
        write(shown(rest) if rest else "")
    return turn, bool(printed)


def _took(turn: ChatTurn) -> str:
    return f"turn {turn.n}: {turn.tokens_in} tokens in, {turn.tokens_out} out, {turn.total_ms / 1000:.1f} s, context {turn.context}"
