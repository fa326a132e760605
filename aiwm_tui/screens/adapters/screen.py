"""The screen of all adapters: every version, where it is loaded, who uses it, how its tasks end."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean, fit
from aiwm_tui.screens.adapters.plots import plots
from aiwm_tui.screens.cells import number, state_column, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, failure, hints
from engine.contract.records import AdapterRow
from engine.contract.requests.adapters import (
    AdapterDetail,
    AdapterInspect,
    AdapterVersion,
    AdapterVersions,
)

_SHOWN = 6


async def explain(link: Link, row: AdapterRow, now: int) -> Explained:
    detail = await link.call(AdapterInspect(name=row.id))
    lines: list[Line] = []
    if detail.problem is not None:
        lines += failure(detail.problem)
    versions = await link.call(AdapterVersions(name=row.name))
    lines += version_lines(versions, row.version, now)
    lines += _who(detail, versions, row)
    return Explained("versions and who uses it", tuple(lines))


def version_lines(versions: list[AdapterVersion], chosen: int, now: int) -> list[Line]:
    """The history of an adapter, the version under the cursor marked; `out p50` is the median of tokens out."""
    lines: list[Line] = [((_row("ver", "made", "by", "from", "tasks", "ok", "out p50", "current"), "head"),)]
    for it in versions[:_SHOWN]:
        ok = form.NONE if it.ok is None else f"{it.ok:.1%}"
        p50 = form.count(None if it.tokens_out_p50 is None else int(it.tokens_out_p50))
        parent = it.parent.rpartition("@")[2] or form.NONE
        made = form.moment(it.made_ms, now)
        cells = _row(f"v{it.version}", made, it.by, parent, form.count(it.tasks), ok, p50, _reign(it, now))
        mark = "›" if it.version == chosen else " "
        lines.append(((mark, "mark"), (cells[1:], "text" if it.version == chosen else "dim")))
    if len(versions) > _SHOWN:
        lines.append(((f"  … {len(versions) - _SHOWN} older ones", "dim"),))
    return lines


def _row(version: str, made: str, by: str, parent: str, tasks: str, ok: str, p50: str, current: str) -> str:
    return (
        f"  {fit(version, 5)}{fit(made, 13)}{fit(clean(by, 40), 9)} {fit(clean(parent, 40), 5)}{tasks:>7}{ok:>7}"
        f"{p50:>9}  {clean(current, 200)}"
    )


def _reign(version: AdapterVersion, now: int) -> str:
    if not version.reigns:
        return ""
    last = version.reigns[-1]
    if last.to_ms is None:
        reason = f": {last.reason}" if last.reason else ""
        return f"since {form.moment(last.from_ms, now)} by {last.by}{reason}"
    return f"{form.moment(last.from_ms, now)}–{form.moment(last.to_ms, now)}"


def _who(detail: AdapterDetail, versions: list[AdapterVersion], row: AdapterRow) -> list[Line]:
    running = next((it.running for it in versions if it.version == row.version), ())
    known = [
        ("follow the current one", ", ".join(detail.follow)),
        ("pinned by", ", ".join(detail.pin)),
        ("run with it", ", ".join(running[:8])),
        ("loaded in", ", ".join(row.processes)),
    ]
    lines: list[Line] = []
    said = [(label, value) for label, value in known if value]
    if said:
        lines.append(facts(said))
    if detail.facts is not None:
        of = detail.facts
        parts = [("layers", str(of.layers)), ("projections", " ".join(of.projections)), ("dtype", of.dtype)]
        lines.append(facts([*parts, ("files", detail.row.path)]))
    if not row.current and row.state != "refused":
        said_running = (
            f"; {form.plural(len(running), 'running task')} {'ends' if len(running) == 1 else 'end'} with it"
            if running
            else ""
        )
        lines.append(((" V", "key"), (f" sets it current: what starts then uses it{said_running}", "dim")))
    if row.note and detail.problem is None:
        lines.append(((f" {clean(row.note, 300)}", "text"),))
    return lines


def _current(row: AdapterRow, _: int) -> Span:
    return ("cur", "mode") if row.current else ("", "faint")


def _share(value: float | None) -> Span:
    if value is None:
        return form.NONE, "faint"
    return f"{value:.1%}", "text" if value >= 0.9 else "wrong"


def _hit(row: AdapterRow, _: int) -> Span:
    return (f"{row.hits / row.uses:.1%}", "text") if row.uses else (form.NONE, "faint")


def _used_by(row: AdapterRow, _: int) -> Span:
    """Who uses it; of a refused one, why."""
    if row.state == "refused":
        return clean(row.note, 240), "broken"
    return (clean(" ".join(row.used_by), 240), "dim") if row.used_by else (form.NONE, "faint")


def _milliseconds(row: AdapterRow, _: int) -> Span:
    return (form.NONE, "faint") if row.load_ms is None else (form.span(row.load_ms), "dim")


COLUMNS: tuple[Column, ...] = (
    state_column("adapters"),
    Column("id", "adapter", text("id", "strong"), most=30),
    Column("current", "cur", _current, most=3),
    Column("base", "base", text("base"), most=18, priority=2),
    Column("rank", "rank", number("rank", style="dim"), right=True, most=5, priority=8),
    Column("size", "size", number("size_bytes", form.size), right=True, most=6, priority=5),
    Column("in_use", "in use", number("in_use"), right=True, most=6),
    Column("uses", "used 1h", number("uses"), right=True, most=8, priority=1),
    Column("hits", "hit 1h", _hit, right=True, most=7, priority=3),
    Column("evictions", "evict", number("evictions"), right=True, most=6, priority=6),
    Column("load", "load", _milliseconds, right=True, most=6, priority=7),
    Column("ok", "ok 24h", lambda row, _: _share(row.ok), right=True, most=7, priority=1),
    Column("digest", "digest", lambda row, _: (clean(row.digest, 6) or form.NONE, "faint"), most=6, priority=9),
    Column("used_by", "used by", _used_by, flex=True, value=lambda row: ",".join(row.used_by)),
)

SCREEN = TableScreen(
    table="adapters",
    columns=COLUMNS,
    empty=(
        (("no adapters: directories in the home's adapters/ appear by themselves", "dim"),),
        hints(("N", "registers one that lies elsewhere")),
    ),
    opens=lambda row: f":adapters/{row.id}",
    explain=explain,
    plots=plots,
    events=lambda row: f"about:{row.name},{row.id}",
)
