"""Sums over performance records: who used how much."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest
from engine.store.plan import Query

COLUMNS = {
    "by": '"by"',
    "submitter": '"by"',
    "agent": """CASE WHEN "by" LIKE 'agent/%' THEN substr("by", 7) ELSE '' END""",
    "definition": "definition",
    "queue": "queue",
    "pool": "pool",
    "instance": "instance",
    "adapter": "adapter",
    "model": "model",
    "batch": "batch",
    "template": "template",
}
"""What usage can be summed by, and the column that says it."""


class Used(msgspec.Struct, frozen=True):
    """What the tasks of one key used; `key` is empty for tasks that have none. `busy_ms` is how long workers had them, all attempts."""

    key: str
    tasks: int
    failed: int
    tokens_in: int
    tokens_out: int
    cost_usd: float
    busy_ms: int
    completed: int = 0


def usage_query(by: str, since_ms: int | None, until_ms: int | None) -> Query:
    """Sums of the records that ended at or after `since_ms` and before `until_ms`. Raises `bad_request` for a `by` that there is not."""
    column = COLUMNS.get(by)
    if column is None:
        fix = nearest(by, COLUMNS) or f"one of {', '.join(COLUMNS)}"
        raise AiwmError(Code.bad_request, f'usage cannot be summed by "{by[:40]}"', field="by", fix=fix)
    parameters: list[Any] = []
    tests: list[str] = []
    for test, bound in (("ended_ms >= ?", since_ms), ("ended_ms < ?", until_ms)):
        if bound is not None:
            tests.append(test)
            parameters.append(bound)
    where = f" WHERE {' AND '.join(tests)}" if tests else ""
    return Query(
        f"SELECT coalesce({column}, ''), count(*), sum(state = 'failed'), coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0),"
        " coalesce(sum(cost_usd), 0.0), coalesce(sum(max(0, duration_ms) + coalesce(spent_ms, 0)), 0),"
        " sum(state = 'completed')"
        f" FROM records{where} GROUP BY 1 ORDER BY 6 DESC, 4 + 5 DESC, 2 DESC, 1",
        tuple(parameters),
    )
