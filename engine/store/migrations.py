"""From an older schema to this one: back up, then migrate in one transaction. A newer schema is refused.

sqlite-utils is imported only here and only when there is something to migrate."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.errors import AiwmError, Code
from engine.store import schema

if TYPE_CHECKING:
    from sqlite_utils import Database

Migration = Callable[["Database"], None]

MIGRATIONS: tuple[Migration, ...] = ()
"""`MIGRATIONS[n]` brings version n + 1 to version n + 2; there is one less than there are versions. None may commit: the frame does."""


def prepare(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> Path | None:
    """Bring the file to the current schema; the answer is the backup's path if one was made.

    Raises `schema_newer` for a file of a later version, `config_invalid` for one that is no database or not ours; both untouched."""
    current = len(migrations) + 1
    try:
        have = int(connection.execute("PRAGMA user_version").fetchone()[0])
        ours = int(connection.execute("PRAGMA application_id").fetchone()[0]) == schema.APPLICATION_ID
        empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    except sqlite3.DatabaseError as error:
        raise AiwmError(
            Code.config_invalid, f"{path} cannot be read as a database: {error}", field="home", fix="use another --home"
        ) from error
    if empty and have == 0:
        schema.use_wal(connection)
        schema.create(connection)
        return None
    if not ours:
        raise AiwmError(
            Code.config_invalid, f"{path} is not a database of aiwm", field="home", fix="use another --home"
        )
    if have > current:
        raise AiwmError(
            Code.schema_newer,
            f"{path} has schema {have}, this version knows {current}: it was written by a newer aiwm",
            field="home",
            fix="update aiwm, or use another --home",
        )
    schema.use_wal(connection)
    return _migrate(connection, path, have, migrations) if have < current else None


def _migrate(connection: sqlite3.Connection, path: Path, have: int, migrations: Sequence[Migration]) -> Path:
    from sqlite_utils import Database

    saved = back_up(connection, path.with_name(f"{path.name}.schema-{have}.bak"))
    database = Database(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in migrations[have - 1 :]:
            migration(database)
        connection.execute(f"PRAGMA user_version = {len(migrations) + 1}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return saved


def back_up(connection: sqlite3.Connection, target: Path) -> Path:
    """Copy the whole database to `target` (0600), replacing it at the end only, so that a half copy never has the name."""
    partial = target.with_name(target.name + ".part")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    copy = sqlite3.connect(partial)
    try:
        connection.backup(copy)
    finally:
        copy.close()
    os.replace(partial, target)
    return target
