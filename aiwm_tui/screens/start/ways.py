"""The ways to begin, as rows: what each does here, or why it cannot be gone and what would make it possible. Pure."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.text import Line, clean
from aiwm_tui.screens.start.facts import Facts, port_of, shortened
from aiwm_tui.screens.wording import para
from engine.contract.records import Record

MESSAGES = 60
"""How many messages the first way puts through the toy model."""


class WayRow(Record, frozen=True, kw_only=True):
    """A way to begin; its id is its number. `barred` says why it cannot be gone (empty: it can). `strip` is what it does exactly, `shell`
    the same for the shell."""

    what: str
    note: str
    strip: str
    shell: str
    barred: str = ""


def ways(facts: Facts, *, read_only: bool) -> list[WayRow]:
    """The five ways, as things are now."""
    found = [_try_toy(facts), _servers(facts), _disk(facts), _file(), _worker()]
    if not read_only:
        return found
    why = "this console is read-only: nothing can be added or submitted"
    return [found[0], *(_barred(way, why) for way in found[1:])]


def _barred(way: WayRow, why: str) -> WayRow:
    return WayRow(id=way.id, what=way.what, note=why, strip=way.strip, shell=way.shell, barred=why)


def _try_toy(facts: Facts) -> WayRow:
    toy = facts.toy
    way = WayRow(
        id="1",
        what=f"run {MESSAGES} real messages on the toy model",
        note="about 10 s, in a home of its own; nothing of it stays",
        strip="An engine of its own starts in a temporary home, answers messages whose answers are known, says how many were right,"
        " and is removed with everything it made. This home does not change.",
        shell="aiwm demo --headless",
    )
    if toy is not None and toy.state in ("failed", "refused"):
        return _barred(way, f"the toy model does not run here: {clean(toy.note, 120)}")
    return way


def _servers(facts: Facts) -> WayRow:
    servers = facts.detected.servers if facts.detected is not None else ()
    new = [it for it in servers if not it.known_as and not it.needs_key]
    keyed = [it for it in servers if it.needs_key]
    base = WayRow(
        id="2",
        what="use the models of a server that runs",
        note="",
        strip="Each of its models becomes one that workers may name, with a worker definition, a pool and a queue of its name. The server"
        " is asked for its list and for nothing else; it is neither restarted nor stopped.",
        shell="aiwm model add http://127.0.0.1:8080 --all",
    )
    if new:
        server = new[0]
        who = f"{clean(server.program or 'the server', 30)} on {port_of(server.url)}"
        what = f"use the {form.plural(len(server.models), 'model')} behind {who}"
        return _with(
            base, what=what, note="nothing is restarted; it stays as it is", shell=f"aiwm model add {server.url} --all"
        )
    if facts.detected is None:
        return _with(base, note="looking for servers …")
    if keyed:
        note = f"{port_of(keyed[0].url)} needs a key: [keys.NAME] in config.toml, then its name"
        return _with(base, note=note, shell=f"aiwm model add {keyed[0].url} --remote MODEL --key NAME")
    if servers:
        return _with(
            base, note=f"in use already: {clean(', '.join(servers[0].known_as[:4]), 60)}; or say another address"
        )
    return _with(base, note="none answers on this machine: start one, or say its address")


def _disk(facts: Facts) -> WayRow:
    directories = facts.detected.directories if facts.detected is not None else ()
    base = WayRow(
        id="3",
        what="use a model from a directory",
        note="",
        strip="Every model there is judged by its headers: what it is, what it needs, where that fits, what runs it. Nothing is copied."
        " ↵ on one adds it and loads it, by a way of its plan where there is no room.",
        shell="aiwm model check ~/models, then aiwm model add PATH",
    )
    if facts.detected is None:
        return _with(base, note="looking for models …")
    if directories:
        place = shortened(directories[0].path)
        shell = f"aiwm model check {directories[0].path}, then aiwm model add PATH"
        return _with(
            base,
            what=f"use a model from {place}",
            note="shows what each needs and whether it fits, then loads one",
            shell=shell,
        )
    return _with(base, note="none in the usual places: say where they lie")


def _file() -> WayRow:
    return WayRow(
        id="4",
        what="put a file of prompts (JSONL) through a model",
        note="asks: file, model, where the answers go",
        strip='One JSON object a line, such as {"prompt": "…"}. Every line is checked before the first is submitted; answers are written'
        " in the order of the file while they come. After a stop it goes on where it was.",
        shell="aiwm task submit QUEUE --file in.jsonl --batch NAME; aiwm batch wait NAME --out out.jsonl",
    )


def _worker() -> WayRow:
    return WayRow(
        id="5",
        what="make your first worker, step by step",
        note="definition, pool, queue, first task; made only at the last step",
        strip="Four short forms, each checked by the engine. esc goes a step back. At the end it shows the commands that do the same, makes"
        " all of it, and runs a first task whose answer you see being written.",
        shell="aiwm worker create …; aiwm pool create …; aiwm queue create …; aiwm task submit …",
    )


def _with(way: WayRow, *, what: str = "", note: str = "", shell: str = "") -> WayRow:
    return WayRow(
        id=way.id,
        what=what or way.what,
        note=note or way.note,
        strip=way.strip,
        shell=shell or way.shell,
        barred=way.barred,
    )


def explained(way: WayRow) -> tuple[Line, ...]:
    """What the strip says of a way."""
    lines: list[Line] = []
    if way.barred:
        lines.append(((" ✗ ", "broken"), (clean(way.barred, 300), "text")))
    lines += [para(way.strip), ((" Same from the shell:  ", "dim"), (clean(way.shell, 300), "key"))]
    return tuple(lines)


COLUMNS: tuple[Column, ...] = (
    Column("", "", lambda row, _: (row.id, "off" if row.barred else "key"), right=True, most=3),
    Column("", "START HERE", lambda row, _: (row.what, "off" if row.barred else "strong"), most=48),
    Column("", "what happens", lambda row, _: (row.note, "off" if row.barred else "dim"), flex=True),
)
