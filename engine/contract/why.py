"""Why something does not move: one answer shape for a task, a queue, a pool, a model and the whole engine."""

from __future__ import annotations

import msgspec


class Gate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One condition between waiting and running, in the order in which the scheduler tests it.

    `count` is how many tasks it holds (1 for a task's own answer), `since_ms` Unix time in ms, `opens` when or by what it
    opens in words, `opens_ms` the Unix time if that is known, `fix` the command that would open it now."""

    name: str
    closed: bool
    count: int = 0
    since_ms: int | None = None
    opens: str = ""
    opens_ms: int | None = None
    why: str = ""
    fix: str | None = None


class Why(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to "why not now?". `scope` is task, queue, pool, model or engine; `moving` is False when something stands still. `notes`
    are sentences about what is no gate: where a task goes and why there."""

    scope: str
    about: str
    moving: bool
    summary: str
    gates: tuple[Gate, ...] = ()
    notes: tuple[str, ...] = ()
