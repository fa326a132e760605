"""`aiwm source`."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.defining import deleting
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import shown
from engine.contract.requests import definitions
from engine.contract.requests.sources import SourceFiles, SourceRead, SourceSync


def add(app: typer.Typer) -> None:
    noun = group(app, "source", "Data sources: guarded places to read files from.")
    plain(noun, definitions.SourceList)
    plain(noun, definitions.SourceShow)
    plain(noun, definitions.SourceCreate)
    plain(noun, definitions.SourceUpdate)
    deleting(noun, definitions.SourceDelete, definitions.SourceShow)
    command(noun, "files", SourceFiles)(_files)
    command(noun, "read", SourceRead)(_read)
    command(noun, "sync", SourceSync)(_sync)


def _files(cli: Cli, request: SourceFiles) -> None:
    """The files that a data source shows: its globs and its depth applied. JSON: kind files."""
    found = cli.call(request)
    cli.output.many("file", "files", found.files, len(found.files), empty=f"{found.source} shows no files")
    if found.more:
        cli.output.talk(f"there are more: --limit {request.limit * 10}")


def _read(cli: Cli, request: SourceRead) -> None:
    """Print one file of a data source. JSON: kind file, data.text."""
    found = cli.call(request)
    cli.output.one("file", found, lambda: shown(found.text), exact=True)


def _sync(cli: Cli, request: SourceSync) -> int:
    """Copy a local directory's new and changed files into the file store fm:/.

    Exit code: 0 all is there, 1 some files failed. JSON: kind synced; data.copied, data.skipped, data.failed."""
    done = cli.call(request)

    def people() -> str:
        lines = [f"copied {path}" for path in done.copied]
        lines += [f"failed {failure.path}: {failure.error.message}" for failure in done.failed]
        counts = f"{len(done.copied)} copied, {len(done.skipped)} skipped, {len(done.failed)} failed"
        return shown("\n".join([*lines, f"{counts} to {done.target}"]))

    cli.output.one("synced", done, people)
    if done.incomplete:
        cli.output.talk("the source has more files than one sync looks at: narrow its filters")
    return ExitCode.failed if done.failed or done.incomplete else ExitCode.ok
