"""Who watches what the console asks the engine to destroy, and whether a person was asked first.

Three accounts must agree: what was pressed in dialogs, what the console sent, and what the engine's own audit events say happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from aiwm_tui.screens.dialogs.base import Dialog
from engine.client import BlockingClient, Client
from engine.contract.records import EventRow
from engine.contract.requests import catalogue
from engine.contract.requests.base import Request
from engine.contract.requests.memory import ModelUnload
from engine.contract.requests.session import EngineStop, ViewRead, Welcome
from engine.contract.states import Effect

Result = TypeVar("Result")
CONFIRMING = frozenset({"enter", "ctrl+s", "1", "2", "3", "q", "<click", "<double"})
"""What can confirm a dialog."""
_PAGE = 500


def destroys(request: Request[Any]) -> bool:
    """Whether a request must have been confirmed: destructive ones, and unloading at once."""
    if isinstance(request, ModelUnload):
        return request.now
    return type(request).effect is Effect.destructive and not getattr(request, "dry_run", False)


class Sent(msgspec.Struct, frozen=True):
    """A destructive request, and the dialog that was open when it was sent ("" where there was none)."""

    request: Any
    dialog: str
    confirmed: bool


class Witness:
    """`screens` gives the screens of the console that are open now, the lowest first."""

    def __init__(self) -> None:
        self.screens: Callable[[], list[Any]] = list
        self.sent: list[Sent] = []
        self.calls: Counter[str] = Counter()
        self._confirmed: set[int] = set()
        self._kept: list[Any] = []
        self._quit_confirmed = False

    def pressed(self, stroke: str) -> None:
        """A stroke is about to be given to the screen on top."""
        stack = self.screens()
        top = stack[-1] if stack else None
        if isinstance(top, Dialog) and stroke.split()[0] in CONFIRMING:
            # Kept alive, so that no other dialog gets its identity.
            self._kept.append(top)
            self._confirmed.add(id(top))
            self._quit_confirmed = self._quit_confirmed or type(top).__name__ == "QuitDialog"

    def asked(self, request: Request[Any]) -> None:
        """The console sends a request."""
        self.calls[type(request).method] += 1
        if not destroys(request):
            return
        if isinstance(request, EngineStop):
            self.sent.append(Sent(request, "QuitDialog" if self._quit_confirmed else "", self._quit_confirmed))
            self._quit_confirmed = False
            return
        dialogs = [screen for screen in self.screens() if isinstance(screen, Dialog)]
        dialog = dialogs[-1] if dialogs else None
        title = str(getattr(dialog, "_title", type(dialog).__name__)) if dialog is not None else ""
        self.sent.append(Sent(request, title, id(dialog) in self._confirmed))

    def unconfirmed(self) -> list[Sent]:
        """What was sent without a dialog that names it and was confirmed."""
        return [sent for sent in self.sent if not sent.confirmed or not _names(sent)]


def _names(sent: Sent) -> bool:
    """Whether the dialog's title says what its request is about: the name, the id, or how many tasks."""
    request = sent.request
    about = getattr(request, "name", "") or getattr(request, "id", "")
    if about:
        return about in sent.dialog
    ids = getattr(request, "ids", ())
    return not ids or f"{len(ids):,} TASK" in sent.dialog


class Watched:
    """A connection whose requests a witness sees."""

    def __init__(self, client: Client, witness: Witness) -> None:
        self._client, self._witness = client, witness
        self.welcome: Welcome | None = client.welcome
        self.closed = client.closed
        self.on = client.on
        self.close = client.close

    async def call(self, request: Request[Result], *, timeout_s: float | None = None) -> Result:
        self._witness.asked(request)
        return await self._client.call(request, timeout_s=timeout_s)


DESTRUCTIVE = frozenset(method for method, kind in catalogue().by_method.items() if kind.effect is Effect.destructive)


def last_event(client: BlockingClient) -> int:
    rows = client.call(ViewRead(location=":events sort:-at", size=1)).rows
    return int(rows[0]["id"]) if rows else 0


def destroyed(client: BlockingClient, after: int) -> Counter[str]:
    """How often each destructive request was done by the operator after an event, as the engine's audit events say."""
    found: Counter[str] = Counter()
    top = 0
    while True:
        answer = client.call(ViewRead(location=":events level:audit sort:-at", size=_PAGE, top=top))
        rows = [msgspec.convert(row, EventRow) for row in answer.rows]
        for row in rows:
            if int(row.id) > after and row.type in DESTRUCTIVE and row.who == "operator":
                found[row.type] += 1
        top += len(rows)
        if not rows or int(rows[-1].id) <= after:
            return found
