"""`aiwm adapter`: which there are, their versions, which one is current, and what the model processes keep of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from aiwm_tui.cli.answers import show
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.comparing import compare_adapters
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import fields_text
from engine.contract.requests import adapters
from engine.contract.requests.base import result_type
from engine.contract.requests.comparisons import AdapterCompare


def add(app: typer.Typer) -> None:
    noun = group(app, "adapter", "Adapters (LoRA): versions with one current, who uses them, what the processes keep.")
    command(noun, "list", adapters.AdapterList, omit=("where",))(_list)
    command(noun, "inspect", adapters.AdapterInspect)(_inspect)
    command(noun, "versions", adapters.AdapterVersions)(_versions)
    command(noun, "add", adapters.AdapterAdd, names={"path": "directory"})(_add)
    command(noun, "use", adapters.AdapterChoose)(_use)
    command(noun, "pin", adapters.AdapterPin)(_pin)
    command(noun, "compare", AdapterCompare, omit=("prompt", "weights", "seed"))(compare_adapters)
    command(noun, "prefetch", adapters.AdapterPrefetch)(_prefetch)
    command(noun, "evict", adapters.AdapterEvict)(_evict)
    command(noun, "stats", adapters.AdapterStats)(_stats)
    command(noun, "remove", adapters.AdapterRemove)(_remove)


def _list(
    cli: Cli,
    request: adapters.AdapterList,
    *,
    where: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILTER", help="such as state:resident name:invoice-*", show_default=False),
    ] = None,
) -> None:
    """Every version of every adapter, all or those that match. JSON: kind adapters."""
    found = cli.call(msgspec.structs.replace(request, where=" ".join(where or [])))
    show(cli.output, result_type(adapters.AdapterList), found)


def _inspect(cli: Cli, request: adapters.AdapterInspect) -> None:
    """One version (NAME@vN), or the current one (NAME): what its files say, what is wrong with it, who uses it. JSON: kind adapter."""
    detail = cli.call(request)
    cli.output.one("adapter", detail, lambda: detail_text(detail))


def _versions(cli: Cli, request: adapters.AdapterVersions) -> None:
    """The versions of an adapter, the newest first: when each came and was current, and how its tasks ended. JSON: kind versions."""
    found = cli.call(request)
    cli.output.many("version", "versions", found, len(found), columns="versions")
    if cli.output.for_people:
        for it in found:
            for reign in it.reigns[-3:]:
                cli.output.talk(_reign(it.version, reign))


def _add(cli: Cli, request: adapters.AdapterAdd) -> None:
    """Register a PEFT directory as the next version of an adapter, and print its name. What is in the home's adapters/ needs no adding.

    JSON: kind adapter."""
    where = str(Path(request.path).expanduser().absolute())
    detail = cli.call(msgspec.structs.replace(request, path=where))
    cli.output.one("adapter", detail, lambda: detail.row.id)
    if not detail.row.current:
        cli.output.talk(f"not current: aiwm adapter use {detail.row.id}")


def _use(cli: Cli, request: adapters.AdapterChoose) -> None:
    """Make a version the current one (NAME@vN): whoever follows the current one begins with it. JSON: kind used.

    What runs ends with what it began with. With --delay it is done later; aiwm undo takes it back, before and after."""
    used = cli.call(request)
    cli.output.one("used", used, lambda: f"{used.name}  {used.before or '–'} → {used.after}")
    if not used.operation:
        cli.output.talk(f"{used.after} is the current one already: nothing was changed")
        return
    if used.running:
        cli.output.talk(f"running with another version, and end with it: {', '.join(used.running)}")
    if used.pinned:
        cli.output.talk(
            f"name a version themselves: {', '.join(used.pinned)} (aiwm adapter pin DEFINITION {used.name})"
        )
    cli.output.talk(f"aiwm undo {used.operation} takes it back")


def _pin(cli: Cli, request: adapters.AdapterPin) -> None:
    """Let a worker definition use an adapter: NAME@vN pins that version, NAME follows the current one, --remove takes it out.

    Tasks that start from now on use it. aiwm undo takes it back. JSON: kind pinned."""
    pinned = cli.call(request)
    uses = ", ".join(f"{use.name} × {use.weight:g}" for use in pinned.adapters) or "no adapter"
    cli.output.one("pinned", pinned, lambda: f"{pinned.definition}  {uses}")
    cli.output.talk(f"aiwm undo {pinned.operation} takes it back")


def _prefetch(cli: Cli, request: adapters.AdapterPrefetch) -> int:
    """Bring adapters into the processes of their base model before a task needs them; with --keep they stay.

    Exit code: 1 when there was no room for one. JSON: kind prefetched."""
    found = cli.call(request)
    cli.output.many("prefetched", "prefetched", found, len(found), columns="prefetched")
    return ExitCode.ok if all(it.ready for it in found) else ExitCode.failed


def _evict(cli: Cli, request: adapters.AdapterEvict) -> int:
    """Drop adapters from every model process, kept ones too; those of running requests stay.

    Exit code: 1 when one is in use. JSON: kind evicted."""
    found = cli.call(request)
    cli.output.many("evicted", "evicted", found, len(found), columns="evicted")
    return ExitCode.failed if any(it.in_use for it in found) else ExitCode.ok


def _stats(cli: Cli, request: adapters.AdapterStats) -> None:
    """The adapter caches, one a model process: entries, hits, misses, prefetches, evictions, load times. JSON: kind caches."""
    found = cli.call(request)
    empty = "no model process is up (aiwm model load NAME)"
    cli.output.many("cache", "caches", found, len(found), columns="caches", empty=empty)


def _remove(cli: Cli, request: adapters.AdapterRemove) -> None:
    """Forget a version that was registered, or whose files are gone. No file is removed. JSON: kind removed."""
    gone = cli.call(request)
    cli.output.one("removed", gone, lambda: f"- {gone.name}")
    cli.output.talk(f"its files stay in {gone.path}")


def detail_text(detail: adapters.AdapterDetail) -> str:
    """A version for people."""
    from aiwm_tui.live.text import clean

    row = {name: value for name, value in msgspec.structs.asdict(detail.row).items() if value not in (None, "", ())}
    parts = [fields_text(row)]
    if detail.problem is not None:
        fix = f" ({detail.problem.fix})" if detail.problem.fix else ""
        parts.append(clean(f"refused: {detail.problem.message}{fix}"))
    if detail.facts is not None:
        parts.append("its files say\n" + fields_text(detail.facts, "  "))
    known = {"parent": detail.parent, "source": detail.source, "made_ms": detail.made_ms}
    parts.append(fields_text(known | {"follow": detail.follow, "pin": detail.pin}))
    return "\n".join(parts)


def _reign(version: int, reign: adapters.Reign) -> str:
    from aiwm_tui.live.format import moment

    now = reign.to_ms or reign.from_ms
    until = "now" if reign.to_ms is None else moment(reign.to_ms, now)
    reason = f": {reign.reason}" if reign.reason else ""
    return f"v{version} current from {moment(reign.from_ms, now)} to {until}, by {reign.by}{reason}"
