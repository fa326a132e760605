"""How long models stay: unloaded when they have been idle for long, kept or held because somebody said so, put back when room is there
again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from engine.clock import Clock
from engine.inference.served import Managed
from engine.inference.shelf import Shelf
from engine.ports import EventSink

ALWAYS = -1
_KIND = "model-wish"


class Wish(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody wants of a model: `keep_ms` as in `Managed`, `held` says why it must not be started."""

    keep_ms: int | None = None
    held: str = ""


class Keeping:
    """All methods belong to the loop's thread. `ensure` brings a model up in the background, `changed` is told of what
    lets models in or keeps them out."""

    def __init__(
        self,
        shelf: Shelf,
        clock: Clock,
        events: EventSink,
        models: Callable[[], Iterable[Managed]],
        ensure: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._shelf = shelf
        self._clock = clock
        self._events = events
        self._models = models
        self._ensure = ensure
        self._changed = changed
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("inf")
        self._put_back: dict[str, tuple[str, ...]] = {}

    def restore(self, model: Managed) -> None:
        """What was wished of a model before this engine started."""
        for _, wish in self._shelf.of(_KIND, model.definition.name, Wish):
            model.held = wish.held
            lasting = wish.keep_ms == ALWAYS or (wish.keep_ms or 0) > self._clock.wall_ms()
            model.keep_ms = wish.keep_ms if lasting else None

    def keep(self, model: Managed, until_ms: int | None) -> None:
        """Keep a model until then (`ALWAYS`: for ever), or no longer (None)."""
        model.keep_ms = until_ms
        self._store(model)
        self.look()

    def hold(self, model: Managed, reason: str) -> None:
        """Do not start it, or (empty) start it again when it is needed."""
        if model.held != reason:
            model.held = reason
            self._store(model)
            model.publish()
            self._changed()

    def put_back(self, model: str, others: tuple[str, ...]) -> None:
        """Load `others` again once this model is unloaded."""
        self._put_back[model] = others

    def stopped(self, model: Managed) -> None:
        """A process of the model has gone: what it took the place of comes back with the last one."""
        name = model.definition.name
        if name in self._put_back and all(process.startable for process in model.processes):
            for other in self._put_back.pop(name):
                self._ensure(other)

    def look(self) -> None:
        """Something changed: unload what has been idle for too long, and come back when the next will have been."""
        loop = asyncio.get_running_loop()
        now_ms, due = self._clock.wall_ms(), float("inf")
        for model in self._models():
            limit = model.settings.idle
            if model.keep_ms is not None and model.keep_ms != ALWAYS:
                if model.keep_ms <= now_ms:
                    model.keep_ms = None
                    self._store(model)
                else:
                    due = min(due, loop.time() + (model.keep_ms - now_ms) / 1000)
            if limit is None or model.keep_ms is not None:
                continue
            for process in model.processes:
                idle = process.idle_s
                if idle is None:
                    continue
                if idle >= limit:
                    self._events.emit("info", "model.idle", process.id, f"unloaded: idle for {limit:g} s")
                    process.stop()
                else:
                    due = min(due, loop.time() + limit - idle)
        self._arm(due)

    def close(self) -> None:
        self._arm(float("inf"))

    def _arm(self, due: float) -> None:
        if due == self._due:
            return
        # A timer that is early looks again: with every task that ends the time moves on, which must not cost one each.
        if self._timer is not None and self._due <= due < float("inf"):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = due
        if due < float("inf"):
            self._timer = asyncio.get_running_loop().call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer, self._due = None, float("inf")
        self.look()

    def _store(self, model: Managed) -> None:
        name = model.definition.name
        if model.keep_ms is None and not model.held:
            self._shelf.drop(_KIND, name)
        else:
            self._shelf.put(_KIND, name, name, Wish(keep_ms=model.keep_ms, held=model.held))
