"""The screen of all models: processes that are up, and models that are known and not loaded."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean
from aiwm_tui.screens.cells import number, since, state_column, text
from aiwm_tui.screens.models.memory import plan_lines
from aiwm_tui.screens.models.plots import plots
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, gates, para
from engine.contract.errors import AiwmError
from engine.contract.records import ModelRow
from engine.contract.requests.fleet import ModelExplain
from engine.contract.requests.memory import ModelCrashes, ModelPlan

ELSEWHERE = frozenset({"openai", "anthropic", "hybrid", "command"})
"""Backends of models that take no memory that is planned here."""
_DOWN = frozenset({"absent", "refused", "stopped", "failed"})
_TROUBLED = frozenset({"backoff", "failed"})


async def explain(link: Link, row: ModelRow, now: int) -> Explained:
    why = await link.call(ModelExplain(name=row.model))
    lines: list[Line] = [*gates(why, now)]
    if row.note:
        lines.append(para(row.note, "broken" if row.state in _TROUBLED else "text"))
    if row.progress is not None:
        eta = f", ready in about {form.age(row.eta_ms)}" if row.eta_ms else ""
        lines.append(para(f"{row.progress:.0%} loaded{eta}", "coming"))
    if row.state in _TROUBLED or row.restarts:
        lines += await _crashes(link, row, now)
    if row.state in _DOWN and row.backend not in ELSEWHERE:
        lines += await _plan(link, row, now)
        return Explained("why, and what it takes", tuple(lines))
    if row.backend not in ELSEWHERE:
        lines += _memory(row)
    return Explained("why", tuple(lines))


async def _plan(link: Link, row: ModelRow, now: int) -> list[Line]:
    try:
        return plan_lines(await link.call(ModelPlan(name=row.model)), now)
    except AiwmError as error:
        return [para(f"no plan: {error}", "dim")]


async def _crashes(link: Link, row: ModelRow, now: int) -> list[Line]:
    lines: list[Line] = []
    for crash in await link.call(ModelCrashes(name=row.model, limit=1)):
        lines.append(para(f"crashed {form.moment(crash.ended_ms, now)}: {crash.verdict}", "broken"))
        lines += [((f"   │ {clean(line, 300)}", "dim"),) for line in crash.stderr[-3:]]
    return lines


def _memory(row: ModelRow) -> list[Line]:
    held = [
        ("weights", form.size(row.weights_bytes)),
        ("KV", f"{form.size(row.kv_used_bytes)} of {form.size(row.kv_bytes)}"),
        ("adapters", form.size(row.adapter_bytes)),
        ("scratch", form.size(row.scratch_bytes)),
    ]
    if row.rss_bytes:
        held.append(("resident", form.size(row.rss_bytes)))
    if row.estimate_bytes:
        held.append(("planned", form.size(row.estimate_bytes)))
    uses = row.hits + row.misses
    more = [
        ("adapters hit", f"{row.hits / uses:.1%} of {uses:,}" if uses else form.NONE),
        ("evicted", form.count(row.evictions)),
        ("first token p95", form.span(row.latency_ms) if row.latency_ms else form.NONE),
        ("restarts", form.count(row.restarts)),
        ("pid", str(row.pid) if row.pid else form.NONE),
    ]
    return [facts(held), facts(more)]


def _slots(row: ModelRow, _: int) -> Span:
    if not row.slots:
        return form.NONE, "faint"
    return f"{row.running}/{row.slots}", "text" if row.running else "dim"


def _kv(row: ModelRow, _: int) -> Span:
    if not row.kv_bytes:
        return form.NONE, "faint"
    return f"{form.size(row.kv_used_bytes)}/{form.size(row.kv_bytes)}", "text" if row.kv_used_bytes else "dim"


def _process(row: ModelRow, _: int) -> Span:
    """Its id; the model's name where it has no process, so that a narrow table still says what it is about."""
    return clean(row.id, 40), "dim" if row.state in ("absent", "refused") else "strong"


def _kept(row: ModelRow, now: int) -> Span:
    """`always`, `2h` for what somebody keeps, `15m` after which an idle one goes."""
    if row.keep_until_ms is not None:
        left = "always" if row.keep_until_ms < 0 else form.age(max(0, row.keep_until_ms - now))
        return f"K {left}", "mark"
    if row.state in ("absent", "refused") or row.backend in ELSEWHERE:
        return form.NONE, "faint"
    return ("always", "dim") if row.idle_ms < 0 else (form.exact(row.idle_ms), "dim")


COLUMNS: tuple[Column, ...] = (
    state_column("models"),
    Column("id", "process", _process, most=20, value=lambda row: str(row.id)),
    Column("model", "model", text("model"), most=28, priority=1),
    Column("backend", "backend", text("backend", "dim"), most=10, priority=6),
    Column("where", "on", text("where"), most=10, priority=2),
    Column("weights", "weigh", number("weights_bytes", form.size), right=True, most=7, priority=5),
    Column("kv_used", "KV used", _kv, right=True, most=12, priority=4),
    Column("adapters", "adp", number("adapter_bytes", form.size), right=True, most=6, priority=7),
    Column("running", "run", _slots, right=True, most=7),
    Column("waiting", "wait", number("waiting"), right=True, most=6, priority=8),
    Column("tokens_per_s", "tok/s", number("tokens_per_s", form.speed), right=True, least=5, most=7),
    Column("steps_per_s", "step/s", number("steps_per_s", form.speed, "dim"), right=True, most=7, priority=9),
    Column("age", "for", since("since_ms"), right=True, least=5, priority=3),
    Column("idle", "keep", _kept, right=True, most=9, priority=3),
    Column("note", "now or last error", text("note", "dim"), flex=True),
)

SCREEN = TableScreen(
    table="models",
    columns=COLUMNS,
    empty=(
        (("no models are known: one that ships comes with the program", "dim"),),
        (
            (":start", "key"),
            (" finds servers and directories; ", "dim"),
            ("aiwm model add PATH", "key"),
            (" adds one, ", "dim"),
            ("8", "key"),
            (" workers shows who names one", "dim"),
        ),
    ),
    opens=lambda row: f":models/{row.id}",
    explain=explain,
    plots=plots,
)
