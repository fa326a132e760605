"""Following a task's text as it is made."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_seq
from engine.contract.requests.tasks import StreamState, TaskFollow, TaskUnfollow
from engine.contract.states import TaskState
from engine.inference.streams import Streams
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.readers import Readers


class StreamOperations:
    """Follow and unfollow. A task that ended long ago has its text in its result."""

    def __init__(self, streams: Streams, readers: Readers) -> None:
        self._streams = streams
        self._readers = readers

    def register(self, table: RequestTable) -> None:
        table.register(TaskFollow, self.follow)
        table.register(TaskUnfollow, self.unfollow)

    def close_client(self, client: int) -> None:
        """A client is gone, and everything it followed."""
        self._streams.leave(client)

    async def follow(self, request: TaskFollow, caller: Caller) -> StreamState:
        seq = task_seq(request.id)
        row = self._readers.task_row(seq)
        if row is None and not self._streams.knows(seq):
            raise AiwmError(
                Code.not_found, f'task "{request.id[:40]}" does not exist', field="id", fix="aiwm task list"
            )
        if row is not None and TaskState(row.state).ended and not self._streams.knows(seq):
            text = self._stored_text(seq)[request.offset :]
            return StreamState(
                stream="", task=request.id, attempt=row.attempt, offset=request.offset, text=text, ended=True
            )
        return self._streams.follow(seq, request.offset, caller.send, caller.id)

    async def unfollow(self, request: TaskUnfollow, _: Caller) -> None:
        self._streams.unfollow(request.stream)

    def _stored_text(self, seq: int) -> str:
        result, _ = self._readers.result(seq)
        decoded: Any = None if result is None else msgspec.json.decode(result)
        text = decoded.get("text") if isinstance(decoded, dict) else None
        return text if isinstance(text, str) else ""
