"""Put a task into a queue: a prompt, or a payload as JSON; errors stand at their field."""

from __future__ import annotations

from typing import Any

import msgspec
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Input, TextArea

from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line
from aiwm_tui.reports import report
from aiwm_tui.screens.dialogs.base import Dialog, Field, block
from aiwm_tui.screens.wording import hints
from aiwm_tui.widgets.lines import TextLine
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.tasks import TaskSubmit


class SubmitDialog(Dialog[Line]):
    DEFAULT_CSS = """
    SubmitDialog TextArea, SubmitDialog TextArea:focus {
        height: 7; border: none; padding: 0 1; background: $panel; color: $foreground;
    }
    """
    BINDINGS = [Binding("ctrl+s", "submit", "submit", id="submit.go")]

    def __init__(self, link: Link, queue: str) -> None:
        super().__init__()
        self._link = link
        self._queue = queue

    def panel(self) -> ComposeResult:
        yield block([(("N  SUBMIT A TASK", "title"),), ()])
        yield Field("queue", "queue", self._queue, "its name")
        yield block([(("prompt, or a payload as JSON: {…}", "dim"),)])
        yield TextArea("", id="payload", tab_behavior="focus")
        yield TextLine(id="payload-error")
        yield Field("priority", "priority (empty: as the queue says)")
        yield block([hints(("ctrl+s", "submit"), ("Tab", "next field"), ("esc", "leave: nothing changes"))])

    def on_mount(self) -> None:
        if self._queue:
            self.query_one(TextArea).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.focus_next()

    def action_submit(self) -> None:
        # A worker: the dialog can be left while the engine does not answer.
        self.run_worker(self._submit(), group="ask", exclusive=True)

    async def _submit(self) -> None:
        self._fault("", None)
        try:
            request = TaskSubmit(
                queue=self._field("queue").value.strip(),
                payload=payload_of(self.query_one(TextArea).text),
                priority=_priority(self._field("priority").value.strip()),
            )
            answer = await self._link.call(request)
        except AiwmError as error:
            self._fault(error.info.field or "", error)
            return
        self.dismiss((("N ", "key"), *report(request, answer)))

    def _field(self, name: str) -> Field:
        return self.query_one(f"#field-{name}", Field)

    def _fault(self, name: str, error: AiwmError | None) -> None:
        """Show an error at the field that it names; at the payload when it names another."""
        for field in self.query(Field):
            field.fault(error if field.key == name else None)
        at_payload = error is not None and not any(field.key == name for field in self.query(Field))
        line: Line = ()
        if error is not None and at_payload:
            line = (("✗ ", "broken"), (str(error)[:300], "text"))
        self.query_one("#payload-error", TextLine).show(line)


def payload_of(text: str) -> dict[str, Any]:
    """What was typed as a payload: an object as JSON, anything else is the prompt."""
    stripped = text.strip()
    if not stripped:
        raise AiwmError(Code.payload_invalid, "there is neither a prompt nor a payload", field="payload")
    if not stripped.startswith("{"):
        return {"prompt": text.strip("\n")}
    try:
        return msgspec.json.decode(stripped.encode(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise AiwmError(Code.payload_invalid, f"the payload is not JSON: {error}", field="payload") from None


def _priority(text: str) -> int | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise AiwmError(Code.bad_request, f'"{text[:20]}" is not a whole number', field="priority") from None
