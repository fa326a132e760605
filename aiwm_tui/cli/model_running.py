"""`aiwm model …`: what runs: room for a model and ways to make it, loading, unloading, keeping, restarting, how processes crashed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import msgspec
import typer

from aiwm_tui import typed
from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.output import confirm, hanging, terminal_width
from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code
from engine.contract.requests import memory
from engine.contract.requests.session import EngineStatus

_Size = Callable[[int], str]
_UNITS = {"k": 1_024, "m": 1_048_576}


def register(noun: typer.Typer) -> None:
    command(noun, "plan", memory.ModelPlan, omit=("context",))(_plan)
    command(noun, "load", memory.ModelLoad, omit=("context", "evict", "gpu", "yes"))(_load)
    command(noun, "unload", memory.ModelUnload)(_unload)
    command(noun, "keep", memory.ModelKeep, omit=("keep_ms",))(_keep)
    command(noun, "restart", memory.ModelRestart)(_restart)
    command(noun, "crashes", memory.ModelCrashes)(_crashes)
    plain(noun, memory.DeviceList)
    plain(noun, memory.ModelStatus)


Context = Annotated[
    str | None, typer.Option("--ctx", metavar="TOKENS", help="the context, such as 8192 or 16k", show_default=False)
]
Evict = Annotated[
    list[str] | None,
    typer.Option("--evict", metavar="PROCESS", help="unload it first; may be given several times", show_default=False),
]
Gpu = Annotated[
    list[int] | None,
    typer.Option("--gpu", metavar="N", help="the GPU; may be given several times", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask", show_default=False)]


def _plan(cli: Cli, request: memory.ModelPlan, *, ctx: Context = None) -> None:
    """Whether a model fits, where, and numbered ways to make room: what each frees, who is hit, when it is loaded. JSON: kind plan.

    `aiwm model load NAME --way N` goes a way."""
    plan = cli.call(msgspec.structs.replace(request, context=tokens(ctx)))
    cli.output.one("plan", plan, lambda: plan_text(plan))


def _load(
    cli: Cli,
    request: memory.ModelLoad,
    *,
    ctx: Context = None,
    evict: Evict = None,
    gpu: Gpu = None,
    yes: Yes = False,
) -> None:
    """Load a model and wait until it is ready. Idle models make room by themselves; when that is not enough it is refused with the numbers,
    and --way goes a way of `aiwm model plan`. JSON: kind loaded."""
    made = msgspec.structs.replace(
        request, context=tokens(ctx), evict=tuple(evict or ()), gpu=tuple(gpu or ()), yes=yes
    )
    with cli.connected() as client, _progress(cli, made.name):
        try:
            loaded = client.call(made)
        except AiwmError as error:
            if error.code != Code.needs_confirmation or not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise
            confirm(cli.output, f"{error.info.message}. Go it?", yes=False)
            loaded = client.call(msgspec.structs.replace(made, yes=True))
        cli.output.one("loaded", loaded, lambda: _loaded_text(loaded))
        _say_if_it_ends(cli, client)


@contextmanager
def _progress(cli: Cli, name: str) -> Iterator[None]:
    """Say on a terminal, now and then, how far a load is that takes long."""
    if not cli.output.for_people or not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    teller = threading.Thread(target=_tell_progress, args=(cli, name, over), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _tell_progress(cli: Cli, name: str, over: threading.Event) -> None:
    """On a connection of its own, every second until it is over."""
    said = ""
    if over.wait(1.0):
        return
    try:
        with cli.connected(spawn=False) as client:
            while not over.wait(1.0):
                for row in client.call(memory.ModelStatus(name=name)):
                    share = f" {row.progress:.0%}" if row.progress is not None else ""
                    text = f"{row.id} {row.state}{share}" + (f": {row.note}" if row.note else "")
                    if text != said and row.state in ("starting", "limited", "draining"):
                        said = text
                        cli.output.talk(text)
    except AiwmError:
        pass  # whoever waits for the load is told what happened


def _say_if_it_ends(cli: Cli, client: BlockingClient) -> None:
    """An engine that was started for this command takes its models with it."""
    if not client.call(EngineStatus()).dispatching:
        cli.output.talk(
            "no engine runs on this home but for this command: it ends now, and its models with it (aiwm engine run)"
        )


def _unload(cli: Cli, request: memory.ModelUnload) -> None:
    """Unload a model, or one process of it (NAME.0): after what it does, or --now. Work for it loads it again; with --hold REASON nothing
    does until `aiwm model load`. JSON: kind stopped."""
    stopped = cli.call(request)
    cli.output.one("stopped", stopped, lambda: _stopped_text(stopped, request.now))


def _keep(
    cli: Cli,
    request: memory.ModelKeep,
    *,
    how_long: Annotated[str, typer.Argument(metavar="TIME", help="such as 2h; always; off")] = "always",
) -> None:
    """Keep a model loaded: it does not go for being idle, nor to make room by itself. JSON: kind kept."""
    words = {"always": -1, "off": 0}
    keep_ms = words[how_long] if how_long in words else typed.duration_ms(how_long, "TIME")
    with cli.connected() as client:
        kept = client.call(msgspec.structs.replace(request, keep_ms=keep_ms))
        cli.output.one("kept", kept, lambda: _kept_text(kept))
        _say_if_it_ends(cli, client)


def _restart(cli: Cli, request: memory.ModelRestart) -> None:
    """Start a model's processes again, or one (NAME.0): after what they do, or --now. One that was given up or held is tried again.
    JSON: kind stopped."""
    stopped = cli.call(request)
    cli.output.one(
        "stopped", stopped, lambda: _stopped_text(stopped, request.now) + f"\n{stopped.model} is being started again"
    )


def _crashes(cli: Cli, request: memory.ModelCrashes) -> None:
    """How a model's processes crashed, the latest first: exit code or signal, what that means, the last lines of the log. JSON: kind
    crashes."""
    show_crashes(cli, request.name, request.limit)


def show_crashes(cli: Cli, name: str, limit: int = 3) -> None:
    """Print a model's last crashes."""
    found = cli.call(memory.ModelCrashes(name=name, limit=limit))
    if cli.output.for_people:
        if found:
            cli.output.one("crashes", found, lambda: "\n\n".join(_crash_text(it) for it in found))
        else:
            cli.output.talk(f"{name} has not crashed")
    else:
        cli.output.many("crash", "crashes", found, len(found))


def tokens(text: str | None) -> int:
    """`16k` as tokens (1k is 1,024); 0 when nothing was said."""
    if text is None:
        return 0
    number, unit = (text[:-1], _UNITS[text[-1].lower()]) if text[-1:].lower() in _UNITS else (text, 1)
    if not number.isdigit() or not 1 <= int(number) * unit <= 100_000_000:
        raise AiwmError(
            Code.bad_request, f'--ctx: "{text[:20]}" is no number of tokens', field="context", fix="--ctx 16k"
        )
    return int(number) * unit


def plan_text(plan: memory.MemoryPlan) -> str:
    """A plan for people: the sum, the devices, then the ways. What is too long for the terminal goes on below itself."""
    return "\n".join(part for line in _plan_lines(plan) for part in hanging(line, 6))


def _plan_lines(plan: memory.MemoryPlan) -> list[str]:
    from aiwm_tui.live.format import plural, size
    from aiwm_tui.live.text import clean, fit, width

    parts = plan.estimate
    sums = [f"{size(getattr(parts, name))} {name}" for name in ("weights", "kv", "adapters", "scratch", "process")]
    measured = f"; last measured {size(plan.measured)}" if plan.measured else ""
    what = f"{plural(plan.slots, 'request')} of {plan.context:,} tokens"
    lines = [f"{plan.model} plan {plan.id}: {' + '.join(sums)} = {size(parts.total)} ({what}{measured})"]
    for space in plan.spaces:
        lines.append(f"{space.id:<5} {space.name}: {size(space.free)} free of {size(space.total)}")
        lines += [f"      not ours: {other}" for other in space.others]
    if plan.note:
        lines.append(plan.note)
    lines = [clean(line) for line in lines]
    if not plan.ways:
        return lines
    rows = [[clean(cell) for cell in _way_cells(way, size)] for way in plan.ways]
    head = ("", "WAY", "FREES", "WHO IS HIT", "LEAVES", "READY")
    widths = [max(width(row[column]) for row in (head, *rows)) for column in range(len(head))]
    most = terminal_width()
    if most is not None and sum(widths) + 2 * len(widths) > most:
        # Too narrow for a table: a way is two lines.
        for number, text, frees, hit, leaves, ready in rows:
            lines += [f"{number}  {text}", f"   frees {frees} · hits {hit} · {leaves} · ready {ready}"]
        return lines
    lines += [
        "  ".join(fit(cell, wide) for cell, wide in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    return lines


def _way_cells(way: memory.PlanWay, size: _Size) -> tuple[str, str, str, str, str, str]:
    short = f"not enough: {size(-way.spare)} short" if not way.fits else f"{size(way.spare)} on {way.device}"
    ready = "–"
    if way.fits and way.load_ms:
        at = datetime.fromtimestamp(time.time() + way.load_ms / 1000).strftime("%H:%M:%S")
        ready = f"in {way.load_ms / 1000:.1f}s, ~{at}"
    hit = "; ".join(way.hit) or "–"
    return str(way.number), way.text, size(way.frees) if way.frees else "–", hit, short, ready


def _loaded_text(loaded: memory.ModelLoaded) -> str:
    from aiwm_tui.live.format import size

    took = f" in {loaded.load_ms / 1000:.1f}s" if loaded.load_ms else ""
    text = f"{loaded.process} is ready{took}"
    if loaded.estimate:
        share = f" ({loaded.measured / loaded.estimate - 1:+.1%})" if loaded.measured else ""
        text += f": estimate {size(loaded.estimate)}, measured {size(loaded.measured)}{share}"
    return text + (f"\nunloaded: {', '.join(loaded.unloaded)}" if loaded.unloaded else "")


def _stopped_text(stopped: memory.ModelStopped, now: bool) -> str:
    if not stopped.processes:
        return f"{stopped.model} is not loaded"
    when = "now" if now or not stopped.running else f"after its {stopped.running}"
    return f"{', '.join(stopped.processes)} unloads {when}"


def _kept_text(kept: memory.ModelKept) -> str:
    if kept.until_ms is None:
        return f"{kept.model} is kept"
    if not kept.until_ms:
        return f"{kept.model} is not kept any more"
    return f"{kept.model} is kept until {datetime.fromtimestamp(kept.until_ms / 1000).isoformat(' ', 'seconds')}"


def _crash_text(crash: memory.Crash) -> str:
    ended = datetime.fromtimestamp(crash.ended_ms / 1000).isoformat(" ", "seconds")
    lived = (crash.ended_ms - crash.started_ms) / 1000
    how = crash.signal or f"exit code {crash.code}"
    lines = [
        f"{crash.process}  {ended}  {how} after {lived:.1f}s, {crash.requests} requests in it",
        f"  {crash.verdict}",
    ]
    return "\n".join([*lines, *(f"  │ {line}" for line in crash.stderr)])
