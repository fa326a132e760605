"""Requests about logs: what the engine and its model processes wrote, this life and the ones before."""

from __future__ import annotations

import re
from pathlib import Path

from engine.contract.definitions import NAME_PATTERN
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.logs import LogList, LogRead, LogRow, LogText
from engine.contract.suggest import nearest
from engine.home import log_path
from engine.inference.process_log import LIVES, life_path
from engine.requests.caller import Caller
from engine.requests.table import RequestTable

_MAX_LINES = 5_000
_MAX_BYTES = 1_000_000
_NAME = re.compile(NAME_PATTERN)


class LogOperations:
    """Reads beneath one home's logs/ and nowhere else: a name is a name, never a path."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def register(self, table: RequestTable) -> None:
        table.register(LogList, self.all)
        table.register(LogRead, self.read)

    async def all(self, _: LogList, __: Caller) -> list[LogRow]:
        rows = []
        for name in self._names():
            path = log_path(self._home, name)
            stat = path.stat()
            lives = sum(life_path(path, life).is_file() for life in range(1, LIVES + 1))
            rows.append(LogRow(id=name, size_bytes=stat.st_size, changed_ms=stat.st_mtime_ns // 1_000_000, lives=lives))
        return rows

    async def read(self, request: LogRead, _: Caller) -> LogText:
        if not 0 <= request.lines <= _MAX_LINES:
            raise AiwmError(
                Code.bad_request, f"lines is {request.lines}, but must lie between 0 and {_MAX_LINES}", field="lines"
            )
        path = self._path(request.name, request.previous)
        with path.open("rb") as log:
            life = _life(path)
            size = log.seek(0, 2)
            if request.after is not None:
                known = request.life == life and 0 <= request.after <= size
                start = max(request.after if known else 0, size - _MAX_BYTES)
            else:
                start = max(0, size - _MAX_BYTES)
            log.seek(start)
            data = log.read(size - start)
        if request.after is None:
            data = b"".join(data.splitlines(keepends=True)[-request.lines :] if request.lines else [])
        return LogText(name=request.name, life=life, text=data.decode("utf-8", "replace"), next=size)

    def _names(self) -> list[str]:
        folder = self._home / "logs"
        if not folder.is_dir():
            return []
        return sorted(
            it.stem for it in folder.iterdir() if it.suffix == ".log" and _NAME.fullmatch(it.stem) and it.is_file()
        )

    def _path(self, name: str, previous: int) -> Path:
        """Where a log lies. Raises not_found, bad_request."""
        known = self._names()
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


def _life(path: Path) -> int:
    """What tells one file of a name from the next one."""
    return path.stat().st_ino
