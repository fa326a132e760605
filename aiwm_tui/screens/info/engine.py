"""The engine: how it is, whether tasks start, what a restart would take back. `D` quiets it for maintenance, `P` lets it go on."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, clean
from aiwm_tui.screens.info.page import InfoScreen
from aiwm_tui.screens.wording import facts, gates, hints, para
from engine.contract.query import Location
from engine.contract.requests.session import EngineStatus, EngineStatusResult, EngineWhy
from engine.contract.why import Why

Answer = tuple[EngineStatusResult, Why]


async def _ask(link: Link, location: Location, now: int) -> Answer:  # noqa: ARG001
    return await link.call(EngineStatus()), await link.call(EngineWhy())


def _lines(answer: Answer, now: int) -> list[Line]:
    status, why = answer
    lines: list[Line] = []
    quiet = status.maintenance
    if quiet is not None:
        reason = quiet.reason or "no reason given"
        said = (
            f" ‖ maintenance: {clean(reason, 200)}, by {clean(quiet.by, 60)} since {form.moment(quiet.since_ms, now)}"
        )
        lines.append(((said, "paused"),))
        left = (
            f"{form.plural(status.running, 'task')} to go" if status.running else "nothing runs: the machine is quiet"
        )
        lines.append(para(f"{left}; {status.waiting:,} wait. P lets it go on; it outlasts restarts."))
    elif not status.dispatching:
        lines.append(para("Nothing starts: a subcommand started this engine, and nobody waits for work.", "held"))
    else:
        lines.append(((" ● tasks start", "works"), (f"  run {status.running:,}  wait {status.waiting:,}", "text")))
    lines += [
        (),
        ((" ENGINE", "title"),),
        facts([("version", status.version), ("pid", str(status.pid)), ("up", form.since(status.started_ms, now))]),
        facts([("home", status.home), ("storage", status.storage), ("clients", str(status.clients))]),
        facts([("commits", form.count(status.commits)), ("late answers dropped", form.count(status.fenced))]),
    ]
    if status.unwritten:
        lines.append(para(f"{form.plural(status.unwritten, 'end')} of tasks wait until storage works again", "broken"))
    lines += [(), ((" WHAT WAITS, AND FOR WHAT", "title"),), *gates(why, now), ()]
    lines.append(hints((" D", "start nothing more, for maintenance"), ("P", "go on"), ("q", "leave, drain or stop")))
    return lines


def _status(answer: Answer) -> Line:
    return (("‖ maintenance", "paused"),) if answer[0].maintenance is not None else (("● works", "works"),)


SCREEN = InfoScreen(_ask, _lines, _status)
