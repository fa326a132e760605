"""The location string and the filter language: `:tasks state:failed queue:etl !batch:b-* age>5m sort:-age`.

One parser, one evaluator over records; the store compiles the same terms to SQL. A location names a table, perhaps one item
(`:tasks/t-4hq7x`), a filter and a sort order, and is all the state that a screen has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.fields import FAULT_STATES, NAMES, SEARCHED, Field, Kind, field_of, fields_of

DEFAULT_SORT: dict[str, tuple[str, ...]] = {
    "tasks": ("-submitted",),
    "events": ("-id",),
    "records": ("-id",),
    "retired": ("-retired",),
    "needs": ("rank", "since"),
    "approvals": ("-asked",),
    "operations": ("-at",),
    "failures": ("-last",),
    "batches": ("-at",),
    "logs": ("-changed",),
}

NUMBERED: dict[str, frozenset[str]] = {
    "tasks": frozenset({"id", "submitted_ms"}),
    "events": frozenset({"id", "at_ms"}),
    "records": frozenset({"id", "ended_ms"}),
}
"""Tables whose rows are numbered in the order in which they came: sorting by one of these attributes is sorting by number, whatever
the clock did, and ties of other keys follow the first key's direction, so that one index serves a sort order and its reverse."""


AROUND = 20
"""So many rows on each side of a match can be asked for with `around:`."""

_OF_THE_STORE = frozenset({Kind.words, Kind.chain})
"""Kinds of fields that no record carries."""

WITH_AROUND = frozenset({"events", "logs"})
"""Tables whose rows have neighbours: they came one after the other."""


class Op(StrEnum):
    any_of = ":"
    more = ">"
    less = "<"
    at_least = ">="
    at_most = "<="
    word = "word"


class Term(msgspec.Struct, frozen=True):
    """One condition. `values` are as typed; several are alternatives. `start` is where the token begins in the text, for error marks."""

    op: Op
    values: tuple[str, ...]
    field: str | None = None
    negated: bool = False
    start: int = 0

    def text(self) -> str:
        bang = "!" if self.negated else ""
        if self.op is Op.word:
            word = self.values[0]
            return bang + (f'"{word}"' if word.startswith("!") or _TERM.match(word) else _quote(word))
        return f"{bang}{self.field}{self.op.value}{','.join(_quote(value) for value in self.values)}"


class SortKey(msgspec.Struct, frozen=True):
    field: str
    descending: bool = False

    def text(self) -> str:
        return ("-" if self.descending else "") + self.field


class Location(msgspec.Struct, frozen=True):
    """A parsed location. `str(location)` is its normal form, which parses to the same location."""

    table: str
    item: str | None = None
    terms: tuple[Term, ...] = ()
    sort: tuple[SortKey, ...] = ()

    def __str__(self) -> str:
        parts = [f":{self.table}" + (f"/{self.item}" if self.item else "")]
        parts += [term.text() for term in self.terms]
        if self.sort:
            parts.append("sort:" + ",".join(key.text() for key in self.sort))
        return " ".join(parts)

    def conditions(self) -> tuple[Term, ...]:
        """All that a row must fulfil: the terms (`around:` says what is shown beside), and being the item if one is named."""
        terms = tuple(term for term in self.terms if term.field != "around")
        return (*terms, Term(Op.any_of, (self.item,), "id")) if self.item else terms

    @property
    def around(self) -> int | None:
        """How many rows on each side of a match are shown with it; None when only matches are."""
        return next((int(term.values[0]) for term in self.terms if term.field == "around"), None)

    def filter_text(self) -> str:
        """The filter alone, as the `/` prompt shows it."""
        return " ".join(term.text() for term in self.terms)

    def sort_keys(self) -> tuple[SortKey, ...]:
        """The sort order in force: the location's own or the table's default."""
        return self.sort or tuple(_sort_key(text) for text in DEFAULT_SORT.get(self.table, ("id",)))


_TOKEN = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_TERM = re.compile(r"^(!?)([A-Za-z_][A-Za-z0-9_]*)(>=|<=|:|>|<)(.*)$", re.DOTALL)


def tokens(text: str) -> Iterable[tuple[str, int]]:
    """The tokens of a filter and where they begin; `-C 3`, as grep has it, is `around:3`."""
    found = [(match.group(), match.start()) for match in _TOKEN.finditer(text)]
    while found:
        token, start = found.pop(0)
        if token == "-C" and found and found[0][0].isdecimal():
            token = f"around:{found.pop(0)[0]}"
        elif token.startswith("-C") and token[2:].isdecimal():
            token = f"around:{token[2:]}"
        yield token, start


def _quote(value: str) -> str:
    return f'"{value}"' if re.search(r"[\s,]", value) or value == "" else value


def _bad(message: str, token: str, start: int, fix: str | None = None) -> AiwmError:
    return AiwmError(Code.bad_location, f'{message}: "{token[:60]}" at column {start + 1}', field="location", fix=fix)


def _sort_key(text: str) -> SortKey:
    return SortKey(text.removeprefix("-"), text.startswith("-"))


def _split_values(text: str) -> tuple[str, ...]:
    parts = re.findall(r'"[^"]*"|[^,]+', text)
    return tuple(part.replace('"', "") for part in parts)


_AUDIT = re.compile(r":?audit(?=\s|$)")


def parse(text: str, tables: Iterable[str] | None = None) -> Location:
    """Parse a location. Raises `bad_location` naming the token and its column. `:audit` is what operators did: events of that level.

    `tables` are further names allowed (screens without a table)."""
    stripped = text.strip()
    offset = len(text) - len(text.lstrip())
    audit = _AUDIT.match(stripped)
    if audit is not None:
        found = parse(f":events{stripped[audit.end() :]}", tables)
        levels = () if any(term.field == "level" for term in found.terms) else (Term(Op.any_of, ("audit",), "level"),)
        return msgspec.structs.replace(found, terms=(*levels, *found.terms))
    head = stripped.split(maxsplit=1)[0] if stripped else ""
    name, slash, item = head.removeprefix(":").partition("/")
    if not name:
        raise _bad("a location starts with a table", stripped or text, offset, "such as :tasks")
    extra = frozenset(tables or ())
    if name not in extra:
        fields_of(name)
    terms, sort = parse_filter(name, stripped[len(head) :], offset + len(head), check=name not in extra)
    return Location(name, item if slash else None, terms, sort)


def parse_filter(
    table: str, text: str, offset: int = 0, *, check: bool = True
) -> tuple[tuple[Term, ...], tuple[SortKey, ...]]:
    """Parse the filter part of a location: its terms and its sort keys."""
    terms: list[Term] = []
    sort: tuple[SortKey, ...] = ()
    for token, at in tokens(text):
        start = offset + at
        if token.count('"') % 2:
            raise _bad("a quote is not closed", token, start)
        parts = _TERM.match(token)
        if parts is None:
            word = token.removeprefix("!").replace('"', "")
            if not word:
                raise _bad("a word is missing", token, start)
            terms.append(Term(Op.word, (word,), None, token.startswith("!"), start))
            continue
        bang, name, op, rest = parts.groups()
        if name == "sort" and op == ":" and not bang:
            sort = tuple(_sort_key(part) for part in rest.split(",") if part)
            if check:
                for key in sort:
                    if _at(table, key.field, token, start).kind in _OF_THE_STORE:
                        raise _bad(f"{key.field} is looked for and has no order", token, start)
            continue
        values = _split_values(rest)
        if not values:
            raise _bad("a value is missing", token, start, f"such as {name}{op}…")
        term = Term(Op(op), values, name.lower(), bool(bang), start)
        if check:
            _check(table, term, token)
        terms.append(term)
    return tuple(terms), sort


def _at(table: str, name: str, token: str, start: int) -> Field:
    try:
        return field_of(table, name)
    except AiwmError as error:
        raise _bad(error.info.message, token, start, error.info.fix) from None


def _check(table: str, term: Term, token: str) -> None:
    if term.field == "is":
        if term.values != ("fault",):
            raise _bad("is: knows only is:fault", token, term.start)
        return
    if term.field == "around":
        _check_around(table, term, token)
        return
    assert term.field is not None
    field = _at(table, term.field, token, term.start)
    if field.kind in (Kind.text, Kind.texts, *_OF_THE_STORE):
        if term.op is not Op.any_of:
            raise _bad(
                f"{field.name} is text and has no order", token, term.start, f"{field.name}:value or {field.name}:glob*"
            )
        return
    for value in term.values:
        try:
            operand(field, value, now_ms=0)
        except ValueError as error:
            raise _bad(str(error), token, term.start) from None


def _check_around(table: str, term: Term, token: str) -> None:
    if table not in WITH_AROUND:
        raise _bad(f"around: shows the neighbours of events and of lines of logs, not of {table}", token, term.start)
    value = term.values[0]
    number = value.isascii() and value.isdigit() and int(value) <= AROUND
    if term.negated or term.op is not Op.any_of or len(term.values) > 1 or not number:
        raise _bad(f"around: takes a number from 0 to {AROUND}", token, term.start, "such as around:3")


_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_BYTES = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SPANS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def span_ms(text: str) -> float:
    """`90s`, `5m`, `1h30m`, `2d` in ms; ValueError otherwise."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhdw])", text)
    if not parts or "".join(a + b for a, b in parts) != text:
        raise ValueError(f'"{text[:20]}" is not a duration such as 90s, 5m or 1h30m')
    return sum(float(amount) * _SPANS[unit] for amount, unit in parts)


def time_ms(text: str, now_ms: int) -> float:
    """A point in time in Unix ms: `now`, `today`, `yesterday`, `02:30`, `2026-11-20`, `2026-11-20T02:30`, or a duration (that long ago)."""
    now = datetime.fromtimestamp(now_ms / 1000)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    words = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    if text in words:
        return words[text].timestamp() * 1000
    clock = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", text)
    if clock:
        hour, minute, second = (int(part or 0) for part in clock.groups())
        if hour > 23 or minute > 59 or second > 59:
            raise ValueError(f'"{text[:20]}" is not a time of day')
        at = midnight.replace(hour=hour, minute=minute, second=second)
        return (at if at <= now or now_ms == 0 else at - timedelta(days=1)).timestamp() * 1000
    try:
        return datetime.fromisoformat(text).timestamp() * 1000
    except ValueError:
        pass
    try:
        return now_ms - span_ms(text)
    except ValueError:
        raise ValueError(f'"{text[:20]}" is not a time such as 02:30, yesterday, 2026-11-20 or 1h') from None


def operand(field: Field, text: str, now_ms: int) -> float:
    """A typed value as a number comparable with the field's attribute. For `age` that is a time: see `compare_op`."""
    if field.kind in (Kind.time, Kind.since):
        return time_ms(text, now_ms)
    if field.kind is Kind.age:
        return now_ms - span_ms(text)
    if field.kind is Kind.span:
        return span_ms(text)
    units = _BYTES if field.kind is Kind.size else _UNITS
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)([A-Za-z]?)", text)
    if match is None or match.group(2).lower() not in units:
        raise ValueError(f'"{text[:20]}" is not a number')
    return float(match.group(1)) * units[match.group(2).lower()]


_FLIPPED = {Op.more: Op.less, Op.less: Op.more, Op.at_least: Op.at_most, Op.at_most: Op.at_least, Op.any_of: Op.any_of}


def compare_op(field: Field, op: Op) -> Op:
    """The operator on the attribute: an age grows as its time gets smaller, so it turns around. `since:22:00` is from then on."""
    if field.kind is Kind.since and op is Op.any_of:
        return Op.at_least
    return _FLIPPED[op] if field.kind is Kind.age else op


def _holds(op: Op, left: float, right: float) -> bool:
    match op:
        case Op.more:
            return left > right
        case Op.less:
            return left < right
        case Op.at_least:
            return left >= right
        case Op.at_most:
            return left <= right
        case _:
            return left == right


def _term_holds(table: str, term: Term, record: Any, now_ms: int) -> bool:
    if term.op is Op.word:
        word = fold(term.values[0])
        return any(word in fold(str(getattr(record, name) or "")) for name in SEARCHED.get(table, ("id",)))
    if term.field == "is":
        state = record.level if table == "events" else getattr(record, "state", "")
        return state in FAULT_STATES.get(table, frozenset())
    assert term.field is not None
    field = field_of(table, term.field)
    if field.kind in _OF_THE_STORE:
        raise AiwmError(Code.bad_location, f"{term.field}: is only known to the engine's store", field="location")
    value = getattr(record, field.attribute)
    if field.kind is Kind.texts:
        return any(_text_matches(part, pattern) for part in value for pattern in term.values)
    if field.attribute in NAMES.get(table, ()):
        return any(_name_matches(value or "", pattern) for pattern in term.values)
    if field.kind is Kind.text:
        return any(_text_matches("" if value is None else str(value), pattern) for pattern in term.values)
    if value is None:
        return False
    op = compare_op(field, term.op)
    return any(_holds(op, value, operand(field, text, now_ms)) for text in term.values)


def fold(text: str) -> str:
    """Text as filters compare it: ASCII letters in lower case, others as they are (what SQLite's lower() does)."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


@lru_cache(maxsize=256)
def _glob(pattern: str) -> re.Pattern[str]:
    # Between stars the first place that fits is as good as any other, so nothing is ever tried twice (atomic groups): a hostile
    # pattern costs time in proportion to the text, not to a power of it.
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in pattern.split("*"))
    if not rest:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1])
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


def is_glob(pattern: str) -> bool:
    """Whether a pattern has wildcards: `*` any text, `?` one character. Nothing else is special."""
    return "*" in pattern or "?" in pattern


def _text_matches(value: str, pattern: str) -> bool:
    if is_glob(pattern):
        return _glob(fold(pattern)).fullmatch(fold(value)) is not None
    return fold(value) == fold(pattern)


def is_name(pattern: str) -> bool:
    """Whether a pattern is one name, which is looked for among several; a glob, nothing, or several names are the whole text."""
    return bool(pattern) and not is_glob(pattern) and "," not in pattern


def _name_matches(value: str, pattern: str) -> bool:
    """Whether one of the names with commas between them is this one, or a version of it."""
    if not is_name(pattern):
        return _text_matches(value, pattern)
    wanted = fold(pattern)
    return any(name == wanted or name.startswith(f"{wanted}@") for name in fold(value).split(","))


def holds(table: str, term: Term, record: Any, now_ms: int) -> bool:
    """Whether a record passes one term; it needs only the attributes that the term reads."""
    return _term_holds(table, term, record, now_ms) != term.negated


def matches(location: Location, record: Any, now_ms: int) -> bool:
    """Whether a record passes the location's filter. `now_ms` (Unix ms) gives ages and relative times their meaning."""
    return all(holds(location.table, term, record, now_ms) for term in location.conditions())


def sort_records(location: Location, records: Sequence[Any]) -> list[Any]:
    """Records in the location's order; ties by id (see NUMBERED). None sorts last whichever the direction."""
    keys = location.sort_keys()
    numbers = NUMBERED.get(location.table, frozenset())
    if numbers:
        ordered = sorted(records, key=lambda record: _number(record.id), reverse=is_descending(location.table, keys[0]))
    else:
        ordered = sorted(records, key=lambda record: _natural(record.id))
    for key in reversed(keys):
        attribute = field_of(location.table, key.field).attribute
        descending = is_descending(location.table, key)
        if attribute in numbers:
            ordered.sort(key=lambda record: _number(record.id), reverse=descending)
            continue
        present = [record for record in ordered if getattr(record, attribute) is not None]
        absent = [record for record in ordered if getattr(record, attribute) is None]
        present.sort(key=lambda record, name=attribute: _natural(getattr(record, name)), reverse=descending)  # type: ignore[misc]
        ordered = present + absent
    return ordered


def is_descending(table: str, key: SortKey) -> bool:
    """Whether the key's attribute falls: an age falls as its time rises."""
    return key.descending != (field_of(table, key.field).kind is Kind.age)


def _number(identifier: str) -> tuple[int, str]:
    """Numbered ids (`t-10001`, `42`) by their number: a longer one is a later one."""
    return (len(identifier), identifier)


def _natural(value: Any) -> tuple[Any, ...]:
    """Numbers inside text compare as numbers: i-2 before i-10."""
    if isinstance(value, str):
        return tuple(
            (0, int(part), "") if part.isdigit() and len(part) < 19 else (1, 0, part.lower())
            for part in re.split(r"(\d+)", value)
            if part
        )
    if isinstance(value, tuple):
        return tuple(str(part) for part in value)
    return ((0, value, ""),)
