"""`aiwm batch`, and `task submit --file`: many tasks from a file, how far they are, and their results in the order of the file."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
import typer

from aiwm_tui.batchfiles import lines
from aiwm_tui.batchfiles.results import ResultsFile, row_ended
from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.bulk import ASK_FROM, DryRun, Yes, show_plan
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import confirm, fields_text
from aiwm_tui.typed import duration_ms
from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code
from engine.contract.records import BatchRow
from engine.contract.requests import batches
from engine.contract.requests.session import EngineStatus
from engine.contract.requests.tasks import TaskSubmit
from engine.contract.states import ENDED_STATES, TaskState

_PAGE = 500
_LOOK_MS = 2_000


def add(app: typer.Typer) -> None:
    noun = group(app, "batch", "Batches: tasks that belong together, from a file and back into one.")
    plain(noun, batches.BatchList)
    plain(noun, batches.BatchShow)
    command(noun, "wait")(_wait)
    command(noun, "export")(_export)
    command(noun, "cancel", batches.BatchCancel, omit=("dry_run",))(_cancel)


Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
Out = Annotated[
    str | None,
    typer.Option("--out", metavar="FILE", help="write results there, one a line, in order", show_default=False),
]


# -- in ------------------------------------------------------------------------------------------------------------------


def submit_file(cli: Cli, request: TaskSubmit, name: str, key: str | None, *, skip_bad: bool) -> int:
    """Submit a file as a batch. Every line is checked first, by the engine too; a bad one stops it all, unless bad ones are skipped."""
    if request.batch is None:
        raise AiwmError(Code.bad_request, "a file needs a name for its batch", field="batch", fix="--batch NAME")
    form = batches.BatchAdd(
        batch=request.batch,
        queue=request.queue,
        items=[],
        template=request.template,
        definition=request.definition,
        priority=request.priority,
        max_attempts=request.max_attempts,
        tenant=request.tenant,
    )
    with lines.opened(name) as file, cli.connected() as client:
        bad, total = _checked(client, form, file, key)
        if bad and not skip_bad:
            raise lines.bad_file(name, bad, total)
        skipped = {it.line for it in bad}
        good = (it for it in lines.read(file, key) if isinstance(it, lines.Line) and it.number not in skipped)
        added = known = 0
        for piece in lines.chunks(good):
            answer = _submitted(client, form, piece)
            added, known = added + answer.added, known + answer.known
            if cli.output.for_people and sys.stderr.isatty():
                sys.stderr.write(f"\r{added + known:,} of {total - len(bad):,}")
        if cli.output.for_people and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
        for it in bad:
            cli.output.talk(f"line {it.line} skipped: {it.why}")
        done = {"batch": form.batch, "lines": total, "added": added, "known": known, "bad": len(bad)}
        cli.output.one("batch", done | {"skipped": [it._asdict() for it in bad]}, lambda: form.batch)
        cli.output.talk(f"{added:,} added, {known:,} known before, {len(bad):,} skipped (aiwm batch wait {form.batch})")
        if cli.output.for_people and not client.call(EngineStatus()).dispatching:
            cli.output.talk("stored; nothing works on this home now (aiwm engine run, or aiwm batch wait)")
    return ExitCode.ok


def _checked(
    client: BlockingClient, form: batches.BatchAdd, file: IO[bytes], key: str | None
) -> tuple[list[lines.Bad], int]:
    """Everything that is wrong with the file, and how many lines it has."""
    check = lines.Checking(file, key)
    for piece in lines.chunks(check.good()):
        asked = msgspec.structs.replace(form, items=[it.item for it in piece], dry_run=True)
        check.judged(piece, client.call(asked).refused)
    return check.finish(), check.total


def _submitted(client: BlockingClient, form: batches.BatchAdd, piece: list[lines.Line]) -> batches.BatchAdded:
    """Submit a piece, waiting for room in the queue where it has a limit."""
    left = {it.item.index: it for it in piece}
    added = known = 0
    while left:
        answer = client.call(msgspec.structs.replace(form, items=[it.item for it in left.values()]))
        added, known = added + answer.added, known + answer.known
        full = [it for it in answer.refused if it.error.code == Code.queue_full]
        for refusal in answer.refused:
            if refusal.error.code != Code.queue_full:
                raise AiwmError.of(refusal.error)
        if full and not client.call(EngineStatus()).dispatching:
            raise AiwmError.of(full[0].error)
        left = {it.index: left[it.index] for it in full}
        if left:
            time.sleep(0.2)
    return batches.BatchAdded(batch=form.batch, added=added, known=known)


# -- out -----------------------------------------------------------------------------------------------------------------


def _wait(
    cli: Cli,
    *,
    name: Name,
    out: Out = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="wait at most: 30m, 8h, seconds", show_default=False)
    ] = None,
) -> int:
    """Wait until all tasks of a batch have ended; with --out write each result as soon as those before it are written.

    After a stop the same command goes on where the file ends. Exit code: 0 all completed, 1 some failed or were cancelled, 4 not ended
    in time. JSON: kind batch."""
    deadline = None if timeout is None else time.monotonic() + duration_ms(timeout, "--timeout") / 1000
    with cli.connected(work=True) as client:
        if out is None:
            row = _to_the_end(cli, client, name, deadline)
        else:
            with ResultsFile(Path(out).expanduser(), name) as results:
                row = _into(cli, client, results, name, deadline)
    cli.output.one("batch", row, lambda: fields_text(row) if out is None else None)
    return _code(cli, row, timeout)


def _to_the_end(cli: Cli, client: BlockingClient, name: str, deadline: float | None) -> BatchRow:
    while True:
        row = client.call(batches.BatchWait(name=name, timeout_ms=_patience(deadline)))
        _progress(cli, row)
        if row_ended(row) or (deadline is not None and time.monotonic() >= deadline):
            return row


def _into(cli: Cli, client: BlockingClient, results: ResultsFile, name: str, deadline: float | None) -> BatchRow:
    last = results.last()
    if last is not None:
        results.check(last, client.call(results.question(last)))
    after = last.index if last is not None else -1
    while True:
        page = client.call(
            batches.BatchResults(name=name, after=after, limit=_PAGE, ended_only=True, wait_ms=_patience(deadline))
        )
        for result in page.results:
            results.write(result)
        after = max(after, page.upto)
        results.flush()
        _progress(cli, page.row)
        if not page.more and row_ended(page.row):
            return page.row
        if not page.results and deadline is not None and time.monotonic() >= deadline:
            return page.row


def _patience(deadline: float | None) -> int:
    """How long the engine shall wait before it says how far it is, in ms."""
    return _LOOK_MS if deadline is None else max(0, min(_LOOK_MS, round((deadline - time.monotonic()) * 1000)))


def _progress(cli: Cli, row: BatchRow) -> None:
    if cli.output.for_people and sys.stderr.isatty():
        ended = row.completed + row.failed + row.cancelled
        eta = ""
        if row.eta_ms is not None:
            from aiwm_tui.live.format import clock

            eta = f", done about {clock(row.eta_ms)}"
        sys.stderr.write(
            f"\r\x1b[K{ended:,} of {row.total:,}, {row.failed:,} failed{eta}" + ("\n" if row_ended(row) else "")
        )
        sys.stderr.flush()


def _code(cli: Cli, row: BatchRow, timeout: str | None) -> ExitCode:
    if not row_ended(row):
        left = row.waiting + row.running
        fix = f"aiwm batch wait {row.id}"
        late = AiwmError(Code.timeout, f"{left:,} of {row.total:,} tasks have not ended in {timeout}", fix=fix)
        return cli.output.error(late)
    if row.failed or row.cancelled:
        cli.output.talk(
            f"{row.failed:,} failed, {row.cancelled:,} cancelled"
            f" (aiwm task retry --where 'batch:{row.id}', then aiwm batch export {row.id})"
        )
        return ExitCode.failed
    return ExitCode.ok


def _export(
    cli: Cli,
    *,
    name: Name,
    out: Out = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="only those that failed or were cancelled", show_default=False)
    ] = False,
) -> int:
    """Results of what has ended so far, in the order of the batch, one JSON object a line; the rest is left out.

    Without --out to stdout. Exit code 0 also while some have not ended."""
    written = 0
    with cli.connected() as client:
        # What can be refused is asked first: a file that is there already must not be emptied for nothing.
        page = client.call(batches.BatchResults(name=name, limit=_PAGE))
        file: Any = sys.stdout.buffer if out is None else Path(out).expanduser().open("wb")
        try:
            while True:
                for result in page.results:
                    if _wanted(result, failed):
                        file.write(msgspec.json.encode(result) + b"\n")
                        written += 1
                if not page.more:
                    break
                page = client.call(batches.BatchResults(name=name, after=page.upto, limit=_PAGE))
            file.flush()
        finally:
            if out is not None:
                file.close()
    cli.output.talk(f"{written:,} of {page.row.total:,} written")
    return ExitCode.ok


def _wanted(result: batches.BatchResult, failed: bool) -> bool:
    return result.state in (ENDED_STATES - {TaskState.completed} if failed else ENDED_STATES)


def _cancel(cli: Cli, request: batches.BatchCancel, *, dry_run: DryRun = False, yes: Yes = False) -> int:
    """Cancel what of a batch has not ended: waiting tasks end at once, running ones are told to stop.

    20 or more need a yes: --yes where nobody can be asked. JSON: kind cancelled; with --dry-run kind plan."""
    with cli.connected() as client:
        plan = client.call(msgspec.structs.replace(request, dry_run=True)).plan
        assert plan is not None
        if dry_run or not plan.ids:
            show_plan(cli, plan, "cancel" if dry_run else None)
            return ExitCode.ok
        if plan.count >= ASK_FROM:
            confirm(cli.output, f"Cancel {plan.count:,} tasks of batch {request.name}?", yes=yes)
        done = client.call(request)
    cli.output.one("cancelled", done, lambda: f"cancelled {len(done.cancelled):,}, told to stop {len(done.stopping):,}")
    if done.operation:
        cli.output.talk(f"{done.operation} (aiwm undo {done.operation})")
    return ExitCode.ok
