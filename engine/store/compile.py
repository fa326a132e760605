"""The terms of a location as SQL conditions with parameters. Says the same as `contract.query.matches`, row by row: a test proves it.

No Python function is called from SQL: each call would fight the event loop for the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from engine.contract.errors import AiwmError
from engine.contract.fields import FAULT_STATES, NAMES, SEARCHED, Kind, field_of
from engine.contract.ids import task_id, task_seq
from engine.contract.query import Op, Term, compare_op, fold, is_glob, is_name, operand
from engine.contract.records import Record
from engine.store import rows, words
from engine.store.schema import ID_DIGITS, ID_OFFSET, ID_WIDTHS, id_sql

_TOKENS = "coalesce(tokens_in + tokens_out, tokens_in, tokens_out)"


class Table(msgspec.Struct, frozen=True):
    """How a table of the contract is stored. `expressions` are attributes that are not simply columns, `numbers` those that are the
    row's (or a task's) number in disguise: equality on them is equality of numbers. `ordered` are the indexed sort keys;
    `groups` the fields by which rows are counted, `counters` the table of these counts, `group_index` the index on them and what it
    leaves out. `make` makes a record of a row."""

    name: str
    columns: str
    expressions: dict[str, str]
    numbers: dict[str, str]
    ordered: dict[str, str]
    groups: tuple[str, ...]
    group_index: tuple[str, tuple[str, ...]]
    counters: str
    make: Callable[[Any], Record]


TASKS = Table(
    name="tasks",
    columns=rows.TASK_ROW_COLUMNS,
    groups=("queue", "state"),
    group_index=("tasks_state", ()),
    expressions={"id": id_sql("seq"), "by": '"by"', "after": "blocked", "tokens": _TOKENS},
    numbers={"id": "seq"},
    ordered={"id": "seq", "submitted_ms": "seq", "ended_ms": "ended_ms"},
    counters="counters",
    make=rows.task_row,
)
EVENTS = Table(
    name="events",
    columns=rows.EVENT_COLUMNS,
    groups=("level",),
    group_index=("events_level", ("info", "debug")),
    expressions={"id": "CAST(seq AS TEXT)", "task": f"CASE WHEN task IS NULL THEN '' ELSE {id_sql('task')} END"},
    numbers={"id": "seq", "task": "task"},
    ordered={"id": "seq", "at_ms": "seq"},
    counters="event_counters",
    make=rows.event_row,
)
RECORDS = Table(
    name="records",
    columns=rows.RECORD_COLUMNS,
    groups=("state",),
    group_index=("records_state", ("completed",)),
    expressions={
        "id": "CAST(seq AS TEXT)",
        "task": id_sql("task"),
        "by": '"by"',
        "tokens": _TOKENS,
        "success": "CASE state WHEN 'completed' THEN 'true' ELSE 'false' END",
    },
    numbers={"id": "seq", "task": "task"},
    ordered={"id": "seq", "ended_ms": "seq"},
    counters="record_counters",
    make=rows.record_row,
)
TABLES = {"tasks": TASKS, "events": EVENTS, "records": RECORDS}


def _is_number(table: Table, attribute: str) -> bool:
    """Whether an attribute is a number as it is, not a task's number spelled as an id."""
    return table is not TASKS and attribute == "id"


class Condition(msgspec.Struct, frozen=True):
    """An SQL expression that is true, false or null, and its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()


NEVER = Condition("seq < 0")
"""Holds for no row. Not the constant 0, for which SQLite makes no plan when an index is prescribed."""


def conjunction(conditions: Iterable[Condition]) -> Condition:
    """All of them; true when there are none."""
    found = list(conditions)
    return Condition(
        " AND ".join(f"({condition.sql})" for condition in found) or "1",
        tuple(value for condition in found for value in condition.parameters),
    )


def _any(conditions: Sequence[Condition]) -> Condition:
    return Condition(
        " OR ".join(condition.sql for condition in conditions) or NEVER.sql,
        tuple(value for condition in conditions for value in condition.parameters),
    )


def compile_term(table: Table, term: Term, now_ms: int) -> Condition:
    """One term. A negated one holds for rows that the term does not hold for, those with no value included."""
    condition = _positive(table, term, now_ms)
    return Condition(f"({condition.sql}) IS NOT TRUE", condition.parameters) if term.negated else condition


def _positive(table: Table, term: Term, now_ms: int) -> Condition:
    if term.op is Op.word:
        word = fold(term.values[0])
        found = [_contains(table, name, word) for name in SEARCHED[table.name] if name not in table.numbers]
        return _any(
            [*found, *(_id_contains(table, name, word) for name in SEARCHED[table.name] if name in table.numbers)]
        )
    if term.field == "is":
        states = sorted(FAULT_STATES[table.name])
        return Condition(f"{table.groups[-1]} IN ({','.join('?' * len(states))})", tuple(states))
    assert term.field is not None
    field = field_of(table.name, term.field)
    if field.kind is Kind.chain:
        return _chain(term.values)
    if field.kind is Kind.words:
        return _any([Condition(words.FOUND, (words.match(value),) * 2) for value in term.values])
    if field.kind is Kind.text:
        return _any([_text_condition(table, field.attribute, value) for value in term.values])
    sign = compare_op(field, term.op).value.replace(":", "=")
    column = _column(table, field.attribute)
    return _any([Condition(f"{column} {sign} ?", (operand(field, value, now_ms),)) for value in term.values])


# Of a task: its events, those of tasks that it started, and of each operation that touched it what is about no single task. Each part
# is a range of an index, and the rows are then found by their numbers.
_OF_TASK = """
SELECT seq FROM events WHERE task = :task
UNION ALL SELECT events.seq FROM tasks CROSS JOIN events ON events.task = tasks.seq WHERE tasks.parent = :task
UNION ALL SELECT seq FROM events WHERE task IS NULL AND correlation IN
  (SELECT correlation FROM events WHERE task = :task AND correlation IS NOT NULL)
"""
_OF_CORRELATION = "SELECT seq FROM events WHERE correlation = ?"


def _chain(values: Sequence[str]) -> Condition:
    """Events that belong to tasks, operations or requests."""
    parts: list[Condition] = []
    for value in values:
        try:
            number = task_seq(fold(value))
        except AiwmError:
            parts.append(Condition(_OF_CORRELATION, (fold(value),)))
        else:
            # The number is ours, not text: it may stand in the statement.
            parts.append(Condition(_OF_TASK.replace(":task", str(number))))
    found = " UNION ALL ".join(part.sql for part in parts)
    return Condition(f"seq IN ({found})", tuple(value for part in parts for value in part.parameters))


def _column(table: Table, attribute: str) -> str:
    return table.expressions.get(attribute, attribute)


def _contains(table: Table, attribute: str, word: str) -> Condition:
    escaped = "".join("!" + character if character in "%_!" else character for character in word)
    return Condition(f"{_column(table, attribute)} LIKE ? ESCAPE '!'", (f"%{escaped}%",))


def _id_contains(table: Table, attribute: str, word: str) -> Condition:
    """Spelling out the id of every row is dear: only words that could be in one are looked for, and beginnings are ranges."""
    if _is_number(table, attribute):
        return _contains(table, attribute, word) if word.isdigit() else NEVER
    if word.startswith("t-"):
        return _id_begins(table.numbers[attribute], word[2:])
    if any(character not in ID_DIGITS and character not in "t-" for character in word):
        return NEVER
    return _contains(table, attribute, word)


def _id_begins(column: str, body: str) -> Condition:
    """Numbers whose id begins with `t-` and `body`."""
    if any(character not in ID_DIGITS for character in body):
        return NEVER
    ranges: list[Condition] = []
    for width in ID_WIDTHS:
        free = 32 ** (width - len(body)) if width >= len(body) else 0
        low = sum(ID_DIGITS.index(character) * 32**place for place, character in enumerate(reversed(body))) * free
        # An id of this width begins with another digit than 0.
        first, last = max(low, 32 ** (width - 1)), min(low + free, 32**width) - 1
        if first <= last:
            ranges.append(Condition(f"{column} BETWEEN ? AND ?", (first - ID_OFFSET, last - ID_OFFSET)))
    return _any(ranges)


def _text_condition(table: Table, attribute: str, value: str) -> Condition:
    pattern, column = fold(value), _column(table, attribute)
    if is_glob(pattern):
        if (
            table.numbers.get(attribute)
            and pattern.startswith("t-")
            and pattern.endswith("*")
            and not is_glob(pattern[:-1])
        ):
            return _id_begins(table.numbers[attribute], pattern[2:-1])
        return Condition(f"lower(coalesce({column}, '')) GLOB ?", (pattern.replace("[", "[[]"),))
    if not pattern:
        return Condition(f"coalesce({column}, '') = ''")
    if attribute in NAMES.get(table.name, ()) and is_name(pattern):
        names = f"',' || lower({column}) || ','"
        return Condition(f"instr({names}, ?) OR instr({names}, ?)", (f",{pattern},", f",{pattern}@"))
    if attribute in table.numbers:
        number = _number(table, attribute, pattern)
        return NEVER if number is None else Condition(f"{table.numbers[attribute]} = ?", (number,))
    return Condition(f"{column} = ? COLLATE NOCASE", (pattern,))


def _number(table: Table, attribute: str, text: str) -> int | None:
    """The number behind an id; None when no row can have it."""
    if _is_number(table, attribute):
        return int(text) if text.isascii() and text.isdigit() and text[0] != "0" and len(text) < 19 else None
    try:
        number = task_seq(text)
    except AiwmError:
        return None
    return number if task_id(number) == text else None
