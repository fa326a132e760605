"""How many instances a pool keeps idle and may have."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Input

from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line
from aiwm_tui.reports import report
from aiwm_tui.screens.dialogs.base import Dialog, Field, block
from aiwm_tui.screens.wording import hints
from engine.contract.definitions import PoolDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.fleet import PoolScale


class ScaleDialog(Dialog[Line]):
    def __init__(self, link: Link, definition: PoolDefinition) -> None:
        super().__init__()
        self._link = link
        self._definition = definition

    def panel(self) -> ComposeResult:
        pool = self._definition
        yield block([((f"S  SCALE POOL {pool.name}", "title"),), ((f"instances of {pool.definition}", "dim"),), ()])
        yield Field("max_total", "at most", str(pool.max_total))
        yield Field("min_idle", "keeps idle at least", str(pool.min_idle))
        yield block([hints(("↵", "scale"), ("Tab", "next field"), ("esc", "leave: nothing changes"))])

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        # A worker: the dialog can be left while the engine does not answer.
        self.run_worker(self._scale(), group="ask", exclusive=True)

    async def _scale(self) -> None:
        fields = {field.key: field for field in self.query(Field)}
        values: dict[str, int] = {}
        for name, field in fields.items():
            field.fault(None)
            try:
                values[name] = _whole(field.value, name)
            except AiwmError as error:
                field.fault(error)
                field.line.focus()
                return
        request = PoolScale(name=self._definition.name, **values)
        try:
            answer = await self._link.call(request)
        except AiwmError as error:
            fields.get(error.info.field or "", fields["max_total"]).fault(error)
            return
        self.dismiss((("S ", "key"), *report(request, answer)))


def _whole(text: str, name: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise AiwmError(Code.bad_request, f'"{text[:20]}" is not a whole number from 0 up', field=name)
    return value
