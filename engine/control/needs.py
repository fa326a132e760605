"""What needs a person, dearest first: the lines of NEEDS YOU, each with where it is put right and what to press there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from engine.contract.records import ModelRow, NeedRow, PoolRow, QueueRow
from engine.contract.records.operations import OperationRow
from engine.contract.requests.maintenance import Maintenance
from engine.contract.why import Why

STOPPED, STANDS, SLOW, PAST = range(4)
"""What waiting costs: nothing starts at all; work stands still; it is too slow, or somebody waits for an answer; it has failed already."""

_BEHIND_MS, _BEHIND_TASKS, _BEHIND_FACTOR = 60_000, 20, 1.05
"""A queue falls behind when so many wait, the oldest so long, and so much more comes than goes."""
_TROUBLES = {"backoff": "keeps crashing", "failed": "did not start", "refused": "does not fit"}


class Failed(msgspec.Struct, frozen=True):
    """Tasks that failed alike and are failed still. `fail` is their fingerprint (empty: not known), `since_ms` when the first one did."""

    fail: str
    text: str
    count: int
    since_ms: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How things are. `why` answers why nothing moves in a queue; `waits` says whether anything waits at all."""

    queues: Sequence[QueueRow]
    pools: Callable[[], Sequence[PoolRow]]
    models: Sequence[ModelRow]
    failed: Sequence[Failed]
    held: Sequence[OperationRow]
    why: Callable[[str], Why]
    maintenance: Maintenance | None
    storage_failed_ms: int | None
    home: Path
    now_ms: int


def need_rows(now: Standing) -> list[NeedRow]:
    """Every line, dearest first, the oldest first among equals."""
    found = [*_engine(now), *_queues(now), *_models(now), *_failures(now), *_operations(now)]
    return sorted(found, key=lambda need: (need.rank, need.since_ms))


def of_queues(now: Standing) -> list[NeedRow]:
    """The lines of queues alone, for which `models`, `failed` and `held` need not be known."""
    return list(_queues(now))


def _engine(now: Standing) -> Iterator[NeedRow]:
    if now.storage_failed_ms is not None:
        yield NeedRow(
            id="storage",
            rank=STOPPED,
            since_ms=now.storage_failed_ms,
            state="broken",
            what="nothing can be stored",
            why=f"writing to {now.home} fails: nothing new starts or is accepted",
            press="make room on the disk; it goes on by itself",
            location=":events level:error",
        )
    waiting = sum(queue.waiting for queue in now.queues)
    if now.maintenance is not None and waiting:
        reason = f": {now.maintenance.reason}" if now.maintenance.reason else ""
        yield NeedRow(
            id="maintenance",
            rank=STOPPED,
            since_ms=now.maintenance.since_ms,
            state="paused",
            what="nothing new starts: maintenance",
            why=f"by {now.maintenance.by}{reason}; {waiting:,} wait",
            press="↵, P goes on",
            location=":engine",
        )


def _queues(now: Standing) -> Iterator[NeedRow]:
    held = now.maintenance is not None
    for queue in now.queues:
        if queue.state == "stuck" and not held:
            yield NeedRow(
                id=f"queue {queue.id}",
                rank=STANDS,
                since_ms=queue.head_ms or now.now_ms,
                state="broken",
                what=f"{queue.id} stands still",
                why=f"{queue.waiting:,} wait: {_first(now.why(queue.id))}",
                press="↵ what it waits for",
                location=f":queues name:{queue.id}",
            )
        elif _falls_behind(queue, now.now_ms):
            yield _behind(queue, now)


def _first(why: Why) -> str:
    """The first closed gate in words, with the time at which it opens; the summary where there is none."""
    gate = next((gate for gate in why.gates if gate.closed and gate.why), None)
    if gate is None:
        return why.summary
    opens = datetime.fromtimestamp(gate.opens_ms / 1000).strftime("%H:%M") if gate.opens_ms else gate.opens
    return gate.why if not opens or opens.startswith("never") else f"{gate.why}; opens {opens}"


def _falls_behind(queue: QueueRow, now_ms: int) -> bool:
    late = queue.head_ms is not None and now_ms - queue.head_ms >= _BEHIND_MS
    grows = queue.in_per_min > queue.out_per_min * _BEHIND_FACTOR
    return queue.state == "open" and late and grows and queue.waiting >= _BEHIND_TASKS


def _behind(queue: QueueRow, now: Standing) -> NeedRow:
    pool = next((pool for pool in now.pools() if pool.id in queue.pools and pool.state == "at max"), None)
    where = f"{pool.id} at max {pool.max_total}; " if pool is not None else ""
    return NeedRow(
        id=f"behind {queue.id}",
        rank=SLOW,
        since_ms=queue.head_ms or now.now_ms,
        state="wrong",
        what=f"{queue.id} falls behind",
        why=f"{where}in {queue.in_per_min:.0f}/m, out {queue.out_per_min:.0f}/m: never empty",
        press=f"↵, S scales {pool.id}" if pool is not None else "↵ what it waits for",
        location=f":pools name:{pool.id}" if pool is not None else f":queues name:{queue.id}",
    )


def _models(now: Standing) -> Iterator[NeedRow]:
    press = {
        "backoff": "↵, l its log, R restarts it",
        "failed": "↵, l its log, R tries again",
        "refused": "↵, L makes room",
    }
    for model in now.models:
        if model.state in _TROUBLES:
            yield NeedRow(
                id=f"model {model.id}",
                rank=SLOW,
                since_ms=model.since_ms,
                state="wrong" if model.state == "backoff" else "broken",
                what=f"{model.id} {_TROUBLES[model.state]}",
                why=model.note,
                press=press[model.state],
                location=f":models name:{model.id}",
            )


def _failures(now: Standing) -> Iterator[NeedRow]:
    for failed in now.failed:
        alike = " alike" if failed.count > 1 else ""
        name = f" ({failed.fail})" if failed.fail else ""
        yield NeedRow(
            id=f"failed {failed.fail or failed.text[:60]}",
            rank=PAST,
            since_ms=failed.since_ms,
            state="broken",
            what=f"{failed.count:,} task{'s' if failed.count != 1 else ''} failed{alike}{name}",
            why=failed.text,
            press="↵, then * R tries again" if failed.count > 1 else "↵, R tries again",
            location=f":tasks state:failed fail:{failed.fail}" if failed.fail else ":tasks state:failed",
        )


def _operations(now: Standing) -> Iterator[NeedRow]:
    for row in now.held:
        yield NeedRow(
            id=f"operation {row.id}",
            rank=PAST,
            since_ms=row.at_ms,
            state="held",
            what=f"{row.id} is held: its first ones failed",
            why=f"{row.request} of {row.count:,}, {row.done:,} done; the rest stay as they were",
            press="↵, Z takes it back",
            location=f":operations id:{row.id}",
        )
