"""How tasks ended under each adapter: sums over performance records."""

from __future__ import annotations

import msgspec

from engine.store.plan import Query


class Ran(msgspec.Struct, frozen=True):
    """Tasks that ended under an adapter (as records name them: comma-separated where there were several). `tokens_out_p50` is the
    median of those that completed."""

    adapter: str
    tasks: int
    completed: int
    failed: int
    tokens_out_p50: float | None


def ran_query(since_ms: int) -> Query:
    """Of the records that ended at or after `since_ms`; one range of the index on adapters, whatever else there is."""
    return Query(
        "SELECT adapter, max(n), max(done), max(bad), max(CASE WHEN place = (timed + 1) / 2 THEN tokens_out END) FROM ("
        " SELECT adapter, tokens_out, count(*) OVER whole AS n, sum(state = 'completed') OVER whole AS done,"
        " sum(state = 'failed') OVER whole AS bad,"
        " sum(state = 'completed' AND tokens_out IS NOT NULL) OVER whole AS timed,"
        " CASE WHEN state = 'completed' AND tokens_out IS NOT NULL THEN row_number() OVER"
        " (PARTITION BY adapter, state = 'completed' AND tokens_out IS NOT NULL ORDER BY tokens_out) END AS place"
        " FROM records INDEXED BY records_adapter WHERE adapter IS NOT NULL AND ended_ms >= ?"
        " WINDOW whole AS (PARTITION BY adapter)) GROUP BY adapter",
        (since_ms,),
    )
