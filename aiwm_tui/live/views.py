"""Open views: each keeps one `TableState` up to date, over scrolling, gaps and lost connections.

Everything runs on one event loop. A notification may overtake the answer it follows, so while a request of a view is under way
its notifications wait; afterwards those that the answer already contains are dropped by their number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiwm_tui.live.link import Link, Phase
from aiwm_tui.live.table import TableState, changed, opened
from engine.contract.errors import AiwmError
from engine.contract.notifications import ViewChanged
from engine.contract.requests.session import ViewClose, ViewMove, ViewOpen, ViewRows

_EARLY_LIMIT = 64


class LiveView:
    """A live window on a location. `state` is None until the first answer; `listener` is called after every change of `state`,
    `error` or `stale`."""

    def __init__(self, hub: ViewHub, location: str, size: int, top: int, anchor: str | None) -> None:
        self._hub = hub
        self.location = location
        self.size = size
        self.top = top
        self.anchor = anchor
        self.state: TableState | None = None
        self.error: AiwmError | None = None
        self.stale = False
        self.listener: Callable[[], None] = lambda: None
        self._waiting: list[ViewChanged] = []
        self._asking = 0
        self._wanted: tuple[int, int] | None = None
        self._closed = False
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """(Re)open on the engine; a refusal is kept in `error`."""
        await self._ask(self._open())

    async def _open(self) -> None:
        old = self.state.view if self.state is not None and not self.stale else None
        link = self._hub.link
        request = ViewOpen(location=self.location, size=self.size, top=self.top, every_ms=link.every_ms)
        answer = await link.call(request)
        self._take(answer)
        if old is not None:
            await self._hub.link.call(ViewClose(view=old))
        if self.anchor is not None:
            anchor, self.anchor = self.anchor, None
            if self.state is not None and self.state.find(anchor) is None:
                self._take(await self._hub.link.call(ViewMove(view=answer.view, anchor=anchor)))

    def want(self, top: int, size: int) -> None:
        """Move the window, soon: of several wishes while one is under way only the last is asked for."""
        self.top, self.size = max(0, top), size
        if self.state is None or self.stale:
            return
        first = self._wanted is None
        self._wanted = (self.top, size)
        if first:
            self._hub.spawn(self._ask(self._move()))

    async def _move(self) -> None:
        while self._wanted is not None and self.state is not None:
            top, size = self._wanted
            try:
                self._take(await self._hub.link.call(ViewMove(view=self.state.view, top=top, size=size)))
            finally:
                if self._wanted == (top, size):
                    self._wanted = None

    async def find(self, identifier: str) -> int | None:
        """The index of a row wherever it is now, the window moved there; None when it matches no longer."""
        if self.state is None or self.stale:
            return None
        await self._ask(self._find(identifier))
        return self.state.find(identifier) if self.state is not None else None

    async def _find(self, identifier: str) -> None:
        if self.state is not None:
            self._take(await self._hub.link.call(ViewMove(view=self.state.view, anchor=identifier)))

    async def _ask(self, request: Coroutine[Any, Any, None]) -> None:
        async with self._lock:
            self._asking += 1
            try:
                await request
            except AiwmError as error:
                if self._hub.link.phase is Phase.live:
                    self.error = error
                    self.listener()
            finally:
                self._asking -= 1
        self._catch_up()

    def _take(self, answer: ViewRows) -> None:
        if self._closed:
            self._hub.spawn(self._hub.close_view(answer.view))
            return
        self._hub.known(self, self.state.view if self.state else None, answer.view)
        self.state, self.top, self.error, self.stale = opened(answer), answer.top, None, False
        self.listener()

    def hear(self, change: ViewChanged) -> None:
        self._waiting.append(change)
        if not self._asking:
            self._catch_up()

    def _catch_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        before = self.state
        for change in waiting:
            if self.state is None or change.view != self.state.view:
                continue
            after = changed(self.state, change)
            if after is None:
                self._hub.spawn(self.open())
                return
            self.state, self.top = after, after.top
        if self.state is not before:
            self.listener()

    def lost(self) -> None:
        """The connection is gone: keep the rows, say that they are old."""
        self.stale, self._wanted = True, None
        self._waiting.clear()
        self.listener()

    def close(self) -> None:
        self._closed = True
        self._hub.forget(self)
        if self.state is not None and not self.stale:
            self._hub.spawn(self._hub.close_view(self.state.view))


class ViewHub:
    """All open views of this console; routes notifications to them and opens them again after a reconnect."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._views: set[LiveView] = set()
        self._by_name: dict[str, LiveView] = {}
        self._early: list[ViewChanged] = []
        self._tasks: set[asyncio.Task[None]] = set()
        link.on(ViewChanged, self._heard)
        link.listeners.append(self._phase)

    def open(
        self, location: str, size: int, listener: Callable[[], None], *, top: int = 0, anchor: str | None = None
    ) -> LiveView:
        """A live window; its rows come when the engine has answered, at once or after it is connected."""
        view = LiveView(self, location, size, top, anchor)
        view.listener = listener
        self._views.add(view)
        if self.link.phase is Phase.live:
            self.spawn(view.open())
        return view

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def leave(self) -> None:
        """Close every window on this engine before the console looks at another."""
        for view in list(self._views):
            if view.state is not None and not view.stale:
                await self.close_view(view.state.view)

    def reopen(self) -> None:
        """Open every window again."""
        for view in list(self._views):
            self.spawn(view.open())

    async def close_view(self, name: str) -> None:
        try:
            await self.link.call(ViewClose(view=name))
        except AiwmError:
            # A view that is gone already is what was wanted.
            pass

    def known(self, view: LiveView, old: str | None, new: str) -> None:
        if self._by_name.get(new) is view:
            return
        # Another engine may call another window what the last one called this.
        if old is not None and self._by_name.get(old) is view:
            del self._by_name[old]
        self._by_name[new] = view
        early, self._early = self._early, []
        for change in early:
            if change.view == new:
                view.hear(change)
            else:
                self._early.append(change)

    def forget(self, view: LiveView) -> None:
        self._views.discard(view)
        if view.state is not None and self._by_name.get(view.state.view) is view:
            del self._by_name[view.state.view]

    def _heard(self, change: ViewChanged) -> None:
        view = self._by_name.get(change.view)
        if view is not None:
            view.hear(change)
        else:
            self._early = [*self._early[-_EARLY_LIMIT:], change]

    def _phase(self, phase: Phase) -> None:
        if phase is Phase.live:
            self._by_name.clear()
            for view in list(self._views):
                self.spawn(view.open())
        elif phase is Phase.lost:
            self._early.clear()
            for view in list(self._views):
                view.lost()
