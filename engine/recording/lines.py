"""The lines of a recording: JSON, one object a line. A header, the rows of a snapshot, then what changed, each line with its time.

`{"aiwm_recording": 1, …}`                     the header
`{"put": TABLE, "columns": […], "rows": […]}`  rows of the snapshot, in the store's own columns
`{"at": MS, "left_out": WORDS}`                the snapshot is whole; what of the home was too much for it
`{"at": MS, "ops": [[{"op": …}, …], …]}`       entries that were committed
`{"at": MS, "table": NAME, "rows": […], "gone": […]}`  rows of a table that is kept in memory, new or changed, and ids that left it
`{"at": MS, "answers": [[METHOD, PARAMS, RESULT], …]}`  what requests were answered that cannot be answered from rows
`{"at": MS, "end": WHY}`                       the last line of a recording that was ended"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, get_type_hints

import msgspec

from engine import __version__
from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.store import ops
from engine.store.ops import Op

VERSION: Final = 1


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. `aiwm_recording` is the version of the format, `engine` that of aiwm; `epoch` and `task_high` are the store's; a file
    of a `ring` has no end of its own. Times are Unix ms."""

    aiwm_recording: int
    engine: str
    host: str
    home: str
    epoch: int
    task_high: int
    started_ms: int
    redacted: bool
    ring: bool = False


class Line(msgspec.Struct, frozen=True):
    """Any other line."""

    at: int = 0
    put: str = ""
    columns: tuple[str, ...] = ()
    rows: list[Any] = []
    ops: msgspec.Raw = msgspec.Raw()
    table: str = ""
    gone: list[str] = []
    answers: list[tuple[str, msgspec.Raw, msgspec.Raw]] = []
    left_out: str | None = None
    end: str | None = None


_encode = msgspec.json.Encoder().encode
_header = msgspec.json.Decoder(Header)
_line = msgspec.json.Decoder(Line)
_entries = msgspec.json.Decoder(list[list[dict[str, Any]]])

_KINDS: dict[str, type[Op]] = {
    kind.__name__: kind
    for kind in vars(ops).values()
    if isinstance(kind, type) and issubclass(kind, Op) and kind is not Op
}
_BYTES: dict[type[Op], tuple[str, ...]] = {
    kind: tuple(name for name, hint in get_type_hints(kind).items() if hint in (bytes, bytes | None))
    for kind in _KINDS.values()
}
"""The fields of each operation that hold JSON as bytes: in a line they are text."""
_DEFAULTS: dict[type[Op], dict[str, Any]] = {
    kind: {
        field.name: field.default for field in msgspec.structs.fields(kind) if field.default is not msgspec.NODEFAULT
    }
    for kind in _KINDS.values()
}
UNRECORDED: Final = frozenset({ops.IndexWords})
"""What concerns this engine's file alone."""


def header_line(**fields: Any) -> bytes:
    """The first line of a recording that begins now."""
    return bytes(_encode(Header(aiwm_recording=VERSION, engine=__version__, **fields))) + b"\n"


def put_line(table: str, columns: Sequence[str], rows: list[Any]) -> bytes:
    return bytes(_encode({"put": table, "columns": columns, "rows": rows})) + b"\n"


def snapshot_line(at_ms: int, left_out: str) -> bytes:
    return bytes(_encode({"at": at_ms, "left_out": left_out})) + b"\n"


def ops_line(at_ms: int, entries: Iterable[Sequence[Op]]) -> bytes | None:
    """A line of committed entries; None when there is nothing in them that belongs into a recording."""
    found = [[_op(op) for op in entry if type(op) not in UNRECORDED] for entry in entries]
    found = [entry for entry in found if entry]
    return bytes(_encode({"at": at_ms, "ops": found})) + b"\n" if found else None


def table_line(at_ms: int, table: str, rows: list[Any], gone: list[str]) -> bytes:
    return bytes(_encode({"at": at_ms, "table": table, "rows": rows, "gone": gone})) + b"\n"


def answers_line(at_ms: int, answers: list[tuple[str, Any, msgspec.Raw]]) -> bytes:
    return bytes(_encode({"at": at_ms, "answers": answers})) + b"\n"


def end_line(at_ms: int, why: str) -> bytes:
    return bytes(_encode({"at": at_ms, "end": why})) + b"\n"


def _op(op: Op) -> dict[str, Any]:
    kind = type(op)
    defaults = _DEFAULTS[kind]
    said: dict[str, Any] = {"op": kind.__name__}
    for name in kind.__struct_fields__:
        value = getattr(op, name)
        if name in defaults and value == defaults[name]:
            continue
        said[name] = value.decode() if type(value) is bytes else value
    return said


def read_header(line: bytes) -> Header:
    """The first line of a file. Raises `recording_invalid`: it is none of ours, or of a later version."""
    try:
        found = msgspec.json.decode(line)
    except NOT_JSON:
        found = None
    version = found.get("aiwm_recording") if isinstance(found, dict) else None
    if type(version) is not int:
        raise AiwmError(
            Code.recording_invalid, "this is no recording of aiwm", field="file", fix="aiwm record FILE makes one"
        )
    if version != VERSION:
        message = f"the recording has format {version}, this aiwm ({__version__}) reads {VERSION}"
        raise AiwmError(Code.recording_invalid, message, field="aiwm_recording", fix="use the aiwm that recorded it")
    try:
        return _header.decode(line)
    except NOT_JSON as error:
        raise AiwmError(Code.recording_invalid, f"the header is damaged: {error}", field="file") from None


def read_line(line: bytes, number: int) -> Line:
    """Another line. Raises `recording_invalid` naming it."""
    try:
        return _line.decode(line)
    except NOT_JSON as error:
        raise damaged(number, str(error)) from None


def read_entries(raw: msgspec.Raw, number: int) -> list[list[Op]]:
    """The entries of an `ops` line. Raises `recording_invalid` naming the operation and what is wrong with it."""
    try:
        return [[_read_op(said, number) for said in entry] for entry in _entries.decode(raw)]
    except NOT_JSON as error:
        raise damaged(number, str(error)) from None


def _read_op(said: dict[str, Any], number: int) -> Op:
    name = said.pop("op", None)
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise damaged(number, f'"{str(name)[:40]}" is no operation')
    for field in _BYTES[kind]:
        value = said.get(field)
        if isinstance(value, str):
            said[field] = value.encode()
    return msgspec.convert(said, kind, builtin_types=(bytes,))


def damaged(number: int, why: str) -> AiwmError:
    """The error for a line (counted from 1) that cannot be used."""
    fix = "the lines before it can be played: head -n" + f" {number - 1} FILE > OTHER"
    return AiwmError(Code.recording_invalid, f"line {number} is damaged: {why}", field=f"line {number}", fix=fix)
