"""Waiting for tasks: their end, their text as it comes, and what the end means for the exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from aiwm_tui.cli.command import Cli
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import shown, write
from aiwm_tui.typed import duration_ms
from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.notifications import StreamChunk
from engine.contract.requests.tasks import TaskFollow, TaskOutcome, TaskWait
from engine.contract.states import TaskState


def ended(outcome: TaskOutcome) -> bool:
    return TaskState(outcome.state).ended


def deadline(timeout: str | None) -> float | None:
    """When a wait as typed (`30s`) is over, on the monotonic clock in seconds; None for one that has no end."""
    return None if timeout is None else time.monotonic() + duration_ms(timeout, "--timeout") / 1000


def left_ms(until: float | None) -> int | None:
    """What is left until a time of the monotonic clock (seconds), in ms; None when there is no deadline."""
    return None if until is None else max(0, round((until - time.monotonic()) * 1000))


def wait(cli: Cli, client: BlockingClient, ids: Sequence[str], deadline: float | None) -> list[TaskOutcome]:
    """How the tasks ended, or how far they are at the deadline. Ctrl-C says what goes on."""
    try:
        return client.call(TaskWait(ids=tuple(ids), timeout_ms=left_ms(deadline)))
    except KeyboardInterrupt:
        cli.output.talk(
            f"aiwm: interrupted; {_named(ids)} stored and {_go(ids)} on while an engine works (aiwm task wait {ids[0]}{_more(ids)})"
        )
        raise
    except AiwmError as error:
        if error.code != Code.connection_lost:
            raise
        raise AiwmError(
            error.code,
            f"the engine is gone; {_named(ids)} stored and {_go(ids)} on with the next one",
            fix=f"aiwm task wait {ids[0]}{_more(ids)}",
            retryable=True,
        ) from None


def _named(ids: Sequence[str]) -> str:
    return f"task {ids[0]} is" if len(ids) == 1 else f"{len(ids)} tasks are"


def _go(ids: Sequence[str]) -> str:
    return "goes" if len(ids) == 1 else "go"


def _more(ids: Sequence[str]) -> str:
    return "" if len(ids) == 1 else " …"


class Follower:
    """Prints a task's text piece by piece: as text for people, as `chunk` objects for programs."""

    def __init__(self, cli: Cli, task: str) -> None:
        self._cli = cli
        self._task = task
        self._attempt = 0
        self._position = 0
        self.printed = ""

    def run(self, client: BlockingClient, deadline: float | None) -> None:
        """Follow until the task has ended or the deadline (monotonic seconds) has passed."""
        state = client.call(TaskFollow(id=self._task))
        self._attempt = state.attempt
        self._take(state.attempt, state.offset, state.text)
        at_end = state.ended
        while not at_end:
            left = left_ms(deadline)
            chunk = next(client.notifications(None if left is None else left / 1000), None)
            if chunk is None:
                break
            if isinstance(chunk, StreamChunk) and chunk.stream == state.stream:
                self._take(chunk.attempt, chunk.offset, chunk.text)
                at_end = chunk.ended
        if self._cli.output.for_people and self.printed and not self.printed.endswith("\n"):
            write("\n")

    def _take(self, attempt: int, offset: int, text: str) -> None:
        if attempt != self._attempt and text:
            if self.printed and self._cli.output.for_people:
                write("" if self.printed.endswith("\n") else "\n")
                self._cli.output.talk(f"attempt {attempt} starts again")
            self._attempt, self._position, self.printed = attempt, 0, ""
        fresh = text[max(0, self._position - offset) :]
        if not fresh:
            return
        if self._cli.output.for_people:
            sys.stdout.write(shown(fresh))
            sys.stdout.flush()
        else:
            chunk = {"task": self._task, "attempt": attempt, "offset": self._position, "text": fresh}
            self._cli.output.line("chunk", chunk)
        self._position += len(fresh)
        self.printed += fresh


def outcome_code(cli: Cli, outcomes: Sequence[TaskOutcome], timeout_text: str) -> ExitCode:
    """0 when all completed, 1 when some ended otherwise, 4 when some have not ended; says which on stderr."""
    waiting = [outcome for outcome in outcomes if not ended(outcome)]
    bad = [outcome for outcome in outcomes if ended(outcome) and outcome.state != TaskState.completed]
    if waiting:
        names = waiting[0].id if len(waiting) == 1 else f"{len(waiting)} of {len(outcomes)} tasks"
        verb = "has" if len(waiting) == 1 else "have"
        fix = f"aiwm task wait {waiting[0].id}" + (" …" if len(waiting) > 1 else "")
        cli.output.error(AiwmError(Code.timeout, f"{names} {verb} not ended{timeout_text}", fix=fix, retryable=True))
        return ExitCode.timeout
    for outcome in bad:
        cli.output.error(_failure(outcome))
    return ExitCode.failed if bad else ExitCode.ok


def _failure(outcome: TaskOutcome) -> AiwmError:
    if outcome.state == TaskState.cancelled:
        return AiwmError(Code.task_cancelled, f"task {outcome.id} was cancelled", fix=f"aiwm task retry {outcome.id}")
    info = outcome.error or ErrorInfo(code=Code.task_failed, message="no reason was given")
    fix = info.fix or f"aiwm task show {outcome.id}"
    return AiwmError(
        info.code, f"task {outcome.id} failed: {info.message}", field=info.field, fix=fix, stderr=info.stderr
    )
