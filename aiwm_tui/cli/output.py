"""What a command prints: one JSON object, JSON lines, or plain text for people; errors and talk on stderr.

Text that a task, a model or an event brought along is made harmless before it reaches a terminal; in JSON it is data and stays as it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from aiwm_tui.cli.exit_codes import ExitCode, exit_code_of
from engine.contract.errors import AiwmError, Code

VERSION = 1


class Format(StrEnum):
    people = "people"
    json = "json"
    jsonl = "jsonl"


class Output:
    """Where a command's words go. `people` functions are called only when a person reads."""

    def __init__(self, form: Format) -> None:
        self.form = form

    @property
    def for_people(self) -> bool:
        return self.form is Format.people

    def one(self, kind: str, data: Any, people: Callable[[], str | None] | None = None, *, exact: bool = False) -> None:
        """One object: `{"v": 1, "kind": kind, "data": data}`, or the text that `people` makes of it (default: its fields). An `exact`
        text is what somebody wants as it is, and was made harmless (`shown`) where that is needed."""
        if self.for_people:
            text = people() if people is not None else fields_text(data)
            if text and exact:
                write(text)
            elif text:
                from aiwm_tui.live.text import clean_lines

                # Whatever a command puts together may quote a task, a model or a file's name.
                write("\n".join(clean_lines(text)))
        else:
            self._object({"v": VERSION, "kind": kind, "data": data})

    def many(
        self,
        kind: str,
        table: str,
        rows: Sequence[Any],
        total: int,
        *,
        exact: bool = True,
        empty: str = "",
        columns: str | None = None,
    ) -> None:
        """A list. JSON: one object with `total`; JSON lines: one object a row of the singular `kind`; people: the table."""
        if self.form is Format.jsonl:
            for row in rows:
                self._object({"v": VERSION, "kind": kind, "data": row})
        elif self.form is Format.json:
            whole = {"v": VERSION, "kind": table, "data": rows, "total": total}
            self._object(whole if exact else whole | {"total_exact": False})
        elif rows:
            self.table(columns or table, [_fields(row) for row in rows])
            if total > len(rows):
                self.talk(f"{len(rows)} of {'' if exact else 'at least '}{total:,}")
        else:
            self.talk(empty or f"no {table}")

    def table(self, name: str, rows: Sequence[dict[str, Any]], first: int | None = None) -> None:
        """A table for people; with `first` only that many of its columns. On a terminal it fits, and stderr names what was left out."""
        from aiwm_tui.cli.columns import columns_of
        from aiwm_tui.cli.tables import print_table

        columns = columns_of(name)[:first]
        hidden = print_table(columns, rows, write, width=terminal_width(), styled=styled(sys.stdout))
        if hidden:
            sys.stdout.flush()
            self.talk(_hidden_text(hidden, terminal_width() or 0))

    def line(self, kind: str, data: Any) -> None:
        """One object of a stream (JSON and JSON lines alike)."""
        self._object({"v": VERSION, "kind": kind, "data": data})
        sys.stdout.flush()

    def talk(self, text: str) -> None:
        """A remark for people, on stderr; programs that asked for JSON are not talked to."""
        if self.for_people:
            from aiwm_tui.live.text import clean

            sys.stderr.write(clean(text) + "\n")
            sys.stderr.flush()

    def raw(self, text: str) -> None:
        """Several lines for people, on stderr."""
        sys.stderr.write(text if text.endswith("\n") else text + "\n")

    def error(self, error: AiwmError) -> ExitCode:
        """Say what failed, on stderr; the exit code that goes with it."""
        info = error.info
        if self.for_people:
            from aiwm_tui.live.text import clean

            sys.stderr.write(f"aiwm: {clean(str(error))}\n")
            for line in info.stderr:
                sys.stderr.write(f"  | {clean(line)}\n")
        else:
            body: dict[str, Any] = {"v": VERSION, "kind": "error", "code": info.code, "message": info.message}
            body |= {"field": info.field, "fix": info.fix}
            if info.stderr:
                body["stderr"] = info.stderr
            sys.stderr.write(msgspec.json.encode(body).decode() + "\n")
        sys.stderr.flush()
        return exit_code_of(info.code)

    def _object(self, thing: dict[str, Any]) -> None:
        sys.stdout.write(msgspec.json.encode(thing).decode() + "\n")


def write(text: str) -> None:
    """A line (or lines) of data on stdout; on a terminal that has no more than ASCII, with twins in place of glyphs."""
    if not text.isascii() and sys.stdout.isatty():
        from aiwm_tui.terminal import ascii_only, ascii_text

        text = ascii_text(text) if ascii_only() else text
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def shown(text: str) -> str:
    """A task's text as it goes to stdout: exactly as it is into a pipe or file, harmless on a terminal."""
    if not sys.stdout.isatty():
        return text
    from aiwm_tui.live.text import clean_lines

    return "\n".join(clean_lines(text))


def styled(stream: Any) -> bool:
    """Whether the stream is a terminal that wants colour (NO_COLOR set and not empty forbids it)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb"


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is (COLUMNS, if that is set, as for other programs), None for anything else: a pipe gets whole
    lines."""
    if not sys.stdout.isatty():
        return None
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and int(told[:9]) > 0:
        return int(told[:9])
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80


def _hidden_text(titles: Sequence[str], width: int) -> str:
    """`3 columns hidden, | less -S shows all: KEEP, RSS, PID`, on one line of the terminal."""
    from aiwm_tui.live.text import cut

    many = "1 column" if len(titles) == 1 else f"{len(titles)} columns"
    return cut(f"{many} hidden, | less -S shows all: {', '.join(titles)}", width)


def hanging(text: str, indent: int) -> list[str]:
    """A clean line as the lines that the terminal has room for, those after the first indented; just itself where there is no terminal."""
    from aiwm_tui.live.text import break_at, width, wrap

    across = terminal_width()
    if across is None or width(text) <= across:
        return [text]
    indent = min(indent, across // 3)
    first = break_at(text, 0, across)
    return [text[:first].rstrip(), *(" " * indent + line.rstrip() for line in wrap(text[first:], across - indent))]


def fields_text(data: Any, indent: str = "") -> str:
    """Any record as `name  value` lines; nested ones indented below their name."""
    from aiwm_tui.live.text import clean, clean_lines

    fields = _fields(data)
    # Units are for machines: a value is written with its own.
    names = {name: clean(name).removesuffix("_ms") for name in fields}
    wide = max((len(name) for name in names.values()), default=0)
    lines = []
    for name, value in fields.items():
        label = f"{indent}{names[name]}"
        if isinstance(value, (msgspec.Struct, dict)) and _fields(value):
            lines += [label, fields_text(value, indent + "  ")]
        elif isinstance(value, str) and "\n" in value:
            lines.append(label)
            lines += [f"{indent}  {line}" for line in clean_lines(value)]
        else:
            lines.append(f"{label.ljust(len(indent) + wide)}  {_value_text(name, value)}".rstrip())
    return "\n".join(lines)


def _value_text(name: str, value: Any) -> str:
    from aiwm_tui.live.format import NONE, exact
    from aiwm_tui.live.text import clean

    if value is None or value in ("", (), [], {}):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_ms") and isinstance(value, int):
        from datetime import datetime

        # A span is short, a point in time is after 1980.
        return (
            exact(value) if value < 315_532_800_000 else datetime.fromtimestamp(value / 1000).isoformat(" ", "seconds")
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(clean(part if isinstance(part, str) else msgspec.json.encode(part).decode()) for part in value)
    return clean(str(value))


def _fields(data: Any) -> dict[str, Any]:
    if isinstance(data, msgspec.Struct):
        return msgspec.structs.asdict(data)
    return data if isinstance(data, dict) else {"value": data}


def confirm(output: Output, question: str, *, yes: bool) -> None:
    """Ask on a terminal; without one only --yes will do. Raises `needs_confirmation`."""
    if yes:
        return
    if sys.stdin.isatty() and sys.stderr.isatty() and output.for_people:
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return
        raise AiwmError(Code.needs_confirmation, "nothing was changed")
    raise AiwmError(Code.needs_confirmation, f"{question} Nothing was changed", fix="--yes, or --dry-run to see what")
