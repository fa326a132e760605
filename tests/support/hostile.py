"""Texts that try to take over a terminal, and rows of any table made of nothing else."""

from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from engine.contract.records import TABLES, Record
from tests.support.made_rows import made_row

HOSTILE = {
    "markup": "[bold red]x[/bold red] [/ [link=http://x]y [@click=app.exit()]z",
    "ansi": "\x1b[31mred\x1b[2J\x1b[H\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x1bPq\x1b\\\x9b1m",
    "nul": "a\x00b\x7fc\x08d\re\x0bf",
    "wide": "漢字カタカナ한국어👩‍👩‍👧🏳️‍🌈" * 5,
    "combining": "e\u0301\u0302\u0303\u0304" * 30 + "\u0301",
    "mark first": "\u0301\u0302\u20dd of nothing",
    "rtl": "\u202eevil\u202c שלום עולם \u2067مرحبا\u2069",
    "zero width": "a\u200bb\u200dc\u2060d\ufeffe\u00adf\U000e0041g",
    "surrogate": "half \udc80 of one",
    "newlines": "one\ntwo\r\nthree\u2028four\u0085five\tsix",
    "long": "y" * 1_000_000,
    "long and wide": "漢" * 300_000,
}
_FORBIDDEN = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200d\u2060\ufeff\ufe0f\u2028\u2029\u00ad"
_KEPT = frozenset({"id", "state", "level"})
"""What the engine itself says by words of its own."""


def controls(shown: str) -> list[str]:
    """Characters of a shown text (lines apart) that move a cursor, change a colour or an order, or cannot be written."""
    return [
        each
        for each in shown
        if each != "\n"
        and (ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0 or 0xD800 <= ord(each) < 0xE000 or each in _FORBIDDEN)
    ]


def hostile_row(table: str, number: int, text: str) -> Record:
    """The `number`th row of a table in which everything that a task, a model, a file or a person may have said is this text."""
    row = made_row(table, number)
    hints = get_type_hints(TABLES[table])
    changes = {
        name: _hostile(hints[name], text, getattr(row, name)) for name in row.__struct_fields__ if name not in _KEPT
    }
    return msgspec.structs.replace(row, **changes)


def _hostile(hint: Any, text: str, before: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(each for each in get_args(hint) if each is not type(None))
    inner = get_args(hint)
    if hint is str:
        return text
    if get_origin(hint) is tuple and inner:
        return (_hostile(inner[0], text, before), _hostile(inner[0], text, before)) if inner[0] is str else before
    if get_origin(hint) is dict:
        # Half a surrogate comes over no pipe; where a record is made JSON of, it cannot be.
        return {text[:1000].replace("\udc80", ""): text.replace("\udc80", "")}
    return before
