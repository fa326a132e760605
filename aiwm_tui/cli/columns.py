"""The columns of each table on the command line. A cell is written as in the console (`aiwm_tui.live.format`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from aiwm_tui.live import format as written
from aiwm_tui.live.text import clean, cut


class Column(NamedTuple):
    """`cell` makes the text of a row (a mapping of the record's fields); `right` aligns numbers.

    Where a terminal is too narrow, the column of the highest `priority` is left out first: 0 is what names the row, 1 its state, 2 the
    reason or note. Cells of `right` and `whole` columns are never cut: half a number or a name is a wrong one.
    Those of `below` go on below themselves, as what somebody has to read to its end."""

    title: str
    cell: Callable[[Mapping[str, Any]], str]
    right: bool = False
    state_of: str | None = None
    priority: int = 0
    whole: bool = False
    below: bool = False


def _text(title: str, field: str, *, priority: int = 0, whole: bool = False, below: bool = False) -> Column:
    def cell(row: Mapping[str, Any]) -> str:
        value = row.get(field)
        if isinstance(value, (list, tuple)):
            return clean(",".join(str(part) for part in value)) or written.NONE
        return written.NONE if value is None or value == "" else clean(str(value))

    return Column(title, cell, priority=priority, whole=whole, below=below)


def _id(title: str, field: str) -> Column:
    return _text(title, field, whole=True)


def _as(title: str, field: str, write: Callable[[Any], str], *, priority: int = 0) -> Column:
    return Column(title, lambda row: write(row.get(field)), True, priority=priority)


def _number(title: str, field: str, *, priority: int = 0) -> Column:
    return _as(title, field, written.count, priority=priority)


def _age(title: str, field: str, *, priority: int = 0) -> Column:
    return Column(
        title, lambda row: written.since(row.get(field), time.time_ns() // 1_000_000), True, priority=priority
    )


def _state(table: str, field: str = "state", title: str = "STATE") -> Column:
    return _text(title, field, priority=1, whole=True)._replace(state_of=table)


def _took(row: Mapping[str, Any]) -> str:
    started, ended = row.get("started_ms"), row.get("ended_ms")
    return written.NONE if started is None or ended is None else written.span(ended - started)


def _try(row: Mapping[str, Any]) -> str:
    return f"{row.get('attempt', 0)}/{row.get('max_attempts', 0)}"


def _done(row: Mapping[str, Any]) -> str:
    """`212/500`: tasks done, and after how many it retires; turns of a chat."""
    most = row.get("max_tasks")
    return (
        f"{row.get('done', 0)}/{most}"
        if most
        else f"turn {row.get('done', 0)}"
        if not row.get("pool")
        else str(row.get("done", 0))
    )


def _context(row: Mapping[str, Any]) -> str:
    return f"{row.get('context', 0)}/{row['context_max']}" if row.get("context_max") else written.NONE


def _share(value: float | None) -> str:
    return written.NONE if value is None else f"{value * 100:.0f}%"


def _hit_rate(row: Mapping[str, Any]) -> str:
    """Of the last hour's uses, the share that did not wait."""
    return _share(row.get("hits", 0) / row["uses"]) if row.get("uses") else written.NONE


def _milliseconds(value: float | None) -> str:
    return written.NONE if value is None else f"{value:.0f}ms"


def _dollars(value: float | None) -> str:
    return written.NONE if value is None else f"{value:.4f}"


def _used(row: Mapping[str, Any], name: str) -> str:
    """`41/60`: used of a limit."""
    window = msgspec.to_builtins(row[name])
    return f"{window['used']:,}/{window['limit']:,}" if window["limit"] else written.NONE


def _next(row: Mapping[str, Any]) -> str:
    """When the next call may be made."""
    until = row.get("opens_ms")
    return "now" if until is None else written.countdown(until, time.time_ns() // 1_000_000)


def _trouble(row: Mapping[str, Any]) -> str:
    """What comes next or went wrong last; for one that a limit holds, when it opens."""
    note, until = clean(str(row.get("note") or "")), row.get("until_ms")
    if until is None:
        return note or written.NONE
    return f"{note}; opens {written.countdown(until, time.time_ns() // 1_000_000)}"


def _keep(row: Mapping[str, Any]) -> str:
    """How long a model stays: `always`, `until 14:05`, or the time without work after which it goes."""
    until, idle = row.get("keep_until_ms"), row.get("idle_ms", -1)
    if until is not None and until > 0:
        return f"until {datetime.fromtimestamp(until / 1000):%H:%M}"
    if until is not None:
        return "always"
    return written.NONE if idle < 0 or not row.get("pid") else written.span(idle)


def _rating(value: float | None) -> str:
    return written.NONE if value is None else f"{value:.0%}"


def _lesson_context(row: Mapping[str, Any]) -> str:
    """`queue:etl payload.country:DE`: the tasks that a lesson is for."""
    parts = [f"{name}:{row[name]}" for name in ("template", "queue", "definition", "error") if row.get(name)]
    parts += [f"can:{name}" for name in row.get("capabilities") or ()]
    return " ".join([*parts, *(f"payload.{path}:{value}" for path, value in (row.get("payload") or {}).items())])


COLUMNS: dict[str, tuple[Column, ...]] = {
    "tasks": (
        _id("ID", "id"),
        _state("tasks"),
        _text("QUEUE", "queue", priority=3),
        _number("PRIO", "priority", priority=8),
        Column("TRY", _try, True, priority=6),
        _text("WORKER", "definition", priority=4),
        _age("AGE", "submitted_ms", priority=5),
        Column("TOOK", _took, True, priority=7),
        _number("TOKENS", "tokens_out", priority=9),
        _text("REASON", "reason", priority=2),
    ),
    "queues": (
        _id("NAME", "id"),
        _state("queues"),
        _number("WAIT", "waiting", priority=3),
        _number("RUN", "running", priority=4),
        _number("LATER", "scheduled", priority=12),
        _number("RETRY", "retrying", priority=11),
        _number("DONE", "completed", priority=8),
        _number("FAIL", "failed", priority=5),
        _age("HEAD", "head_ms", priority=6),
        _as("IN/m", "in_per_min", written.rate, priority=10),
        _as("OUT/m", "out_per_min", written.rate, priority=9),
        _as("EMPTY IN", "empty_ms", written.age, priority=13),
        _as("P50", "p50_ms", written.span, priority=15),
        _as("P95", "p95_ms", written.span, priority=14),
        _text("POOLS", "pools", priority=7),
        _text("GATE", "gate", priority=2),
    ),
    "pools": (
        _id("NAME", "id"),
        _state("pools"),
        _text("WORKER", "definition", priority=7),
        _number("BUSY", "busy", priority=3),
        _number("IDLE", "idle", priority=5),
        _number("START", "starting", priority=10),
        _number("MIN", "min_idle", priority=9),
        _number("MAX", "max_total", priority=6),
        _number("WAIT", "waiting", priority=4),
        _age("HEAD", "head_ms", priority=11),
        _as("P50", "p50_ms", written.span, priority=12),
        Column("±1h", lambda row: f"{row.get('up_1h', 0)}/{row.get('down_1h', 0)}", True, priority=13),
        _text("QUEUES", "queues", priority=8),
        _text("HELD BY", "held_by", priority=2),
    ),
    "instances": (
        _id("ID", "id"),
        _state("instances"),
        _text("POOL", "pool", priority=5),
        _text("WORKER", "definition", priority=8),
        _text("TASK", "task", priority=3),
        _age("FOR", "since_ms", priority=4),
        Column("DONE", _done, True, priority=6),
        _number("FAIL", "failed", priority=7),
        Column("CONTEXT", _context, True, priority=9),
        _number("TOKENS", "tokens", priority=10),
        _age("AGE", "spawned_ms", priority=11),
        Column("NEXT OR LAST ERROR", _trouble, priority=2),
    ),
    "retired": (
        _id("ID", "id"),
        _state("retired"),
        _text("POOL", "pool", priority=3),
        _text("WORKER", "definition", priority=5),
        _number("DONE", "done", priority=6),
        _number("FAIL", "failed", priority=7),
        _number("IN", "tokens_in", priority=8),
        _number("OUT", "tokens_out", priority=9),
        _age("GONE", "retired_ms", priority=4),
        _text("REASON", "reason", priority=2),
    ),
    "records": (
        _id("TASK", "task"),
        _state("tasks"),
        _text("QUEUE", "queue", priority=3),
        _text("WORKER", "definition", priority=5),
        _text("ON", "instance", priority=11),
        _as("TOOK", "duration_ms", written.span, priority=4),
        _number("IN", "tokens_in", priority=8),
        _number("OUT", "tokens_out", priority=7),
        _as("COST $", "cost_usd", _dollars, priority=10),
        _as("RATED", "rating", _share, priority=6),
        _age("ENDED", "ended_ms", priority=9),
        _text("SUMMARY", "summary", priority=2),
    ),
    "summaries": (
        _id("NAME", "id"),
        _number("TASKS", "attempted", priority=3),
        _number("DONE", "completed", priority=4),
        _number("FAIL", "failed", priority=5),
        _as("RATE", "rate", _share, priority=6),
        _as("MEAN", "mean_ms", written.span, priority=7),
        _number("IN", "tokens_in", priority=12),
        _number("OUT", "tokens_out", priority=8),
        _as("COST $", "cost_usd", _dollars, priority=11),
        _as("QUALITY", "quality", _share, priority=9),
        _number("TURNS", "turns", priority=14),
        _number("SPAWNED", "spawned", priority=15),
        _number("ACTIVE", "active", priority=10),
        _age("LAST", "last_ms", priority=13),
    ),
    "limits": (
        _id("NAME", "id"),
        _state("limits"),
        Column("CALLS/min", lambda row: _used(row, "requests_per_minute"), True, priority=4),
        Column("TOKENS/min", lambda row: _used(row, "tokens_per_minute"), True, priority=6),
        Column("TOKENS/day", lambda row: _used(row, "tokens_per_day"), True, priority=7),
        Column("INSTANCES", lambda row: _used(row, "instances"), True, priority=8),
        _number("WAIT", "waiting", priority=5),
        Column("NEXT", _next, priority=3, whole=True),
        _text("WHY", "why", priority=2),
    ),
    "models": (
        _id("ID", "id"),
        _state("models"),
        _text("BACKEND", "backend", priority=11),
        _text("WHERE", "where", priority=6),
        _number("RUN", "running", priority=3),
        _number("WAIT", "waiting", priority=4),
        _number("SLOTS", "slots", priority=5),
        _as("TOK/s", "tokens_per_s", written.rate, priority=7),
        _as("WEIGHTS", "weights_bytes", written.size, priority=8),
        _as("KV", "kv_bytes", written.size, priority=12),
        _as("RSS", "rss_bytes", written.size, priority=10),
        _as("PLANNED", "estimate_bytes", lambda count: written.size(count) if count else written.NONE, priority=13),
        Column("KEEP", _keep, priority=9, whole=True),
        _number("RESTARTS", "restarts", priority=14),
        _as("PID", "pid", lambda pid: written.NONE if pid is None else str(pid), priority=15),
        _text("NOTE", "note", priority=2),
    ),
    "adapters": (
        _id("NAME", "id"),
        _state("adapters"),
        Column("CUR", lambda row: "cur" if row.get("current") else "", priority=3, whole=True),
        _text("BASE", "base", priority=4),
        _number("RANK", "rank", priority=14),
        _as("SIZE", "size_bytes", written.size, priority=10),
        _number("IN USE", "in_use", priority=5),
        _number("USED 1h", "uses", priority=6),
        Column("HIT 1h", lambda row: _hit_rate(row), True, priority=7),
        _number("EVICT", "evictions", priority=13),
        _as("LOAD", "load_ms", _milliseconds, priority=12),
        _number("TASKS 24h", "tasks", priority=9),
        _as("OK 24h", "ok", _share, priority=8),
        _text("DIGEST", "digest")._replace(
            cell=lambda row: str(row.get("digest") or "")[:6] or written.NONE, priority=15, whole=True
        ),
        _text("USED BY", "used_by", priority=11),
        _text("NOTE", "note", priority=2),
    ),
    "versions": (
        Column("VER", lambda row: f"v{row.get('version')}", whole=True),
        _state("adapters"),
        Column("CUR", lambda row: "cur" if row.get("current") else "", priority=3, whole=True),
        _as("MADE", "made_ms", lambda ms: written.moment(ms, time.time_ns() // 1_000_000), priority=6),
        _text("BY", "by", priority=9),
        _text("PARENT", "parent", priority=11),
        _number("TASKS", "tasks", priority=4),
        _as("OK", "ok", _share, priority=5),
        _as(
            "TOK OUT p50",
            "tokens_out_p50",
            lambda value: written.count(None if value is None else int(value)),
            priority=12,
        ),
        _text("DIGEST", "digest")._replace(
            cell=lambda row: str(row.get("digest") or "")[:6] or written.NONE, priority=10, whole=True
        ),
        _text("RUNNING", "running", priority=7),
        _text("PINNED BY", "pinned", priority=8),
        _text("NOTE", "note", priority=2),
    ),
    "prefetched": (
        _id("NAME", "name"),
        _text("MODEL", "model", priority=3),
        Column("READY", lambda row: "yes" if row.get("ready") else "no room", priority=1, whole=True),
    ),
    "evicted": (
        _id("NAME", "name"),
        Column(
            "EVICTED",
            lambda row: "yes" if row.get("evicted") else "in use" if row.get("in_use") else "was not there",
            priority=1,
            whole=True,
        ),
    ),
    "caches": (
        _id("PROCESS", "id"),
        Column("SLOTS", lambda row: f"{row.get('entries')}/{row.get('max_entries')}", True, priority=3),
        Column(
            "SIZE",
            lambda row: f"{written.size(row.get('bytes'))}/{written.size(row.get('max_bytes'))}",
            True,
            priority=5,
        ),
        _as("STAGED", "staged_bytes", written.size, priority=14),
        _number("HITS", "hits", priority=6),
        _number("MISSES", "misses", priority=7),
        _as("HIT", "hit_rate", _share, priority=4),
        _as("PREFETCH", "prefetch_rate", _share, priority=9),
        _number("WASTED", "wasted", priority=15),
        _number("EVICTED", "evictions", priority=10),
        _number("1h", "evictions_1h", priority=13),
        _number("REFUSED", "refusals", priority=11),
        _as("LOAD", "load_ms_mean", _milliseconds, priority=8),
        _as("p95", "load_ms_p95", _milliseconds, priority=12),
    ),
    "devices": (
        _id("ID", "id"),
        _text("NAME", "name", priority=5),
        _as("TOTAL", "total_bytes", written.size, priority=4),
        _as("FREE", "free_bytes", written.size, priority=3),
        _as("WEIGHTS", "weights_bytes", written.size, priority=7),
        _as("KV", "kv_bytes", written.size, priority=8),
        _as("ADAPTERS", "adapters_bytes", written.size, priority=9),
        _as("NOT OURS", "others_bytes", written.size, priority=6),
        _as("UTIL", "utilisation", lambda share: written.NONE if share is None else f"{share:.0f}%", priority=10),
        _as("TEMP", "temperature_c", lambda value: written.NONE if value is None else f"{value:.0f}°C", priority=12),
        _as("POWER", "power_w", lambda value: written.NONE if value is None else f"{value:.0f}W", priority=13),
        _text("NOTE", "note", priority=2),
        _text("OTHERS", "others", priority=11),
    ),
    "metrics": (
        _id("PROCESS", "process_id"),
        _state("models", "status", "STATUS"),
        _as("LOAD", "current_load", lambda share: f"{share:.0f}%", priority=3),
        _number("QUEUE", "queue_depth", priority=4),
        _as("LATENCY", "average_latency_ms", lambda value: f"{value:.0f}ms", priority=6),
        _as("HITS", "layer_cache_hit_rate", _share, priority=7),
        _number("SERVED", "total_requests", priority=9),
        _as("TOK/s", "tokens_per_second", written.rate, priority=5),
        _as("RSS", "memory_bytes", written.size, priority=8),
        _number("RESTARTS", "restarts", priority=10),
    ),
    "logs": (
        _id("NAME", "id"),
        _as("SIZE", "size_bytes", written.size, priority=3),
        _text("OF", "kind", priority=6),
        _age("CHANGED", "changed_ms", priority=4),
        _number("LIVES", "lives", priority=5),
        _text("LAST LINE", "last", priority=2),
    ),
    "verdicts": (
        _id("NAME", "name"),
        Column("KIND", lambda row: clean(f"{row.get('kind')} {row.get('quant')}").strip(), priority=3),
        _text("STATE", "state", priority=1),
        _as("NEEDS", "needs_bytes", lambda count: written.size(count) if count else written.NONE, priority=4),
        _text("FITS", "fits", priority=6),
        _text("RUNS WITH", "runs_with", priority=5),
        _text("TEMPLATE", "template", priority=8),
        _text("KNOWN AS", "known_as", priority=7),
        _text("WHY", "why", priority=2, below=True),
    ),
    "workers": (
        _id("NAME", "id"),
        _text("KIND", "kind", priority=3),
        _text("MODEL", "model", priority=4),
        _text("STATUS", "status", priority=1, whole=True),
        Column(
            "CHAT", lambda row: "no" if row.get("interaction") == "stateless_task" else "yes", priority=9, whole=True
        ),
        _text("KEY", "key_status", priority=5),
        _text("CAN", "capabilities", priority=8),
        _text("POOLS", "pools", priority=7),
        Column("DIGEST", lambda row: clean(str(row.get("digest", "")), 12), priority=10, whole=True),
        _text("DESCRIPTION", "description", priority=2),
    ),
    "templates": (
        _id("NAME", "id"),
        _text("QUEUE", "queue", priority=3),
        _text("WORKER", "definition", priority=4),
        _text("CAN", "capabilities", priority=7),
        _as("PRIO", "priority", lambda priority: written.NONE if priority is None else str(priority), priority=8),
        _text("FIELDS", "fields", priority=5),
        Column("DIGEST", lambda row: clean(str(row.get("digest", "")), 12), priority=9, whole=True),
        _text("DESCRIPTION", "description", priority=2),
    ),
    "sources": (
        _id("NAME", "id"),
        _state("sources"),
        _text("TYPE", "type", priority=3),
        _text("PATH", "path", priority=4),
        _text("FILTERS", "filters", priority=7),
        _text("TARGET", "target", priority=6),
        _text("USED BY", "used_by", priority=5),
        _text("NOTE", "note", priority=2),
    ),
    "files": (
        _id("PATH", "id"),
        _as("SIZE", "size_bytes", written.size, priority=3),
        Column(
            "CHANGED",
            lambda row: written.moment(row.get("modified_ms"), time.time_ns() // 1_000_000),
            priority=4,
            whole=True,
        ),
        Column("DIGEST", lambda row: clean(str(row.get("digest") or written.NONE), 12), priority=5, whole=True),
    ),
    "tools": (
        _id("NAME", "id"),
        _text("MAY", "allowed", priority=1, whole=True),
        _text("EFFECT", "effect", priority=4),
        _text("GATE", "gate", priority=3),
        _text("WHY", "why", priority=2),
    ),
    "keys": (
        _id("NAME", "id"),
        _text("STATUS", "status", priority=1, whole=True),
        _text("FROM", "method", priority=5),
        _text("HOSTS", "hosts", priority=3),
        _text("WORKERS", "workers", priority=4),
        _text("NOTE", "note", priority=2),
    ),
    "approvals": (
        _id("ID", "id"),
        _text("STATE", "state", priority=1),
        _text("REQUEST", "method", priority=3),
        Column("WITH", lambda row: clean(cut(msgspec.json.encode(row.get("params") or {}).decode(), 60)), priority=4),
        _text("BY", "by", priority=6),
        _age("AGE", "asked_ms", priority=5),
        _text("WHY", "why", priority=2),
    ),
    "steps": (
        Column("AT", lambda row: written.moment(row.get("at_ms"), time.time_ns() // 1_000_000), whole=True),
        Column("STEP", lambda row: {1: "+1", -1: "-1"}.get(row.get("change", 0), "failed"), True, priority=1),
        _text("INSTANCE", "instance", priority=3),
        _number("TOTAL", "total", priority=4),
        _number("IDLE", "idle", priority=7),
        _number("BUSY", "busy", priority=6),
        _number("WAIT", "waiting", priority=5),
        _as("OUT/m", "out_before", written.rate, priority=9),
        _as("AFTER", "out_after", written.rate, priority=8),
        _text("REASON", "reason", priority=2),
    ),
    "events": (
        _id("ID", "id"),
        Column("AT", lambda row: written.moment(row.get("at_ms"), time.time_ns() // 1_000_000), priority=3, whole=True),
        _state("events", "level", "LEVEL"),
        _text("TYPE", "type", priority=4),
        _text("WHO", "who", priority=6),
        _text("ABOUT", "about", priority=5),
        _text("TEXT", "text", priority=2),
    ),
    "needs": (
        _age("SINCE", "since_ms", priority=4),
        _state("needs"),
        _text("WHAT", "what"),
        _text("WHY", "why", priority=2),
        _text("PRESS", "press", priority=3),
    ),
    "operations": (
        _id("ID", "id"),
        _text("STATE", "state", priority=1),
        _text("REQUEST", "request", priority=3),
        _text("BY", "by", priority=8),
        Column("AT", lambda row: written.moment(row.get("at_ms"), time.time_ns() // 1_000_000), priority=7, whole=True),
        Column(
            "DUE", lambda row: written.moment(row.get("due_ms"), time.time_ns() // 1_000_000), priority=9, whole=True
        ),
        _number("COUNT", "count", priority=4),
        _number("DONE", "done", priority=5),
        _number("REFUSED", "refused", priority=6),
        _text("TEXT", "text", priority=2),
    ),
    "failures": (
        _id("ID", "id"),
        _number("COUNT", "count", priority=3),
        Column(
            "FIRST",
            lambda row: written.moment(row.get("first_ms"), time.time_ns() // 1_000_000),
            priority=9,
            whole=True,
        ),
        Column(
            "LAST", lambda row: written.moment(row.get("last_ms"), time.time_ns() // 1_000_000), priority=5, whole=True
        ),
        _text("CODE", "code", priority=4),
        _text("WORKER", "definition", priority=6),
        _text("QUEUE", "queue", priority=7),
        _text("TASK", "task", priority=8),
        _text("CAUSE", "message", priority=2),
    ),
    "batches": (
        _id("NAME", "id"),
        _state("tasks"),
        _text("QUEUE", "queue", priority=9),
        _number("TOTAL", "total", priority=4),
        _number("WAIT", "waiting", priority=6),
        _number("RUN", "running", priority=7),
        _number("DONE", "completed", priority=3),
        _number("FAIL", "failed", priority=5),
        _as("/m", "per_min", written.rate, priority=10),
        Column(
            "DONE ABOUT",
            lambda row: written.moment(row.get("eta_ms"), time.time_ns() // 1_000_000),
            priority=8,
            whole=True,
        ),
        _age("AGE", "at_ms", priority=11),
    ),
    "usages": (
        _id("NAME", "name"),
        _number("TASKS", "tasks", priority=3),
        _number("DONE", "completed", priority=4),
        _number("FAIL", "failed", priority=5),
        _number("TURNS", "turns", priority=10),
        _number("TOKENS IN", "tokens_in", priority=9),
        _number("TOKENS OUT", "tokens_out", priority=6),
        _as("USD", "cost_usd", lambda usd: written.NONE if not usd else f"{usd:.4f}", priority=7),
        _as("TIME", "spent_ms", written.span, priority=8),
    ),
    "lessons": (
        _id("ID", "id"),
        _number("V", "version", priority=5),
        _text("TITLE", "title", priority=1),
        Column("FOR", lambda row: clean(_lesson_context(row)) or written.NONE, priority=3),
        Column("SURE", lambda row: f"{row.get('confidence', 0):.0%}", True, priority=4),
        _text("BY", "by", priority=7),
        _age("AGE", "updated_ms", priority=6),
        _text("INSIGHT", "insight", priority=2),
    ),
    "reviews": (
        _id("TASK", "task"),
        _text("SUPERVISOR", "supervisor", priority=3),
        _text("FROM", "level", priority=6),
        _age("DUE", "due_ms", priority=4),
        _number("TRIES", "tries", priority=5),
        _text("NOTE", "note", priority=2),
    ),
    "feedback": (
        _id("TASK", "task"),
        _as("RATING", "rating", _rating, priority=1),
        _text("BY", "by", priority=3),
        _age("AGE", "at_ms", priority=5),
        _text("COMMENTS", "comments", priority=2),
        _text("CORRECTIONS", "corrections", priority=4),
    ),
    "supervisors": (
        _id("NAME", "name"),
        _text("KIND", "kind", priority=3),
        _number("RATED", "rated", priority=6),
        _as("MEAN", "mean", _rating, priority=5),
        _number("DUE", "due", priority=4),
        _text("LOOKS AFTER", "binds", priority=7),
    ),
    "findings": (
        _text("WHAT", "what", below=True),
        _text("STATE", "state", priority=1, whole=True),
        _text("SEEN", "seen", priority=3, below=True),
        _text("FIX", "fix", priority=2, below=True),
    ),
    "settings": (_id("KEY", "key"), _text("VALUE", "value", priority=1), _text("ORIGIN", "origin", priority=3)),
    "actions": (
        _id("ID", "id"),
        _text("KEYS", "keys", priority=1),
        _text("ACTION", "label", priority=2),
        _text("GROUP", "group", priority=3),
    ),
    "outcomes": (
        _id("ID", "id"),
        _state("tasks"),
        Column("TRY", lambda row: str(row.get("attempt", 0)), True, priority=4),
        _number("TOKENS", "tokens_out", priority=3),
        Column("RESULT", lambda row: clean(_outcome(row), 400), priority=2),
    ),
}


def _outcome(row: Mapping[str, Any]) -> str:
    error, result = row.get("error"), row.get("result")
    if error is not None:
        return str(getattr(error, "message", error))
    if isinstance(result, Mapping) and isinstance(result.get("text"), str):
        return str(result["text"]).strip()
    return written.NONE if result is None else str(result)


def columns_of(table: str) -> tuple[Column, ...]:
    """The columns of a table; one without any here shows all fields of its record."""
    if table in COLUMNS:
        return COLUMNS[table]
    from engine.contract.records import TABLES

    fields = TABLES[table].__struct_fields__
    return tuple(_text(name.upper(), name, priority=place, whole=not place) for place, name in enumerate(fields))
