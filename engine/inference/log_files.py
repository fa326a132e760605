"""Logs as files of one home: which there are, and pieces of them. A name is a name, never a path."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

from engine.contract.definitions import NAME_PATTERN
from engine.contract.errors import AiwmError, Code
from engine.contract.records.logs import LogRow
from engine.contract.requests.logs import LogText
from engine.contract.suggest import nearest
from engine.home import log_path
from engine.inference.process_log import LIVES, life_path, tail

PIECE_BYTES = 256 * 1024
"""What one answer or notification holds at most when it goes on from a place."""

_LAST_BYTES = 1_000_000
_LAST_CHARS = 300
_NAME = re.compile(NAME_PATTERN)
_PROCESS = re.compile(r"\.\d+$")


class LogFiles:
    """Reads beneath one home's logs/ and nowhere else."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def rows(self) -> list[LogRow]:
        """Every log, by name."""
        found = []
        for name in self.names():
            path = log_path(self._home, name)
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue  # its process ended without a word, and took it along
            lives = sum(life_path(path, life).is_file() for life in range(1, LIVES + 1))
            found.append(
                LogRow(
                    id=name,
                    kind=_writer(name),
                    size_bytes=stat.st_size,
                    changed_ms=stat.st_mtime_ns // 1_000_000,
                    lives=lives,
                    last=next(iter(tail(path, 1)), "")[:_LAST_CHARS],
                )
            )
        return found

    def names(self) -> list[str]:
        folder = self._home / "logs"
        if not folder.is_dir():
            return []
        return sorted(
            it.stem
            for it in folder.iterdir()
            if it.suffix == ".log" and _NAME.fullmatch(it.stem) and it.is_file() and not it.is_symlink()
        )

    def path(self, name: str, previous: int = 0) -> Path:
        """Where a log lies. Raises not_found, bad_request."""
        known = self.names()
        if name not in known:
            raise AiwmError(
                Code.not_found, f'there is no log "{name[:80]}"', field="name", fix=nearest(name, known) or "aiwm logs"
            )
        if not 0 <= previous <= LIVES:
            raise AiwmError(
                Code.bad_request, f"previous is {previous}: {LIVES} lives before this one are kept", field="previous"
            )
        path = life_path(log_path(self._home, name), previous)
        if path.is_symlink() or not path.is_file():
            raise AiwmError(Code.not_found, f"{name} has no life so long ago: nothing was logged", field="previous")
        return path


def last_lines(name: str, path: Path, lines: int) -> LogText:
    """The last lines, of the last megabyte."""
    with path.open("rb") as log:
        stat = os.fstat(log.fileno())
        log.seek(max(0, stat.st_size - _LAST_BYTES))
        data = log.read(_LAST_BYTES)
    end = max(0, stat.st_size - _LAST_BYTES) + len(data)
    kept = b"".join(data.splitlines(keepends=True)[-lines:] if lines else [])
    return _piece(name, stat, end - len(kept), kept, end)


def lines_before(name: str, path: Path, before: int) -> LogText:
    """The whole lines that end at `before`, as many as a piece holds."""
    with path.open("rb") as log:
        stat = os.fstat(log.fileno())
        end = min(before, stat.st_size)
        start = max(0, end - PIECE_BYTES)
        log.seek(start)
        data = log.read(end - start)
    if start:
        # The first line lacks its beginning, unless it is all there is.
        cut = data.find(b"\n") + 1
        start, data = (start + cut, data[cut:]) if 0 < cut < len(data) else (start, data)
    return _piece(name, stat, start, data, end)


def read_on(name: str, path: Path, after: int, life: int | None) -> LogText:
    """What was written since: from the beginning when the log is another life's, or was cut. A character of which only a part has been
    written is left for the next time."""
    with path.open("rb") as log:
        stat = os.fstat(log.fileno())
        start = after if life in (None, stat.st_ino) and 0 <= after <= stat.st_size else 0
        log.seek(start)
        data = log.read(PIECE_BYTES)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    used = len(data) - len(decoder.getstate()[0])
    return LogText(
        name=name,
        life=stat.st_ino,
        text=text,
        start=start,
        next=start + used,
        changed_ms=stat.st_mtime_ns // 1_000_000,
    )


def _piece(name: str, stat: os.stat_result, start: int, data: bytes, end: int) -> LogText:
    return LogText(
        name=name,
        life=stat.st_ino,
        text=data.decode("utf-8", "replace"),
        start=start,
        next=end,
        changed_ms=stat.st_mtime_ns // 1_000_000,
    )


def _writer(name: str) -> str:
    """Model processes are numbered (`nano.0`); a worker's log is named by its instance, a supervisor's by its definition."""
    if name == "engine" or _PROCESS.search(name):
        return "model" if name != "engine" else name
    return {"kind": "worker", "supervisor": "supervisor"}.get(name.partition("-")[0], "model")
