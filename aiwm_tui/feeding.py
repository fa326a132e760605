"""A file of prompts into a queue, as a batch: every line is checked first, by the engine too, then submitted in pieces.

The file lies where the console runs; it is read in a thread, a piece at a time, so that keys go on working however long it is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import msgspec

from aiwm_tui.batchfiles import lines
from aiwm_tui.changing import ask_in_dialog, say_result
from aiwm_tui.forms.fields import FormField, Kind
from aiwm_tui.live.text import Line, clean
from engine.contract.errors import AiwmError, Code
from engine.contract.records import ModelRow
from engine.contract.requests.batches import BatchAdd
from engine.contract.requests.fleet import ModelList
from engine.contract.requests.models import ModelOffer

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.live.link import Link

Item = TypeVar("Item")
Say = Callable[[str], None]
ANSWERS = ".answers.jsonl"
"""What the file of the answers is called after that of the prompts, when nobody says."""
_AGAIN_S = 0.5


class Fed(msgspec.Struct, frozen=True):
    """What became of a file's lines: `added` are new tasks, `known` were in the batch before."""

    total: int
    added: int
    known: int


async def feed(link: Link, path: Path, form: BatchAdd, key: str, say: Say) -> Fed:
    """Check a file whole, then submit it. Raises what is wrong with it, naming the first line; then nothing was submitted."""
    try:
        with path.open("rb") as file:
            total = await _checked(link, path, form, file, key or None, say)
            return await _submitted(link, form, file, key or None, total, say)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise AiwmError(Code.file_unreadable, message, field="file", fix="a file with one JSON object a line") from None


async def _checked(link: Link, path: Path, form: BatchAdd, file: IO[bytes], key: str | None, say: Say) -> int:
    check = lines.Checking(file, key)
    async for piece in _in_thread(lines.chunks(check.good())):
        answer = await link.call(msgspec.structs.replace(form, items=[it.item for it in piece], dry_run=True))
        check.judged(piece, answer.refused)
        say(f"{check.total:,} lines checked …")
    bad = await asyncio.to_thread(check.finish)
    if bad:
        error = lines.bad_file(str(path), bad, check.total)
        message = (
            f"{len(bad):,} of {check.total:,} lines are bad; line {bad[0].line} {bad[0].why}; nothing was submitted"
        )
        raise AiwmError.of(msgspec.structs.replace(error.info, message=message, fix="correct them"))
    return check.total


async def _submitted(link: Link, form: BatchAdd, file: IO[bytes], key: str | None, total: int, say: Say) -> Fed:
    good = (it for it in lines.read(file, key) if isinstance(it, lines.Line))
    added = known = 0
    async for piece in _in_thread(lines.chunks(good)):
        left = {it.item.index: it.item for it in piece}
        while left:
            answer = await link.call(msgspec.structs.replace(form, items=list(left.values())))
            added, known = added + answer.added, known + answer.known
            others = [it for it in answer.refused if it.error.code != Code.queue_full]
            if others:
                raise AiwmError.of(others[0].error)
            left = {it.index: left[it.index] for it in answer.refused}
            if left:
                say(f"{added + known:,} of {total:,} are in; the queue is full, the rest waits for room …")
                await asyncio.sleep(_AGAIN_S)
        say(f"{added + known:,} of {total:,} submitted …")
    return Fed(total, added, known)


async def _in_thread(found: Iterator[Item]) -> AsyncIterator[Item]:
    """What an iterator that reads a file gives, each step in a thread."""
    while (item := await asyncio.to_thread(next, found, None)) is not None:
        yield item


def batch_name(path: Path) -> str:
    """A batch's name after its file: the same file goes on with the same batch."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.split(".")[0]).strip("-._")[:64] or "batch"


def absolute(path: str) -> Path:
    """A path as it was typed, on the machine where the console runs."""
    return Path(path).expanduser().absolute()


async def put_through(app: ConsoleApp, action: Action, form: BatchAdd, file: str, key: str, out: str) -> Line:
    """Submit a file as a batch, have its answers written to `out` (empty: nowhere) while they come, and go to the batch's page."""
    from aiwm_tui.collecting import Collection, begin

    path, to = absolute(file), absolute(out) if out else None
    form = msgspec.structs.replace(form, batch=form.batch or batch_name(path))
    if to is not None and not await asyncio.to_thread(to.parent.is_dir):
        raise AiwmError(Code.file_not_found, f"there is no directory for {out[:200]}", field="out", fix="make it first")

    def say(text: str) -> None:
        app.say(((f"{action.shown} ", "key"), (clean(text, 200), "coming")))

    fed = await feed(app.link, path, form, key, say)
    if to is not None:
        await begin(app, Collection(form.batch, to))
    app.open_location(f":batches/{form.batch}")
    known = f", {fed.known:,} were there before" if fed.known else ""
    return ((f"{action.shown} ", "key"), (f"{fed.added:,} tasks submitted to {clean(form.queue, 64)}{known}", "text"))


# Way 4: file, model, where the answers go


def ask_for_file(app: ConsoleApp, action: Action) -> None:
    """Ask for a file, a model, and where the answers go."""
    ask = partial(app.link.call, ModelList(known=True))
    app.ahead.ask(action, ask, lambda rows: _ask(app, action, rows))


def _ask(app: ConsoleApp, action: Action, rows: Sequence[ModelRow]) -> None:
    from aiwm_tui.screens.dialogs.form import FormDialog

    models = list(dict.fromkeys(row.model for row in rows if row.state != "refused"))
    own = [name for name in models if name != "aiwm-nano"] or models
    fields = (
        FormField(
            "file",
            Kind.text,
            required=True,
            help='One JSON object a line, such as {"prompt": "…"}; it lies where the console runs.',
        ),
        FormField(
            "model",
            Kind.text,
            required=True,
            help=f"One of {', '.join(models[:8]) or 'none yet'}; or a path, or an address.",
        ),
        FormField(
            "out", Kind.text, default="", title="answers go to", help=f"Empty: beside the file, called FILE{ANSWERS}."
        ),
        FormField("template", Kind.text, default="", help="A task template whose defaults go under each line."),
        FormField(
            "key", Kind.text, default="", help="The field of a line that names it in the answers; empty: its number."
        ),
        FormField(
            "batch",
            Kind.text,
            default="",
            help="Empty: called like the file. The same name again goes on where it was.",
        ),
    )

    async def send(values: dict[str, Any]) -> Line:
        offered = await app.link.call(ModelOffer(model=values["model"]))
        form = BatchAdd(batch=values["batch"], queue=offered.queue, items=[], template=values["template"] or None)
        out = values["out"] or f"{values['file']}{ANSWERS}"
        return await put_through(app, action, form, values["file"], values["key"], out)

    shell: tuple[Line, ...] = (
        (("Same from the shell:", "dim"),),
        (("  aiwm task submit QUEUE --file FILE --batch NAME", "key"),),
        (("  aiwm batch wait NAME --out OUT", "key"),),
    )
    texts = {"model": own[0] if own else ""}
    key = "4" if action.id in ("begin", "way_4") else action.shown
    dialog = FormDialog(f"{key}  PUT A FILE OF PROMPTS THROUGH A MODEL", fields, texts, send, verb="begin", head=shell)
    ask_in_dialog(app, dialog, lambda done: say_result(app, done))
