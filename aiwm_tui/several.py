"""One verb for several rows of a table: fixed rows, one dialog that says what will be done to which of them, then a request for each, in
their order. What the engine refuses stays marked. Tasks have requests for whole sets of their own: `sets`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from aiwm_tui.changing import ask_in_dialog, say_result
from aiwm_tui.forms.fields import FormField, Kind
from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, clean, fit
from aiwm_tui.set_text import TYPED_FROM
from aiwm_tui.states import state_span
from engine.contract.errors import AiwmError, Code
from engine.contract.query import Op, Term
from engine.contract.records import TABLES
from engine.contract.requests import definitions as crud
from engine.contract.requests.adapters import AdapterEvict, AdapterPrefetch
from engine.contract.requests.approvals import ApprovalApprove, ApprovalReject
from engine.contract.requests.base import Request
from engine.contract.requests.fleet import QueuePause, QueueResume
from engine.contract.requests.instances import InstanceRetire
from engine.contract.requests.memory import ModelRestart, ModelUnload
from engine.contract.requests.session import ViewRead

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page

MOST = 1_000
"""So many rows at most are changed at once: each is a request of its own."""
SHOWN = 8
_CHUNK = 200


class Way(msgspec.Struct, frozen=True):
    """How a verb is done to one of several rows. `build` makes the request from the row's id and what was typed as a reason; `command` is
    the same for the shell, before the id; `option` is how it takes a reason there, "" for none. `after` says what comes of it. Where
    there is no reason, or it is `final`, the number of rows must be typed, however few."""

    noun: str
    build: Callable[[str, str], Request[Any]]
    command: str
    after: str
    option: str = ""
    final: bool = False


def _deleted(noun: str, kind: Any) -> Way:
    return Way(noun, lambda name, _: kind(name=name), f"{noun} delete", "it cannot be taken back", final=True)


WAYS: dict[tuple[str, str], Way] = {
    ("instances", "end"): Way(
        "instance",
        lambda name, reason: InstanceRetire(id=name, reason=reason),
        "instance retire",
        "each goes when the task it has has ended",
        "--reason",
    ),
    ("approvals", "approve"): Way(
        "request",
        lambda name, reason: ApprovalApprove(id=name, reason=reason),
        "approval approve",
        "each is made once, now, one after the other",
        "--reason",
    ),
    ("approvals", "refuse"): Way(
        "request",
        lambda name, reason: ApprovalReject(id=name, reason=reason),
        "approval reject",
        "who asked is told the reason",
        "--reason",
    ),
    ("queues", "pause"): Way(
        "queue",
        lambda name, reason: QueuePause(name=name, reason=reason),
        "queue pause",
        "what runs ends; P on one of them lets it go on",
        "--reason",
    ),
    ("queues", "drain"): Way(
        "queue",
        lambda name, reason: crud.QueueDrain(name=name, reason=reason),
        "queue drain",
        "they work off what they have and take nothing new",
        "--reason",
    ),
    ("models", "unload"): Way(
        "process",
        lambda name, _: ModelUnload(name=name),
        "model unload",
        "what runs ends first; work for them loads them again",
    ),
    ("models", "unload_now"): Way(
        "process",
        lambda name, reason: ModelUnload(name=name, now=True, hold=reason),
        "model unload --now",
        "what runs ends without an answer and is tried again; with a reason their tasks wait until somebody loads them",
        "--hold",
    ),
    ("models", "restart"): Way(
        "process", lambda name, _: ModelRestart(name=name), "model restart", "each when what it does has ended"
    ),
    ("adapters", "keep_adapter"): Way(
        "adapter",
        lambda name, _: AdapterPrefetch(names=(name,), keep=True),
        "adapter prefetch --keep",
        "they stay in the processes of their bases",
    ),
    ("adapters", "load_adapter"): Way(
        "adapter",
        lambda name, _: AdapterPrefetch(names=(name,)),
        "adapter prefetch",
        "the least used make room for them",
    ),
    ("adapters", "evict"): Way(
        "adapter",
        lambda name, _: AdapterEvict(names=(name,)),
        "adapter evict",
        "what runs keeps them; the next task that needs one loads it again",
    ),
    ("queues", "delete"): _deleted("queue", crud.QueueDelete),
    ("pools", "delete"): _deleted("pool", crud.PoolDelete),
    ("templates", "delete"): _deleted("template", crud.TemplateDelete),
    ("sources", "delete"): _deleted("source", crud.SourceDelete),
}
"""By table and the action's id."""
_GO_ON = Way("queue", lambda name, _: QueueResume(name=name), "queue resume", "they start tasks again")


def way_of(page: Page, action: Action) -> Way | None:
    """How the marked rows of a page are changed by an action; None where nothing is marked, or it is about one row only."""
    way = WAYS.get((page.table, action.id))
    return way if way is not None and page.marked() else None


async def change(app: ConsoleApp, page: Page, action: Action, way: Way) -> None:
    """Ask about all marked rows at once."""
    app.ahead.ask(action, partial(_rows, app, page), lambda every: _ask(app, page, action, way, every))


def _ask(app: ConsoleApp, page: Page, action: Action, way: Way, every: list[Any]) -> None:
    from aiwm_tui.screens.dialogs.form import FormDialog

    misfits = {row.id: why for row in every if action.fits is not None and (why := action.fits(row))}
    rows = [row for row in every if row.id not in misfits]
    if not rows:
        why = next(iter(misfits.values()), "the marked rows are gone")
        raise AiwmError(Code.bad_request, f"{action.label}: {why}", fix="esc clears the marks")
    if (page.table, action.id) == ("queues", "pause") and all(row.state in ("paused", "draining") for row in rows):
        way = _GO_ON  # as the key does for one
    typed = way.final or not way.option or len(rows) >= TYPED_FROM
    fields = _fields(way, len(rows), typed=typed)
    source, fixed = str(page.location), app.now()

    async def go_on(values: dict[str, Any]) -> Line:
        if typed and values["type"].replace(",", "") != str(len(rows)):
            raise AiwmError(Code.needs_confirmation, f"type {len(rows)} to go on", field="type")
        return await _send(app, page, action, way, [row.id for row in rows], values.get("reason", ""))

    async def everything() -> list[Line]:
        return listed(page.table, rows, misfits, source, fixed, len(every))

    most = max(2, min(SHOWN, app.size.height - 20))
    dialog = FormDialog(
        f"{action.shown}  {_verb(action, way).upper()} {form.plural(len(rows), way.noun).upper()}",
        fields,
        {field.key: "" for field in fields},
        go_on,
        head=listed(page.table, rows, misfits, source, fixed, most),
        everything=everything if len(rows) > most else None,
        foot=lambda texts: foot(way, [row.id for row in rows], texts),
        verb="go on",
        first="type" if typed else "",
    )
    ask_in_dialog(app, dialog, lambda done: say_result(app, done))


def _verb(action: Action, way: Way) -> str:
    return "let go on" if way is _GO_ON else action.label


def _fields(way: Way, count: int, *, typed: bool) -> tuple[FormField, ...]:
    fields: list[FormField] = []
    if way.option:
        fields.append(FormField("reason", Kind.text, default="", help="It is shown with your name."))
    if typed:
        fields.append(FormField("type", Kind.text, required=True, help=f"Type {count} to go on."))
    return tuple(fields)


async def _rows(app: ConsoleApp, page: Page) -> list[Any]:
    """The marked rows as they are now, in the order of the table."""
    about = page.marked()
    text = about.get("where") or Term(Op.any_of, tuple(about.get("ids", ())), "id").text()
    kind = TABLES[page.table]
    found: list[Any] = []
    location = f":{page.table} {text}"
    while True:
        answer = await app.link.call(ViewRead(location=location, top=len(found), size=_CHUNK))
        if answer.matched > MOST:
            message = f"{answer.matched:,} rows are marked: at most {MOST:,} are changed at once"
            raise AiwmError(Code.bad_request, message, fix="/ filters, esc clears the marks")
        found += [msgspec.convert(row, kind) for row in answer.rows]
        if not answer.rows or len(found) >= answer.matched:
            return found


async def _send(app: ConsoleApp, page: Page, action: Action, way: Way, ids: Sequence[str], reason: str) -> Line:
    """One request after the other. What is refused stays marked, and the first refusal is said."""
    refused: dict[str, AiwmError] = {}
    for name in ids:
        try:
            await app.link.call(way.build(name, reason))
        except AiwmError as error:
            if error.code == Code.engine_unreachable:
                raise
            refused[name] = error
    page.mark_only(refused)
    done: Line = ((f"{action.shown} ", "key"), (f"{form.plural(len(ids) - len(refused), way.noun)}: done", "text"))
    if not refused:
        return done
    name, first = next(iter(refused.items()))
    rest = f"   {len(refused)} refused and still marked: {name}: {first.info.message}"
    return (*done, (clean(rest, 400), "broken"))


def listed(table: str, rows: Sequence[Any], misfits: Mapping[str, str], source: str, now: int, most: int) -> list[Line]:
    """Which rows, and no others: the first `most` of them. `source` is the location that they were chosen from, `now` when (Unix ms)."""
    lines: list[Line] = [
        (
            ("These and no others: ", "text"),
            (f"fixed {form.clock(now)} from ", "dim"),
            (clean(source, 200), "text"),
        )
    ]
    for row in rows[:most]:
        glyph, style = state_span(table, row.state) if hasattr(row, "state") else ("", "")
        why = getattr(row, "reason", "") or getattr(row, "note", "") or getattr(row, "error", "") or ""
        lines.append(
            (
                ("  " + fit(clean(row.id, 60), 28) + " ", "strong"),
                (fit(glyph, 14) + " ", style),
                (clean(why, 80), "dim"),
            )
        )
    if len(rows) > most:
        lines.append(((f"  … {len(rows) - most:,} more ", "dim"), ("ctrl+o", "key"), (" lists them all", "dim")))
    if misfits:
        first = next(iter(misfits.values()))
        lines.append(((clean(f"  {len(misfits):,} left out: {first}", 200), "wrong"),))
    return lines


def foot(way: Way, ids: Sequence[str], texts: Mapping[str, str]) -> list[Line]:
    """What comes of it, and the command that does the same, with what is typed by now."""
    reason = texts.get("reason", "").strip()
    option = f" {way.option} {shlex.quote(reason)}" if way.option and reason else ""
    command = f"for each in {' '.join(map(shlex.quote, ids))}; do aiwm {way.command} $each{option}; done"
    return [
        (),
        ((f"{'Afterwards':<15}", "faint"), (way.after, "dim")),
        ((f"{'From the shell':<15}", "faint"), (clean(command, 4000), "text")),
    ]
