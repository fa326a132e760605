"""`aiwm task export`: tasks with their bodies as JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Any

import msgspec

from aiwm_tui.cli.command import Cli
from aiwm_tui.cli.exit_codes import ExitCode
from engine.contract.errors import AiwmError, Code
from engine.contract.records import TaskRow
from engine.contract.requests.tasks import ExportedTask, TaskExport

_FORMULA = ("=", "+", "@", "\t", "\r")
_COLUMNS = (*TaskRow.__struct_fields__, "payload", "result")


def export(cli: Cli, where: str, form: str, out: str | None) -> int:
    """Write every task that matches, page by page."""
    if form not in ("jsonl", "csv"):
        raise AiwmError(Code.bad_request, f'--format "{form[:20]}": jsonl or csv', field="format", fix="--format jsonl")
    written = 0
    with cli.connected() as client:
        # What can be refused is asked first: a file that is there already must not be emptied for nothing.
        page = client.call(TaskExport(where=where))
        file: Any = sys.stdout.buffer if out is None else Path(out).expanduser().open("wb")
        try:
            if form == "csv":
                file.write(_csv(_COLUMNS))
            while True:
                for task in page.tasks:
                    file.write(_csv(_cells(task)) if form == "csv" else msgspec.json.encode(_flat(task)) + b"\n")
                    written += 1
                if page.next is None:
                    break
                page = client.call(TaskExport(where=where, offset=page.next))
            file.flush()
        finally:
            if out is not None:
                file.close()
    from aiwm_tui.live.format import plural

    cli.output.talk(plural(written, "task"))
    return ExitCode.ok


def _flat(task: ExportedTask) -> dict[str, Any]:
    return msgspec.structs.asdict(task.row) | {"payload": task.payload, "result": task.result, "error": task.error}


def _cells(task: ExportedTask) -> list[str]:
    flat = _flat(task) | {"error": task.row.error}
    return [_cell(flat[name]) for name in _COLUMNS]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    # A spreadsheet would take such a text for a formula.
    return f"'{text}" if text.startswith(_FORMULA) or (text.startswith("-") and isinstance(value, str)) else text


def _csv(cells: Any) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode()
