"""The file that results of a batch are written to, in the order of the batch: it goes on where it ended."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.contract.records import BatchRow
from engine.contract.requests.batches import BatchPage, BatchResult, BatchResults

_TAIL = 65_536


def row_ended(row: BatchRow) -> bool:
    """Whether every task of a batch has ended."""
    return row.completed + row.failed + row.cancelled == row.total


class ResultsFile:
    """One JSON object a line. A line that was cut off in the middle is written again."""

    def __init__(self, path: Path, batch: str) -> None:
        self.path = path
        self._batch = batch

    def __enter__(self) -> ResultsFile:
        self._file = self.path.open("a+b")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def last(self) -> BatchResult | None:
        """The last whole result in the file, None when it has none. Raises `conflict` when the file holds something else."""
        text = self._cut()
        if text is None:
            return None
        try:
            return msgspec.json.decode(text, type=BatchResult)
        except NOT_JSON:
            raise self._foreign() from None

    def question(self, last: BatchResult) -> BatchResults:
        """What tells whether a result in the file is one of this batch."""
        return BatchResults(name=self._batch, after=last.index - 1, limit=1)

    def check(self, last: BatchResult, page: BatchPage) -> None:
        """Raises `conflict` when the answer to `question` says that the file is of another batch."""
        if not page.results or page.results[0].id != last.id:
            raise self._foreign()

    def write(self, result: BatchResult) -> None:
        self._file.write(msgspec.json.encode(result) + b"\n")

    def flush(self) -> None:
        self._file.flush()

    def _cut(self) -> bytes | None:
        """Cut off an unfinished last line; the last whole one."""
        size = self._file.seek(0, 2)
        tail = b""
        while size and tail.count(b"\n") < 2:
            start = max(0, size - _TAIL)
            self._file.seek(start)
            tail, size = self._file.read(size - start) + tail, start
        whole, _, rest = tail.rpartition(b"\n")
        if rest:
            self._file.truncate(self._file.seek(0, 2) - len(rest))
        return whole.rpartition(b"\n")[2] if whole else None

    def _foreign(self) -> AiwmError:
        return AiwmError(
            Code.conflict,
            f"{self.path} holds something else than results of batch {self._batch}",
            field="out",
            fix="another --out, or remove the file",
        )
