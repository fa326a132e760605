"""Performance records: what tasks took, cost and came to, one each time a task ends."""

from __future__ import annotations

from engine.contract.records.core import Record, total_tokens


class RecordRow(Record, frozen=True, kw_only=True):
    """One end of a task that ran. `state` is what the task became, `success` whether that is completed; `attempt` was the last one.

    `duration_ms` is how long that attempt ran, `spent_ms` how long those before it did; tokens and cost are sums over all of them.
    `summary` is the beginning of what came out or went wrong, `fail` the failure's fingerprint, `adapter` the adapters applied,
    `reflection` what the worker noted about its work, `calls` how often the model was called and `input_chars` how much it was given. A
    supervisor fills in `rating` (0 to 1) and `comments`."""

    task: str
    state: str
    success: bool
    ended_ms: int
    started_ms: int | None = None
    duration_ms: int | None = None
    spent_ms: int | None = None
    attempt: int
    queue: str
    pool: str | None = None
    definition: str | None = None
    instance: str | None = None
    by: str
    template: str | None = None
    batch: str | None = None
    model: str | None = None
    adapter: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    calls: int | None = None
    input_chars: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    fail: str | None = None
    rating: float | None = None
    comments: str | None = None
    summary: str = ""
    reflection: str | None = None

    @property
    def tokens(self) -> int | None:
        """Tokens in and out together."""
        return total_tokens(self.tokens_in, self.tokens_out)


class SummaryRow(Record, frozen=True, kw_only=True):
    """What a definition, pool or queue (`id`) came to, over everything that ever ended. `rate` is completed of completed and failed,
    `mean_ms` how long the last attempts of its tasks ran on the average, `quality` the mean rating (0 to 1) of the `rated` ones among the
    records that are kept; None where there is nothing to count. `spawned` instances there have been and `active` there are (0 for queues).
    `turns`, `chat_tokens` and `chat_cost_usd` are of chats with its directly spawned instances, beside the tasks."""

    by: str
    attempted: int
    completed: int
    failed: int
    rate: float | None
    mean_ms: float | None
    tokens_in: int
    tokens_out: int
    cost_usd: float
    quality: float | None
    rated: int
    last_ms: int | None
    spawned: int = 0
    active: int = 0
    turns: int = 0
    chat_tokens: int = 0
    chat_cost_usd: float = 0.0


ROWS: dict[str, type[Record]] = {"records": RecordRow}
