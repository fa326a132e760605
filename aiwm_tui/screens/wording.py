"""How answers of the engine are put into the strip: gates, errors, labelled facts."""

from __future__ import annotations

from collections.abc import Sequence

from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, Span, clean, clean_lines, fit, line_width, width
from aiwm_tui.live.wrapping import TableLine, wrapped
from engine.contract.errors import AiwmError, ErrorInfo
from engine.contract.why import Gate, Why

_WHY, _WHY_CELLS = 4, 44
"""The column of a gate's reason, and how wide it may be."""
_BESIDE_CELLS = 112
"""Where the table would be wider, what opens a gate stands below its line."""


def para(text: str, style: str = "text") -> Line:
    """One line of text from the engine, made harmless."""
    return ((" " + clean(text, 1000), style),)


def facts(pairs: Sequence[tuple[str, str]]) -> Line:
    """`label value · label value` on one line."""
    line: list[Span] = [(" ", "")]
    for place, (label, value) in enumerate(pairs):
        if place:
            line.append((" · ", "faint"))
        line += [(f"{label} ", "faint"), (clean(value, 200), "text")]
    return tuple(line)


def hints(*pairs: tuple[str, str]) -> Line:
    """Keys and what they do: `↵ go on   esc leave`."""
    line: list[Span] = []
    for key, effect in pairs:
        line += [(key, "key"), (f" {effect}   ", "dim")]
    return tuple(line)


def failure(error: ErrorInfo) -> list[Line]:
    """An error: code, cause, what to do, and the process's last words."""
    lines: list[Line] = [
        ((" ✗ ", "broken"), (clean(error.code, 40), "broken"), ("  " + clean(error.message, 1000), "text"))
    ]
    if error.fix:
        lines.append((("   To do: ", "dim"), (clean(error.fix, 400), "key")))
    lines += [(("   │ " + text, "dim"),) for part in error.stderr[-8:] for text in clean_lines(part[:2000])]
    return lines


def refused(error: AiwmError) -> list[Line]:
    return failure(error.info)


def gates(why: Why, now_ms: int) -> list[Line]:
    """The gates of a queue, pool, model or engine as a table; those of a task as one line, then the closed ones."""
    lines: list[Line] = [para(why.summary, "text" if why.moving else "strong")]
    closed = [gate for gate in why.gates if gate.closed]
    if why.scope == "task":
        lines.append(_passed(why.gates))
        lines += [_closed_line(gate, now_ms) for gate in closed]
        return lines
    if closed:
        lines += _gate_table(closed, now_ms)
    return lines


def _passed(all_gates: Sequence[Gate]) -> Line:
    line: list[Span] = []
    for place, gate in enumerate(all_gates, 1):
        line.append((f" {place} {clean(gate.name, 40)} ", "dim" if not gate.closed else "text"))
        line.append(("✗ ", "broken") if gate.closed else ("✓ ", "done"))
    return tuple(line)


def counts_down(why: Why) -> bool:
    """Whether a closed gate says until when."""
    return any(gate.closed and gate.opens_ms is not None for gate in why.gates)


def _closed_line(gate: Gate, now_ms: int, count: str = "", since: str = "") -> Line:
    line: list[Span] = [(" ✗ ", "broken"), (clean(gate.name, 40), "strong")]
    if count:
        line.append((f" · {count}" + ("" if since == form.NONE else f" since {since}"), "dim"))
    line.append((f": {clean(gate.why, 300)}", "text"))
    opens = _opens(gate, now_ms)
    if opens:
        line.append((f" · opens {opens}", "dim"))
    if gate.fix:
        line += [(" → ", "faint"), (clean(gate.fix, 200), "key")]
    return tuple(line)


def _opens(gate: Gate, now_ms: int) -> str:
    if gate.opens_ms is not None:
        return form.countdown(gate.opens_ms, now_ms)
    return clean(gate.opens, 60)


def _gate_table(closed: Sequence[Gate], now_ms: int) -> list[Line]:
    rows = [
        (
            form.count(gate.count),
            clean(gate.name, 24),
            form.moment(gate.since_ms, now_ms) if gate.since_ms else form.NONE,
            _opens(gate, now_ms) or form.NONE,
            clean(gate.why, 200) or form.NONE,
            clean(gate.fix or "", 120) or form.NONE,
        )
        for gate in closed
    ]
    heads = ("tasks", "gate", "since", "opens", "why", "what opens it")
    wide = [max(width(row[place]) for row in (*rows, heads)) for place in range(len(heads))]
    wide[_WHY] = min(wide[_WHY], _WHY_CELLS)
    styles = ("strong", "text", "dim", "dim", "text", "key")
    below = sum(wide) + 2 * len(wide) > _BESIDE_CELLS
    last = _WHY if below else _WHY + 1

    def line(row: Sequence[str], head: bool) -> Line:
        return tuple(
            # Nothing is padded at the end: spaces that do not fit would be a line of their own.
            (
                " " + (cell if place == last else fit(cell, wide[place], right=place == 0)) + " ",
                "head" if head else styles[place],
            )
            for place, cell in enumerate(row[: last + 1])
        )

    lines = [line(heads, True)]
    narrow: list[tuple[Line, ...]] = [()]
    for gate, row in zip(closed, rows, strict=True):
        # A long reason goes on below itself, so that the other columns stay where they are.
        first, *more = ("".join(text for text, _ in part) for part in wrapped(((row[_WHY], ""),), _WHY_CELLS, 0))
        lines.append(line((*row[:_WHY], first, *row[_WHY + 1 :]), False))
        lines += [line((*[""] * _WHY, part, ""), False) for part in more]
        if below and row[_WHY + 1] != form.NONE:
            lines.append(((" " * (wide[0] + 3) + "→ ", "faint"), (row[_WHY + 1], "key")))
        narrow += [(_closed_line(gate, now_ms, row[0], row[2]),), *[()] * (len(lines) - len(narrow) - 1)]
    cells = max(line_width(each) for each in lines)
    return [TableLine(each, cells, other) for each, other in zip(lines, narrow, strict=True)]
