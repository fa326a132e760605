"""Events from rooms that do not write the journal themselves: the port's one implementation."""

from __future__ import annotations

from typing import Any

from engine.clock import Clock
from engine.contract.states import Durability
from engine.requests.correlation import current
from engine.store import ops
from engine.store.journal import Journal


class JournalEvents:
    """Writes events as entries of their own. They may be lost with the machine's power, not with the engine."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock

    def emit(
        self,
        level: str,
        type: str,
        about: str,
        text: str,
        *,
        who: str = "engine",
        task_seq: int | None = None,
        **details: Any,
    ) -> None:
        """Write one event; it belongs to the request that it happens in. Nobody waits for it: when storage fails, the storage's own alarm
        is what counts."""
        if details:
            text = f"{text} ({', '.join(f'{name} {value}' for name, value in details.items())})"
        event = ops.AppendEvent(
            at_ms=self._clock.wall_ms(),
            level=level,
            type=type,
            who=who,
            about=about[:200],
            text=text[:2000],
            task_seq=task_seq,
            correlation=current(),
        )
        self._journal.write((event,), Durability.os)
