"""Sums over performance records by definition, pool and queue, of the records after a number: what summaries are made of."""

from __future__ import annotations

import msgspec

from engine.store.window import Windows


class Performed(msgspec.Struct, frozen=True):
    """What the tasks of one definition, pool and queue came to; "" where a record names none. `duration_ms` sums how long `timed` tasks'
    last attempts ran, `last` is the highest number among their records."""

    definition: str
    pool: str
    queue: str
    tasks: int
    completed: int
    failed: int
    timed: int
    duration_ms: int
    tokens_in: int
    tokens_out: int
    cost_usd: float
    ended_ms: int
    last: int


class Rated(msgspec.Struct, frozen=True):
    """The ratings (0 to 1) that supervisors gave to tasks of one definition, pool and queue: their sum, and how many."""

    definition: str
    pool: str
    queue: str
    rating: float
    count: int


_WHOSE = "coalesce(definition, ''), coalesce(pool, ''), queue"


async def performed(windows: Windows, after: int) -> list[Performed]:
    """The records with numbers above `after`, summed. Reads all of them, on a thread of its own."""
    rows = await windows.read(
        f"SELECT {_WHOSE}, count(*), sum(state = 'completed'), sum(state = 'failed'), count(duration_ms),"
        " coalesce(sum(max(0, duration_ms)), 0), coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0),"
        " coalesce(sum(cost_usd), 0.0), max(ended_ms), max(seq) FROM records WHERE seq > ? GROUP BY 1, 2, 3",
        after,
    )
    return [Performed(*row) for row in rows]


async def rated(windows: Windows) -> list[Rated]:
    """All ratings of records that are kept, from an index of their own."""
    rows = await windows.read(
        f"SELECT {_WHOSE}, sum(rating), count(*) FROM records INDEXED BY records_rated WHERE rating IS NOT NULL GROUP BY 1, 2, 3"
    )
    return [Rated(*row) for row in rows]
