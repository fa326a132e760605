"""The screen of all model processes."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Span
from aiwm_tui.screens.cells import alarming, number, since, state_column, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, gates, para
from engine.contract.records import ModelRow
from engine.contract.requests.fleet import ModelExplain


async def explain(link: Link, row: ModelRow, now: int) -> Explained:
    why = await link.call(ModelExplain(name=row.model))
    memory = facts(
        [
            ("weights", form.size(row.weights_bytes)),
            ("KV", f"{form.size(row.kv_used_bytes)} of {form.size(row.kv_bytes)}"),
            ("resident", form.size(row.rss_bytes)),
            ("pid", str(row.pid) if row.pid else form.NONE),
            ("restarts", str(row.restarts)),
        ]
    )
    note = [para(row.note, "text")] if row.note else []
    return Explained("why", (*gates(why, now), *note, memory))


def _slots(row: ModelRow, _: int) -> Span:
    return f"{row.running}/{row.slots}", "text" if row.running else "dim"


def _kv(row: ModelRow, _: int) -> Span:
    if not row.kv_bytes:
        return form.NONE, "faint"
    return f"{form.size(row.kv_used_bytes)}/{form.size(row.kv_bytes)}", "text" if row.kv_used_bytes else "dim"


COLUMNS: tuple[Column, ...] = (
    state_column("models"),
    Column("id", "process", text("id", "strong"), most=20),
    Column("model", "model", text("model"), most=28, priority=5),
    Column("backend", "backend", text("backend", "dim"), most=12, priority=4),
    Column("where", "on", text("where"), most=8, priority=3),
    Column("running", "run", _slots, right=True, most=9),
    Column("waiting", "wait", number("waiting"), right=True, most=7, priority=2),
    Column("tokens_per_s", "tok/s", number("tokens_per_s", form.speed), right=True, least=5, most=7),
    Column("steps_per_s", "step/s", number("steps_per_s", form.speed, "dim"), right=True, most=7, priority=7),
    Column("weights", "weigh", number("weights_bytes", form.size), right=True, most=7, priority=6),
    Column("kv_used", "KV used", _kv, right=True, most=12, priority=8),
    Column("adapters", "adp", number("adapters"), right=True, most=4, priority=9),
    Column("restarts", "restarts", alarming("restarts", "wrong"), right=True, most=8, priority=10),
    Column("age", "for", since("since_ms"), right=True, least=5, priority=1),
    Column("note", "now or last error", text("note", "dim"), flex=True),
)

SCREEN = TableScreen(
    table="models",
    columns=COLUMNS,
    empty=(
        (("no model process runs: one starts with the first task that needs it", "dim"),),
        (("8", "key"), (" workers shows which definitions name a model", "dim")),
    ),
    opens=lambda row: f":models/{row.id}",
    explain=explain,
)
