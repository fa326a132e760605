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
    """`cell` makes the text of a row (a mapping of the record's fields); `right` aligns numbers."""

    title: str
    cell: Callable[[Mapping[str, Any]], str]
    right: bool = False
    state_of: str | None = None


def _text(title: str, field: str) -> Column:
    def cell(row: Mapping[str, Any]) -> str:
        value = row.get(field)
        if isinstance(value, (list, tuple)):
            return clean(",".join(str(part) for part in value)) or written.NONE
        return written.NONE if value is None or value == "" else clean(str(value))

    return Column(title, cell)


def _as(title: str, field: str, write: Callable[[Any], str]) -> Column:
    return Column(title, lambda row: write(row.get(field)), True)


def _number(title: str, field: str) -> Column:
    return _as(title, field, written.count)


def _age(title: str, field: str) -> Column:
    return Column(title, lambda row: written.since(row.get(field), time.time_ns() // 1_000_000), True)


def _state(table: str, field: str = "state", title: str = "STATE") -> Column:
    return _text(title, field)._replace(state_of=table)


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


_COLUMNS: dict[str, tuple[Column, ...]] = {
    "tasks": (
        _text("ID", "id"),
        _state("tasks"),
        _text("QUEUE", "queue"),
        _number("PRIO", "priority"),
        Column("TRY", _try, True),
        _text("WORKER", "definition"),
        _age("AGE", "submitted_ms"),
        Column("TOOK", _took, True),
        _number("TOKENS", "tokens_out"),
        _text("REASON", "reason"),
    ),
    "queues": (
        _text("NAME", "id"),
        _state("queues"),
        _number("WAIT", "waiting"),
        _number("RUN", "running"),
        _number("LATER", "scheduled"),
        _number("RETRY", "retrying"),
        _number("DONE", "completed"),
        _number("FAIL", "failed"),
        _age("HEAD", "head_ms"),
        _as("IN/m", "in_per_min", written.rate),
        _as("OUT/m", "out_per_min", written.rate),
        _text("POOLS", "pools"),
        _text("GATE", "gate"),
    ),
    "pools": (
        _text("NAME", "id"),
        _state("pools"),
        _text("WORKER", "definition"),
        _number("BUSY", "busy"),
        _number("IDLE", "idle"),
        _number("START", "starting"),
        _number("MIN", "min_idle"),
        _number("MAX", "max_total"),
        _number("WAIT", "waiting"),
        _text("QUEUES", "queues"),
        _text("HELD BY", "held_by"),
    ),
    "instances": (
        _text("ID", "id"),
        _state("instances"),
        _text("POOL", "pool"),
        _text("WORKER", "definition"),
        _text("TASK", "task"),
        _age("FOR", "since_ms"),
        Column("DONE", _done, True),
        _number("FAIL", "failed"),
        Column("CONTEXT", _context, True),
        _number("TOKENS", "tokens"),
        _age("AGE", "spawned_ms"),
        Column("NEXT OR LAST ERROR", _trouble),
    ),
    "retired": (
        _text("ID", "id"),
        _state("retired"),
        _text("POOL", "pool"),
        _text("WORKER", "definition"),
        _number("DONE", "done"),
        _number("FAIL", "failed"),
        _number("IN", "tokens_in"),
        _number("OUT", "tokens_out"),
        _age("GONE", "retired_ms"),
        _text("REASON", "reason"),
    ),
    "records": (
        _text("TASK", "task"),
        _state("tasks"),
        _text("QUEUE", "queue"),
        _text("WORKER", "definition"),
        _text("ON", "instance"),
        _as("TOOK", "duration_ms", written.span),
        _number("IN", "tokens_in"),
        _number("OUT", "tokens_out"),
        _as("COST $", "cost_usd", _dollars),
        _as("RATED", "rating", _share),
        _age("ENDED", "ended_ms"),
        _text("SUMMARY", "summary"),
    ),
    "summaries": (
        _text("NAME", "id"),
        _number("TASKS", "attempted"),
        _number("DONE", "completed"),
        _number("FAIL", "failed"),
        _as("RATE", "rate", _share),
        _as("MEAN", "mean_ms", written.span),
        _number("IN", "tokens_in"),
        _number("OUT", "tokens_out"),
        _as("COST $", "cost_usd", _dollars),
        _as("QUALITY", "quality", _share),
        _number("TURNS", "turns"),
        _number("SPAWNED", "spawned"),
        _number("ACTIVE", "active"),
        _age("LAST", "last_ms"),
    ),
    "limits": (
        _text("NAME", "id"),
        _state("limits"),
        Column("CALLS/min", lambda row: _used(row, "requests_per_minute"), True),
        Column("TOKENS/min", lambda row: _used(row, "tokens_per_minute"), True),
        Column("TOKENS/day", lambda row: _used(row, "tokens_per_day"), True),
        Column("INSTANCES", lambda row: _used(row, "instances"), True),
        _number("WAIT", "waiting"),
        Column("NEXT", _next),
        _text("WHY", "why"),
    ),
    "models": (
        _text("ID", "id"),
        _state("models"),
        _text("BACKEND", "backend"),
        _text("WHERE", "where"),
        _number("RUN", "running"),
        _number("WAIT", "waiting"),
        _number("SLOTS", "slots"),
        _as("TOK/s", "tokens_per_s", written.rate),
        _as("WEIGHTS", "weights_bytes", written.size),
        _as("KV", "kv_bytes", written.size),
        _as("RSS", "rss_bytes", written.size),
        _as("PLANNED", "estimate_bytes", lambda count: written.size(count) if count else written.NONE),
        Column("KEEP", _keep),
        _number("RESTARTS", "restarts"),
        _as("PID", "pid", lambda pid: written.NONE if pid is None else str(pid)),
        _text("NOTE", "note"),
    ),
    "adapters": (
        _text("NAME", "id"),
        _state("adapters"),
        Column("CUR", lambda row: "cur" if row.get("current") else ""),
        _text("BASE", "base"),
        _number("RANK", "rank"),
        _as("SIZE", "size_bytes", written.size),
        _number("IN USE", "in_use"),
        _number("USED 1h", "uses"),
        Column("HIT 1h", lambda row: _hit_rate(row), True),
        _number("EVICT", "evictions"),
        _as("LOAD", "load_ms", _milliseconds),
        _number("TASKS 24h", "tasks"),
        _as("OK 24h", "ok", _share),
        _text("DIGEST", "digest")._replace(cell=lambda row: str(row.get("digest") or "")[:6] or written.NONE),
        _text("USED BY", "used_by"),
        _text("NOTE", "note"),
    ),
    "versions": (
        Column("VER", lambda row: f"v{row.get('version')}"),
        _state("adapters"),
        Column("CUR", lambda row: "cur" if row.get("current") else ""),
        _as("MADE", "made_ms", lambda ms: written.moment(ms, time.time_ns() // 1_000_000)),
        _text("BY", "by"),
        _text("PARENT", "parent"),
        _number("TASKS", "tasks"),
        _as("OK", "ok", _share),
        _as("TOK OUT p50", "tokens_out_p50", lambda value: written.count(None if value is None else int(value))),
        _text("DIGEST", "digest")._replace(cell=lambda row: str(row.get("digest") or "")[:6] or written.NONE),
        _text("RUNNING", "running"),
        _text("PINNED BY", "pinned"),
        _text("NOTE", "note"),
    ),
    "prefetched": (
        _text("NAME", "name"),
        _text("MODEL", "model"),
        Column("READY", lambda row: "yes" if row.get("ready") else "no room"),
    ),
    "evicted": (
        _text("NAME", "name"),
        Column(
            "EVICTED", lambda row: "yes" if row.get("evicted") else "in use" if row.get("in_use") else "was not there"
        ),
    ),
    "caches": (
        _text("PROCESS", "id"),
        Column("SLOTS", lambda row: f"{row.get('entries')}/{row.get('max_entries')}", True),
        Column("SIZE", lambda row: f"{written.size(row.get('bytes'))}/{written.size(row.get('max_bytes'))}", True),
        _as("STAGED", "staged_bytes", written.size),
        _number("HITS", "hits"),
        _number("MISSES", "misses"),
        _as("HIT", "hit_rate", _share),
        _as("PREFETCH", "prefetch_rate", _share),
        _number("WASTED", "wasted"),
        _number("EVICTED", "evictions"),
        _number("1h", "evictions_1h"),
        _number("REFUSED", "refusals"),
        _as("LOAD", "load_ms_mean", _milliseconds),
        _as("p95", "load_ms_p95", _milliseconds),
    ),
    "devices": (
        _text("ID", "id"),
        _text("NAME", "name"),
        _as("TOTAL", "total_bytes", written.size),
        _as("FREE", "free_bytes", written.size),
        _as("WEIGHTS", "weights_bytes", written.size),
        _as("KV", "kv_bytes", written.size),
        _as("ADAPTERS", "adapters_bytes", written.size),
        _as("NOT OURS", "others_bytes", written.size),
        _as("UTIL", "utilisation", lambda share: written.NONE if share is None else f"{share:.0f}%"),
        _as("TEMP", "temperature_c", lambda value: written.NONE if value is None else f"{value:.0f}°C"),
        _as("POWER", "power_w", lambda value: written.NONE if value is None else f"{value:.0f}W"),
        _text("NOTE", "note"),
        _text("OTHERS", "others"),
    ),
    "metrics": (
        _text("PROCESS", "process_id"),
        _state("models", "status", "STATUS"),
        _as("LOAD", "current_load", lambda share: f"{share:.0f}%"),
        _number("QUEUE", "queue_depth"),
        _as("LATENCY", "average_latency_ms", lambda value: f"{value:.0f}ms"),
        _as("HITS", "layer_cache_hit_rate", _share),
        _number("SERVED", "total_requests"),
        _as("TOK/s", "tokens_per_second", written.rate),
        _as("RSS", "memory_bytes", written.size),
        _number("RESTARTS", "restarts"),
    ),
    "logs": (
        _text("NAME", "id"),
        _as("SIZE", "size_bytes", written.size),
        _age("CHANGED", "changed_ms"),
        _number("LIVES", "lives"),
    ),
    "verdicts": (
        _text("NAME", "name"),
        Column("KIND", lambda row: clean(f"{row.get('kind')} {row.get('quant')}").strip()),
        _text("STATE", "state"),
        _as("NEEDS", "needs_bytes", lambda count: written.size(count) if count else written.NONE),
        _text("FITS", "fits"),
        _text("RUNS WITH", "runs_with"),
        _text("TEMPLATE", "template"),
        _text("KNOWN AS", "known_as"),
        _text("WHY", "why"),
    ),
    "workers": (
        _text("NAME", "id"),
        _text("KIND", "kind"),
        _text("MODEL", "model"),
        _text("STATUS", "status"),
        Column("CHAT", lambda row: "no" if row.get("interaction") == "stateless_task" else "yes"),
        _text("KEY", "key_status"),
        _text("CAN", "capabilities"),
        _text("POOLS", "pools"),
        Column("DIGEST", lambda row: clean(str(row.get("digest", "")), 12)),
        _text("DESCRIPTION", "description"),
    ),
    "templates": (
        _text("NAME", "id"),
        _text("QUEUE", "queue"),
        _text("WORKER", "definition"),
        _text("CAN", "capabilities"),
        _as("PRIO", "priority", lambda priority: written.NONE if priority is None else str(priority)),
        _text("FIELDS", "fields"),
        Column("DIGEST", lambda row: clean(str(row.get("digest", "")), 12)),
        _text("DESCRIPTION", "description"),
    ),
    "sources": (
        _text("NAME", "id"),
        _state("sources"),
        _text("TYPE", "type"),
        _text("PATH", "path"),
        _text("FILTERS", "filters"),
        _text("TARGET", "target"),
        _text("USED BY", "used_by"),
        _text("NOTE", "note"),
    ),
    "files": (
        _text("PATH", "id"),
        _as("SIZE", "size_bytes", written.size),
        Column("CHANGED", lambda row: written.moment(row.get("modified_ms"), time.time_ns() // 1_000_000)),
        Column("DIGEST", lambda row: clean(str(row.get("digest") or written.NONE), 12)),
    ),
    "tools": (
        _text("NAME", "id"),
        _text("MAY", "allowed"),
        _text("EFFECT", "effect"),
        _text("GATE", "gate"),
        _text("WHY", "why"),
    ),
    "keys": (
        _text("NAME", "id"),
        _text("STATUS", "status"),
        _text("FROM", "method"),
        _text("HOSTS", "hosts"),
        _text("WORKERS", "workers"),
        _text("NOTE", "note"),
    ),
    "approvals": (
        _text("ID", "id"),
        _text("STATE", "state"),
        _text("REQUEST", "method"),
        Column("WITH", lambda row: clean(cut(msgspec.json.encode(row.get("params") or {}).decode(), 60))),
        _text("BY", "by"),
        _age("AGE", "asked_ms"),
        _text("WHY", "why"),
    ),
    "steps": (
        Column("AT", lambda row: written.moment(row.get("at_ms"), time.time_ns() // 1_000_000)),
        Column("STEP", lambda row: {1: "+1", -1: "-1"}.get(row.get("change", 0), "failed"), True),
        _text("INSTANCE", "instance"),
        _number("TOTAL", "total"),
        _number("IDLE", "idle"),
        _number("BUSY", "busy"),
        _number("WAIT", "waiting"),
        _text("REASON", "reason"),
    ),
    "events": (
        _text("ID", "id"),
        Column("AT", lambda row: written.moment(row.get("at_ms"), time.time_ns() // 1_000_000)),
        _state("events", "level", "LEVEL"),
        _text("TYPE", "type"),
        _text("WHO", "who"),
        _text("ABOUT", "about"),
        _text("TEXT", "text"),
    ),
    "needs": (
        _age("SINCE", "since_ms"),
        _state("needs"),
        _text("WHAT", "what"),
        _text("WHY", "why"),
        _text("PRESS", "press"),
    ),
    "operations": (
        _text("ID", "id"),
        _text("STATE", "state"),
        _text("REQUEST", "request"),
        _text("BY", "by"),
        Column("AT", lambda row: written.moment(row.get("at_ms"), time.time_ns() // 1_000_000)),
        Column("DUE", lambda row: written.moment(row.get("due_ms"), time.time_ns() // 1_000_000)),
        _number("COUNT", "count"),
        _number("DONE", "done"),
        _number("REFUSED", "refused"),
        _text("TEXT", "text"),
    ),
    "failures": (
        _text("ID", "id"),
        _number("COUNT", "count"),
        Column("FIRST", lambda row: written.moment(row.get("first_ms"), time.time_ns() // 1_000_000)),
        Column("LAST", lambda row: written.moment(row.get("last_ms"), time.time_ns() // 1_000_000)),
        _text("CODE", "code"),
        _text("WORKER", "definition"),
        _text("QUEUE", "queue"),
        _text("TASK", "task"),
        _text("CAUSE", "message"),
    ),
    "batches": (
        _text("NAME", "id"),
        _state("tasks"),
        _text("QUEUE", "queue"),
        _number("TOTAL", "total"),
        _number("WAIT", "waiting"),
        _number("RUN", "running"),
        _number("DONE", "completed"),
        _number("FAIL", "failed"),
        _as("/m", "per_min", written.rate),
        Column("DONE ABOUT", lambda row: written.moment(row.get("eta_ms"), time.time_ns() // 1_000_000)),
        _age("AGE", "at_ms"),
    ),
    "usages": (
        _text("NAME", "name"),
        _number("TASKS", "tasks"),
        _number("DONE", "completed"),
        _number("FAIL", "failed"),
        _number("TURNS", "turns"),
        _number("TOKENS IN", "tokens_in"),
        _number("TOKENS OUT", "tokens_out"),
        _as("USD", "cost_usd", lambda usd: written.NONE if not usd else f"{usd:.4f}"),
        _as("TIME", "spent_ms", written.span),
    ),
    "lessons": (
        _text("ID", "id"),
        _number("V", "version"),
        _text("TITLE", "title"),
        Column("FOR", lambda row: clean(_lesson_context(row)) or written.NONE),
        Column("SURE", lambda row: f"{row.get('confidence', 0):.0%}", True),
        _text("BY", "by"),
        _age("AGE", "updated_ms"),
        _text("INSIGHT", "insight"),
    ),
    "reviews": (
        _text("TASK", "task"),
        _text("SUPERVISOR", "supervisor"),
        _text("FROM", "level"),
        _age("DUE", "due_ms"),
        _number("TRIES", "tries"),
        _text("NOTE", "note"),
    ),
    "feedback": (
        _text("TASK", "task"),
        _as("RATING", "rating", _rating),
        _text("BY", "by"),
        _age("AGE", "at_ms"),
        _text("COMMENTS", "comments"),
        _text("CORRECTIONS", "corrections"),
    ),
    "supervisors": (
        _text("NAME", "name"),
        _text("KIND", "kind"),
        _number("RATED", "rated"),
        _as("MEAN", "mean", _rating),
        _number("DUE", "due"),
        _text("LOOKS AFTER", "binds"),
    ),
    "findings": (
        _text("WHAT", "what"),
        _text("STATE", "state"),
        _text("SEEN", "seen"),
        _text("FIX", "fix"),
    ),
    "settings": (_text("KEY", "key"), _text("VALUE", "value"), _text("ORIGIN", "origin")),
    "outcomes": (
        _text("ID", "id"),
        _state("tasks"),
        Column("TRY", lambda row: str(row.get("attempt", 0)), True),
        _number("TOKENS", "tokens_out"),
        Column("RESULT", lambda row: clean(_outcome(row), 400)),
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
    """The columns of a table; a table without columns of its own shows all fields of its record."""
    if table in _COLUMNS:
        return _COLUMNS[table]
    from engine.contract.records import TABLES

    return tuple(_text(name.upper(), name) for name in TABLES[table].__struct_fields__)
