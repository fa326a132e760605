"""Requests about recordings."""

from __future__ import annotations

from engine.contract.errors import AiwmError, Code
from engine.contract.requests import recordings as requests
from engine.recording.recorder import Recorder
from engine.requests.caller import Caller
from engine.requests.table import RequestTable


class RecordOperations:
    """What the live engine answers: it records, and has nothing to play."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def register(self, table: RequestTable) -> None:
        table.register(requests.RecordStart, self.start)
        table.register(requests.RecordStop, self.stop)
        table.register(requests.RecordShow, self.show)
        table.register(requests.ReplayShow, self.live)
        table.register(requests.ReplaySeek, self.live)
        table.register(requests.ReplayPlay, self.live)

    async def start(self, request: requests.RecordStart, caller: Caller) -> requests.Recording:
        if caller.principal != "operator":
            raise AiwmError(Code.denied, "only the operator records: a recording has everybody's work", field="path")
        return await self._recorder.start(request, caller.id)

    async def stop(self, request: requests.RecordStop, caller: Caller) -> requests.Recording:
        return await self._recorder.stop(request.id, caller.id)

    async def show(self, request: requests.RecordShow, caller: Caller) -> requests.Recording:
        return await self._recorder.show(request.id, caller.id)

    async def live(self, _: object, __: Caller) -> requests.ReplayState:
        raise AiwmError(
            Code.not_recorded, "this engine is live: it plays no recording", field="method", fix="aiwm replay FILE"
        )
