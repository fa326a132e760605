"""The palette: every action that works here, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider

from aiwm_tui.actions import Action, available
from aiwm_tui.screens.dialogs.base import DecidesOnce

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp

_NOT_LISTED = frozenset({"palette", "cursor_up", "cursor_down", "left", "right", "half_up", "half_down"})


class ActionProvider(Provider):
    def _actions(self) -> Iterator[Action]:
        app = cast("ConsoleApp", self.app)
        for action in available(app.page.table, app.page.lacks, app.actions):
            if action.id not in _NOT_LISTED and not (app.read_only and action.changes):
                yield action

    async def discover(self) -> Hits:
        for action in self._actions():
            yield DiscoveryHit(_title(action), self._doing(action), help=action.help or action.label)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._actions():
            title = _title(action)
            score = max(matcher.match(title), matcher.match(action.help) * 0.8)
            if score > 0:
                yield Hit(
                    score, matcher.highlight(title), self._doing(action), text=title, help=action.help or action.label
                )

    def _doing(self, action: Action) -> Callable[[], None]:
        app = cast("ConsoleApp", self.app)

        def do() -> None:
            app.call_later(app.action_do, action.id)

        return do


def _title(action: Action) -> str:
    return f"{action.label}  ({action.shown})".replace("[", "\\[")


class Palette(CommandPalette, DecidesOnce[None]):
    """Textual's, which falls over a page key that comes before its list is laid out, and over a choice that is made while it goes."""

    def _action_command_list(self, action: str) -> None:
        with suppress(KeyError):
            super()._action_command_list(action)


def open_palette(app: ConsoleApp) -> None:
    if not isinstance(app.screen, CommandPalette):
        app.push_screen(Palette(providers=[ActionProvider], placeholder="what to do", id="palette"))
