"""Which request something was caused by: whatever an event tells of while a request is answered, or in what it started, belongs to it.

The context of a task goes on in the tasks that it starts. A process that a request started lives for days, though, and not all that
happens to it then is what the request led to: after a while its events are nobody's."""

from __future__ import annotations

import secrets
import time
from contextvars import ContextVar

LASTS_S = 600.0
"""What happens later than this is not what a request led to."""

_current: ContextVar[tuple[str, float]] = ContextVar("request", default=("", 0.0))


def begin() -> None:
    """A request that changes something begins, unless it is made by another one: then both are one. It holds for this context."""
    if current() is None:
        _current.set((f"c-{secrets.token_hex(4)}", time.monotonic()))


def current() -> str | None:
    """The request that what happens now belongs to, if any."""
    name, since = _current.get()
    return name if name and time.monotonic() - since <= LASTS_S else None
