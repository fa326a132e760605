"""What needs the operator: rows of the overview's first section. Each one's location is where it is put right."""

from __future__ import annotations

from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean
from aiwm_tui.screens.cells import since, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, para
from aiwm_tui.states import glyph, look
from engine.contract.records import NeedRow


async def explain(link: Link, row: NeedRow, now: int) -> Explained:  # noqa: ARG001
    todo: Line = ((" To do: ", "dim"), (clean(row.press, 200), "key"))
    return Explained("why", (para(row.what, "strong"), para(row.why), todo, facts([("↵ opens", row.location)])))


def _what(row: NeedRow, _: int) -> Span:
    style = look("needs", row.state)
    return f"{glyph(style)} {clean(row.what, 120)}", style


COLUMNS: tuple[Column, ...] = (
    Column("age", "since", since("since_ms", "dim"), right=True, least=6),
    Column("what", "what", _what, most=44),
    Column("why", "why", text("why"), flex=True),
    Column("press", "press", text("press", "key"), most=26, priority=1),
)

SCREEN = TableScreen(
    table="needs",
    columns=COLUMNS,
    empty=((("nothing needs you", "done"),),),
    opens=lambda row: str(row.location),
    explain=explain,
)
