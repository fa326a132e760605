"""The word index behind `text:`: what tasks were asked and what came out, as words. SQL that the journal's thread runs.

Indexing a body costs more than writing it (38 µs for 60 words, where a whole task costs the journal 40), so it is not done with the
task but behind it, in blocks; two marks in `meta` say how far it is. The index keeps no text of its own. Deleted tasks leave their
words behind, which finds nothing and costs only room: when most of the index is such words, it is emptied and built again."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

_TEXT = "substr((SELECT group_concat(atom, ' ') FROM json_tree({}) WHERE type = 'text'), 1, 65536)"
"""The strings inside a body, not its keys. Beyond 64 Ki characters a body is not searched."""
_ASKED = f"SELECT seq, {_TEXT.format('payload')} FROM payloads"
_ANSWERED = (
    f"SELECT records.seq, {_TEXT.format('coalesce(results.result, results.error)')}"
    " FROM records JOIN results ON results.seq = records.task"
)
STALE_LEAST = 10_000


def index(connection: sqlite3.Connection, limit: int) -> None:
    """Bring the next `limit` payloads and the next `limit` results into the index."""
    for table, source, mark, select in (
        ("words_asked", "payloads", "asked_mark", _ASKED),
        ("words_answered", "records", "answered_mark", _ANSWERED),
    ):
        low = mark_of(connection, mark)
        block = f"SELECT max(seq) FROM (SELECT seq FROM {source} WHERE seq > ? ORDER BY seq LIMIT ?)"
        high = connection.execute(block, (low, limit)).fetchone()[0]
        if high is not None:
            where = f"WHERE {source}.seq > ? AND {source}.seq <= ?"
            connection.execute(f"INSERT INTO {table} (rowid, text) {select} {where}", (low, high))
            connection.execute("UPDATE meta SET value = ? WHERE key = ?", (high, mark))


def mark_of(connection: sqlite3.Connection, mark: str) -> int:
    return int(connection.execute("SELECT value FROM meta WHERE key = ?", (mark,)).fetchone()[0])


def put_payloads(connection: sqlite3.Connection, payloads: Sequence[tuple[int, str]]) -> None:
    """Replace payloads, in the index too where they are in it already: it must be told what it forgets."""
    mark = mark_of(connection, "asked_mark")
    for seq, payload in payloads:
        if seq <= mark:
            old = f"SELECT 'delete', seq, {_TEXT.format('payload')} FROM payloads WHERE seq = ?"
            connection.execute(f"INSERT INTO words_asked (words_asked, rowid, text) {old}", (seq,))
        connection.execute("INSERT OR REPLACE INTO payloads (seq, payload) VALUES (?, ?)", (seq, payload))
        if seq <= mark:
            add(connection, seq)


def add(connection: sqlite3.Connection, seq: int) -> None:
    """Bring one payload into the index: of a task that was written after ones with higher numbers."""
    connection.execute(f"INSERT INTO words_asked (rowid, text) {_ASKED} WHERE seq = ?", (seq,))


def forget(connection: sqlite3.Connection, count: int) -> None:
    """So many tasks were deleted."""
    connection.execute("UPDATE meta SET value = value + ? WHERE key = 'words_stale'", (count,))
    stale = mark_of(connection, "words_stale")
    if stale < STALE_LEAST or stale < connection.execute("SELECT sum(n) FROM counters").fetchone()[0]:
        return
    for table in ("words_asked", "words_answered"):
        connection.execute(f"INSERT INTO {table} ({table}) VALUES ('delete-all')")
    connection.execute("UPDATE meta SET value = 0 WHERE key IN ('asked_mark', 'answered_mark', 'words_stale')")


def behind(connection: sqlite3.Connection) -> bool:
    """Whether there is anything that is not in the index yet."""
    row = connection.execute(
        "SELECT coalesce((SELECT max(seq) FROM payloads), 0) > (SELECT value FROM meta WHERE key = 'asked_mark')"
        " OR coalesce((SELECT max(seq) FROM records), 0) > (SELECT value FROM meta WHERE key = 'answered_mark')"
    ).fetchone()
    return bool(row[0])


def match(value: str) -> str:
    """What a value of `text:` means to FTS5: its words one after the other; `*` at its end lets the last word go on."""
    phrase = "".join(character if character.isprintable() and character not in '*?"' else " " for character in value)
    return f'"{phrase}"' + (" *" if value.endswith("*") else "")


FOUND = (
    "seq IN (SELECT rowid FROM words_asked WHERE words_asked MATCH ? UNION ALL"
    " SELECT task FROM records WHERE seq IN (SELECT rowid FROM words_answered WHERE words_answered MATCH ?))"
)
"""Tasks whose payload or any of whose answers match; one `match` for each of the two parameters."""
