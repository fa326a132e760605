"""Put a task into a queue: a form whose payload begins with what its template says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from textual.widgets import Input

from aiwm_tui.forms.fields import FormField
from aiwm_tui.live.link import Link
from aiwm_tui.screens.dialogs.form import FormDialog, Send
from engine.contract.definitions import TaskTemplate
from engine.contract.errors import AiwmError
from engine.contract.requests.definitions import TemplateShow


class SubmitDialog(FormDialog):
    def __init__(
        self,
        link: Link,
        key: str,
        fields: Sequence[FormField],
        texts: Mapping[str, str],
        send: Send,
        now_ms: Callable[[], int],
    ) -> None:
        first = "payload" if texts.get("queue") or texts.get("template") else "queue"
        super().__init__(f"{key}  SUBMIT A TASK", fields, texts, send, verb="submit", first=first, now_ms=now_ms)
        self._link = link
        self._filled = ""

    def texts(self) -> dict[str, str]:
        """What is typed; with a file, what the template put into the payload is not."""
        typed = super().texts()
        if typed.get("file", "").strip() and typed["payload"].strip() == self._filled:
            typed["payload"] = ""
        return typed

    def on_mount(self) -> None:
        super().on_mount()
        self._look_up(self.row("template").text)

    def on_input_changed(self, event: Input.Changed) -> None:
        super().on_input_changed(event)
        if event.input is self.row("template").editor:
            self._look_up(event.value)

    def _look_up(self, name: str) -> None:
        if name.strip():
            # A callable: a coroutine would be left lying where a newer worker comes before it has begun.
            self.run_worker(partial(self._fill, name.strip()), group="template", exclusive=True)  # type: ignore[arg-type]

    async def _fill(self, name: str) -> None:
        """Put the template's defaults into the payload, unless somebody has typed there."""
        try:
            template = (await self._link.call(TemplateShow(name=name))).definition
        except AiwmError:
            # The name is not finished, or wrong: the engine says so when the task is submitted.
            return
        payload = self.row("payload")
        if payload.text.strip() in ("", self._filled):
            self._filled = starting_payload(template)
            payload.put(self._filled)
        if template.queue and not self.row("queue").text.strip():
            self.row("queue").put(template.queue)


def starting_payload(template: TaskTemplate) -> str:
    """The template's defaults as JSON, with every further field that its schema requires left empty."""
    empty: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": [], "object": {}}
    payload = dict(template.defaults)
    properties = template.payload_schema.get("properties")
    required = template.payload_schema.get("required")
    for name in required if isinstance(required, list) else ():
        if isinstance(name, str) and name not in payload:
            about = properties.get(name) if isinstance(properties, dict) else None
            kind = about.get("type") if isinstance(about, dict) else None
            payload[name] = empty.get(kind, "") if isinstance(kind, str) else ""
    return msgspec.json.format(msgspec.json.encode(payload), indent=2).decode() if payload else ""
