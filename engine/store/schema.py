"""The schema, and how a connection to it is opened.

A fresh file is made by the plain SQL below: that takes 2 ms, where importing sqlite-utils alone takes 190. Changing an existing file
is `migrations`' business, which sqlite-utils does well."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from engine.contract.states import TaskState

APPLICATION_ID = 0x6169776D
"""`aiwm` in ASCII: says that a file is ours before anything in it is touched."""

SCHEMA_VERSION = 1


ID_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
ID_OFFSET = 32**4
ID_WIDTHS = range(5, 9)
"""How task ids are spelled (`contract.ids`), and the widths that can be expected to occur."""


def id_sql(column: str) -> str:
    """A task's id as an SQL expression over its number: the same spelling as `contract.ids.task_id`, for numbers below 32^8."""
    value = f"({column}+{ID_OFFSET})"
    digits = "||".join(f"substr('{ID_DIGITS}',(({value}>>{shift})&31)+1,1)" for shift in range(35, -1, -5))
    return f"'t-'||ltrim({digits},'0')"


_STATES = ",".join(f"'{state.value}'" for state in TaskState)

SCHEMA = f"""
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE tasks (
  seq INTEGER PRIMARY KEY,
  queue TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ({_STATES})),
  priority INTEGER NOT NULL,
  rank INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  criteria TEXT NOT NULL,
  wanted TEXT,
  capabilities TEXT NOT NULL,
  "by" TEXT NOT NULL,
  batch TEXT,
  idempotency_key TEXT,
  durability TEXT NOT NULL,
  on_crash TEXT NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL,
  epoch INTEGER NOT NULL DEFAULT 0,
  crashes INTEGER NOT NULL DEFAULT 0,
  submitted_ms INTEGER NOT NULL,
  due_ms INTEGER,
  deadline_ms INTEGER,
  started_ms INTEGER,
  ended_ms INTEGER,
  definition TEXT,
  pool TEXT,
  instance TEXT,
  tokens_in INTEGER,
  tokens_out INTEGER,
  error TEXT,
  reason TEXT NOT NULL DEFAULT '',
  blocked INTEGER NOT NULL DEFAULT 0,
  spent_ms INTEGER,
  cost_usd REAL,
  adapter TEXT,
  fail TEXT,
  template TEXT,
  supervisor TEXT,
  sources TEXT,
  metadata TEXT,
  parent INTEGER
);
CREATE INDEX tasks_ready ON tasks (queue, tenant, criteria, rank) WHERE state = 'pending' AND blocked = 0;
CREATE INDEX tasks_due ON tasks (due_ms) WHERE state IN ('scheduled', 'retrying') AND blocked = 0;
CREATE INDEX tasks_blocked ON tasks (seq) WHERE blocked > 0;
CREATE INDEX tasks_batch ON tasks (batch, state) WHERE batch IS NOT NULL;
CREATE INDEX tasks_parent ON tasks (parent) WHERE parent IS NOT NULL;
CREATE INDEX tasks_deadline ON tasks (deadline_ms) WHERE deadline_ms IS NOT NULL AND ended_ms IS NULL;
CREATE INDEX tasks_memory ON tasks (durability) WHERE durability = 'memory' AND ended_ms IS NULL;
CREATE INDEX tasks_failed ON tasks (ended_ms) WHERE state = 'failed';
CREATE INDEX tasks_state ON tasks (queue, state);
CREATE INDEX tasks_ended ON tasks (ended_ms);
CREATE UNIQUE INDEX tasks_key ON tasks (queue, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE VIEW tasks_by_id AS SELECT {id_sql("seq")} AS id, * FROM tasks;

CREATE TABLE dependencies (
  task INTEGER NOT NULL,
  after INTEGER NOT NULL,
  PRIMARY KEY (task, after)
) WITHOUT ROWID;
CREATE INDEX dependencies_after ON dependencies (after);

CREATE TABLE payloads (
  seq INTEGER PRIMARY KEY,
  payload TEXT NOT NULL CHECK (json_valid(payload))
);
CREATE VIRTUAL TABLE words_asked USING fts5(text, content='');
CREATE VIRTUAL TABLE words_answered USING fts5(text, content='');
CREATE TABLE results (
  seq INTEGER PRIMARY KEY,
  result TEXT CHECK (result IS NULL OR json_valid(result)),
  error TEXT CHECK (error IS NULL OR json_valid(error)),
  prompt TEXT
);

CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  level TEXT NOT NULL,
  type TEXT NOT NULL,
  who TEXT NOT NULL,
  about TEXT NOT NULL,
  text TEXT NOT NULL,
  task INTEGER,
  correlation TEXT,
  causation TEXT
);
CREATE INDEX events_task ON events (task) WHERE task IS NOT NULL;
CREATE INDEX events_correlation ON events (correlation) WHERE correlation IS NOT NULL;
CREATE INDEX events_level ON events (level) WHERE level <> 'info' AND level <> 'debug';

CREATE TABLE records (
  seq INTEGER PRIMARY KEY,
  task INTEGER NOT NULL,
  state TEXT NOT NULL,
  ended_ms INTEGER NOT NULL,
  started_ms INTEGER,
  attempt INTEGER NOT NULL,
  queue TEXT NOT NULL,
  pool TEXT,
  definition TEXT,
  instance TEXT,
  "by" TEXT NOT NULL,
  summary TEXT NOT NULL,
  spent_ms INTEGER,
  tokens_in INTEGER,
  tokens_out INTEGER,
  cost_usd REAL,
  error TEXT,
  fail TEXT,
  batch TEXT,
  template TEXT,
  adapter TEXT,
  model TEXT,
  finish_reason TEXT,
  calls INTEGER,
  input_chars INTEGER,
  reflection TEXT,
  rating REAL,
  comments TEXT,
  duration_ms INTEGER AS (ended_ms - started_ms) VIRTUAL
);
CREATE INDEX records_task ON records (task);
CREATE INDEX records_state ON records (state) WHERE state <> 'completed';
CREATE INDEX records_adapter ON records (ended_ms, adapter, state, tokens_out) WHERE adapter IS NOT NULL;
CREATE INDEX records_rated ON records (definition, pool, queue, rating) WHERE rating IS NOT NULL;

CREATE TABLE definitions (
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  json TEXT NOT NULL CHECK (json_valid(json)),
  digest TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (kind, name)
) WITHOUT ROWID;

CREATE TABLE counters (
  queue TEXT NOT NULL,
  state TEXT NOT NULL,
  n INTEGER NOT NULL,
  PRIMARY KEY (queue, state)
) WITHOUT ROWID;
CREATE TABLE event_counters (
  level TEXT PRIMARY KEY,
  n INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE record_counters (
  state TEXT PRIMARY KEY,
  n INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE documents (
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  ref TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  json TEXT NOT NULL CHECK (json_valid(json)),
  PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX documents_ref ON documents (kind, ref, at_ms);
CREATE INDEX documents_at ON documents (kind, at_ms);

CREATE TABLE samples (
  series TEXT NOT NULL,
  step_ms INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  value REAL NOT NULL,
  PRIMARY KEY (series, step_ms, at_ms)
) WITHOUT ROWID;

INSERT INTO meta VALUES
  ('epoch', 0), ('task_high', 0), ('probe', 0), ('asked_mark', 0), ('answered_mark', 0), ('words_stale', 0);
"""
# What few tasks have stands behind what all have: a column that is NULL costs a byte. A task's tokens, cost and spent_ms (how long
# earlier attempts ran) are sums over its attempts; its record takes them over when it ends, so that the sums of records are what was
# really used. Every index ends in the row's number by itself. Bodies (payloads, results) are tables of their own: a task's row is
# rewritten at every step and scanned by views, and must stay small. The id is an expression of the view `tasks_by_id`, for people: as
# a generated column it would cost 1 µs at every write of a row. There is no index on submitted_ms: a task's number is its order of
# submission.


def connect(path: Path) -> sqlite3.Connection:
    """The writer's connection: autocommit mode (transactions are explicit), usable from the journal's thread, WAL."""
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute("PRAGMA busy_timeout = 10000")
    return connection


def read_uri(path: Path) -> str:
    """The URI by which readers open the file: they cannot write."""
    return f"file:{quote(str(path))}?mode=ro"


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection for point reads inside the event loop."""
    connection = sqlite3.connect(read_uri(path), uri=True, isolation_level=None, cached_statements=256)
    connection.execute("PRAGMA busy_timeout = 2000")
    return connection


def use_wal(connection: sqlite3.Connection) -> None:
    """WAL with a checkpoint every 16 MB of log: rarer ones make the tail of commits longer, more frequent ones the middle."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA journal_size_limit = 67108864")


def create(connection: sqlite3.Connection) -> None:
    """Make the schema in an empty file, in one transaction."""
    connection.executescript(
        f"BEGIN IMMEDIATE;{SCHEMA}PRAGMA application_id = {APPLICATION_ID};PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
    )
