"""A view as a file: comma-separated values for spreadsheets, the contract's JSON, or text as the screen shows it. Pure.

In csv a text that a spreadsheet would take for a formula gets an apostrophe in front, and no cell carries control characters: what a
model wrote is data wherever the file is opened."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from aiwm_tui.live.columns import Column
from aiwm_tui.live.printed import table_lines
from aiwm_tui.live.text import clean, plain
from engine.contract.fields import Field, Kind, fields_of
from engine.contract.query import Location

_FORMULA = (*"=+-@\t\r\n", *(chr(ord(sign) + 0xFEE0) for sign in "=+-@"))
"""How a formula may begin; the wide forms of its signs are taken for the same by some."""


class CsvWriter:
    """The shown columns with what their fields hold: numbers bare, times as local `2026-11-20 03:07:41.000`, durations in ms, sizes in
    bytes. A column that is of no field has the text of its cell."""

    def __init__(self, table: str, columns: Sequence[Column]) -> None:
        fields = fields_of(table)
        self._of: list[tuple[Column, Field | None]] = [(column, fields.get(column.key)) for column in columns]

    def head(self) -> str:
        return self._line(_name(column, field) for column, field in self._of)

    def rows(self, rows: Iterable[Any], now_ms: int) -> str:
        return "".join(
            self._line(
                column.cell(row, now_ms)[0] if field is None else _value(field, getattr(row, field.attribute))
                for column, field in self._of
            )
            for row in rows
        )

    def _line(self, values: Iterable[Any]) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\r\n").writerow([harmless(value) for value in values])
        return out.getvalue()


def _name(column: Column, field: Field | None) -> str:
    if field is None:
        return column.title
    return field.attribute.removesuffix("_ms") if field.kind in (Kind.time, Kind.age, Kind.since) else field.attribute


def _value(field: Field, value: Any) -> Any:
    if value is None:
        return ""
    if field.kind in (Kind.time, Kind.age, Kind.since):
        return datetime.fromtimestamp(value / 1000).isoformat(" ", "milliseconds")
    if isinstance(value, tuple | list):
        return " ".join(str(part) for part in value)
    return value


def harmless(value: Any) -> Any:
    """A value as a cell that no spreadsheet takes for a formula."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = "\n".join(clean(line) for line in str(value).replace("\r\n", "\n").split("\n"))
        return "'" + text if text.lstrip(" ").startswith(_FORMULA) else text
    return value


class JsonWriter:
    """`{"v": 1, "kind": …, "location": …, "data": [every field of the contract], "total": n}`: what `aiwm view --json` prints, with the
    location; a row a line."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._any = False

    def head(self) -> str:
        kind, where = (msgspec.json.encode(each).decode() for each in (self._location.table, str(self._location)))
        return f'{{"v":1,"kind":{kind},"location":{where},"data":['

    def rows(self, rows: Iterable[Any]) -> str:
        text = "".join(
            f"{',' if self._any or place else ''}\n{msgspec.json.encode(row).decode()}"
            for place, row in enumerate(rows)
        )
        self._any = self._any or bool(text)
        return text

    def tail(self, total: int, *, exact: bool) -> str:
        guess = "" if exact else ',"total_exact":false'
        return f'\n],"total":{total}{guess}}}\n'


def text_of(location: Location, columns: Sequence[Column], rows: Sequence[Any], now_ms: int) -> str:
    """The table as the screen shows it, every column and every text whole, below its location and the time."""
    at = datetime.fromtimestamp(now_ms / 1000).isoformat(" ", "seconds")
    lines = table_lines(columns, rows, location.sort_keys(), now_ms, None)
    return "\n".join([clean(f"{location}   {at}"), *(plain(line).rstrip() for line in lines)]) + "\n"
