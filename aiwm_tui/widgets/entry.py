"""A line of text to be typed into."""

from __future__ import annotations

from textual import events
from textual.binding import Binding
from textual.widgets import Input


def _actions() -> dict[str, str]:
    return {key: each.action for each in Input.BINDINGS if isinstance(each, Binding) for key in each.key.split(",")}


class Entry(Input):
    """An Input that takes its keys one after the other. Textual's own inserts characters at once, but sends editing keys and ↵ through
    the whole screen first, so that what was typed behind them overtakes them."""

    EDITING = _actions()

    async def on_key(self, event: events.Key) -> None:
        action = self.EDITING.get(event.key)
        if action is not None:
            event.stop()
            event.prevent_default()
            await self.run_action(action)
