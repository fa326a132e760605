"""Columns of the tables about definitions, tools, lessons and settings."""

from __future__ import annotations

import time

from aiwm_tui.cli.columns.cells import Column, age, as_, ident, lesson_context, number, rating, state, text
from aiwm_tui.live import format as written
from aiwm_tui.live.text import clean

DEFINITIONS: dict[str, tuple[Column, ...]] = {
    "workers": (
        ident("NAME", "id"),
        text("KIND", "kind", priority=3),
        text("MODEL", "model", priority=4),
        text("STATUS", "status", priority=1, whole=True),
        Column(
            "CHAT", lambda row: "no" if row.get("interaction") == "stateless_task" else "yes", priority=9, whole=True
        ),
        text("KEY", "key_status", priority=5),
        text("CAN", "capabilities", priority=8),
        text("POOLS", "pools", priority=7),
        Column("DIGEST", lambda row: clean(str(row.get("digest", "")), 12), priority=10, whole=True),
        text("DESCRIPTION", "description", priority=2),
    ),
    "templates": (
        ident("NAME", "id"),
        text("QUEUE", "queue", priority=3),
        text("WORKER", "definition", priority=4),
        text("CAN", "capabilities", priority=7),
        as_("PRIO", "priority", lambda priority: written.NONE if priority is None else str(priority), priority=8),
        text("FIELDS", "fields", priority=5),
        Column("DIGEST", lambda row: clean(str(row.get("digest", "")), 12), priority=9, whole=True),
        text("DESCRIPTION", "description", priority=2),
    ),
    "sources": (
        ident("NAME", "id"),
        state("sources"),
        text("TYPE", "type", priority=3),
        text("PATH", "path", priority=4),
        text("FILTERS", "filters", priority=7),
        text("TARGET", "target", priority=6),
        text("USED BY", "used_by", priority=5),
        text("NOTE", "note", priority=2),
    ),
    "files": (
        ident("PATH", "id"),
        as_("SIZE", "size_bytes", written.size, priority=3),
        Column(
            "CHANGED",
            lambda row: written.moment(row.get("modified_ms"), time.time_ns() // 1_000_000),
            priority=4,
            whole=True,
        ),
        Column("DIGEST", lambda row: clean(str(row.get("digest") or written.NONE), 12), priority=5, whole=True),
    ),
    "tools": (
        ident("NAME", "id"),
        text("MAY", "allowed", priority=1, whole=True),
        text("EFFECT", "effect", priority=4),
        text("GATE", "gate", priority=3),
        text("WHY", "why", priority=2),
    ),
    "keys": (
        ident("NAME", "id"),
        text("STATUS", "status", priority=1, whole=True),
        text("FROM", "method", priority=5),
        text("HOSTS", "hosts", priority=3),
        text("WORKERS", "workers", priority=4),
        text("NOTE", "note", priority=2),
    ),
    "lessons": (
        ident("ID", "id"),
        number("V", "version", priority=5),
        text("TITLE", "title", priority=1),
        Column("FOR", lambda row: clean(lesson_context(row)) or written.NONE, priority=3),
        Column("SURE", lambda row: f"{row.get('confidence', 0):.0%}", True, priority=4),
        text("BY", "by", priority=7),
        age("AGE", "updated_ms", priority=6),
        text("INSIGHT", "insight", priority=2),
    ),
    "reviews": (
        ident("TASK", "task"),
        text("SUPERVISOR", "supervisor", priority=3),
        text("FROM", "level", priority=6),
        age("DUE", "due_ms", priority=4),
        number("TRIES", "tries", priority=5),
        text("NOTE", "note", priority=2),
    ),
    "feedback": (
        ident("TASK", "task"),
        as_("RATING", "rating", rating, priority=1),
        text("BY", "by", priority=3),
        age("AGE", "at_ms", priority=5),
        text("COMMENTS", "comments", priority=2),
        text("CORRECTIONS", "corrections", priority=4),
    ),
    "supervisors": (
        ident("NAME", "name"),
        text("KIND", "kind", priority=3),
        number("RATED", "rated", priority=6),
        as_("MEAN", "mean", rating, priority=5),
        number("DUE", "due", priority=4),
        text("LOOKS AFTER", "binds", priority=7),
    ),
    "findings": (
        text("WHAT", "what", below=True),
        text("STATE", "state", priority=1, whole=True),
        text("SEEN", "seen", priority=3, below=True),
        text("FIX", "fix", priority=2, below=True),
    ),
    "settings": (ident("KEY", "key"), text("VALUE", "value", priority=1), text("ORIGIN", "origin", priority=3)),
    "actions": (
        ident("ID", "id"),
        text("KEYS", "keys", priority=1),
        text("ACTION", "label", priority=2),
        text("GROUP", "group", priority=3),
    ),
}
