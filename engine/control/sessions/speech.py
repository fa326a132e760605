"""What a chat says on its way to the client: pieces of text, and that it waits."""

from __future__ import annotations

from engine.contract.notifications import InstanceChunk
from engine.control.budget import Held
from engine.requests.caller import Caller


class Speech:
    """Sends a turn's text as it is made. A client that reads slowly gets fewer, larger pieces; the answer has the whole text anyway."""

    def __init__(self, caller: Caller, instance: str, turn: int, *, stream: bool) -> None:
        self._caller = caller
        self._instance = instance
        self._turn = turn
        self._stream = stream
        self._offset = 0
        self._unsent = ""

    def write(self, text: str) -> None:
        if not self._stream:
            return
        self._unsent += text
        chunk = InstanceChunk(instance=self._instance, turn=self._turn, offset=self._offset, text=self._unsent)
        if self._caller.send(chunk):
            self._offset += len(self._unsent)
            self._unsent = ""

    def waits(self, held: Held) -> None:
        """The turn waits for its definition's budget."""
        if self._stream:
            self._caller.send(
                InstanceChunk(
                    instance=self._instance,
                    turn=self._turn,
                    offset=self._offset,
                    text="",
                    until_ms=held.until_ms,
                    why=held.reason,
                )
            )
