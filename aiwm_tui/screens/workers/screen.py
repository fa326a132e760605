"""The screen of all worker definitions."""

from __future__ import annotations

from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, clean
from aiwm_tui.screens.cells import text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, para
from engine.contract.records import WorkerRow
from engine.contract.requests.fleet import WorkerShow
from engine.contract.requests.tools import ToolList, ToolRow


async def explain(link: Link, row: WorkerRow, now: int) -> Explained:  # noqa: ARG001
    definition = (await link.call(WorkerShow(name=row.id))).definition
    lines: list[Line] = []
    if definition.description:
        lines.append(para(definition.description))
    if definition.system:
        lines.append(((" system  ", "faint"), (clean(definition.system, 400), "text")))
    sampling = definition.sampling
    lines.append(
        facts(
            [
                ("temperature", f"{sampling.temperature:g}"),
                ("top-p", f"{sampling.top_p:g}"),
                ("max tokens", str(sampling.max_tokens)),
                ("stop", " ".join(sampling.stop) or "–"),
                ("adapters", " ".join(f"{use.name}×{use.weight:g}" for use in definition.adapters) or "none"),
            ]
        )
    )
    lines.append(
        facts(
            [
                ("used by", ", ".join(row.pools) or "no pool"),
                ("sources", " ".join(definition.sources) or "none"),
                ("supervisor", definition.supervisor or "none"),
                ("digest", row.digest[:16]),
            ]
        )
    )
    if definition.tools_allow:
        lines += tool_lines(await link.call(ToolList(definition=row.id)))
    else:
        lines.append(facts([("tools", "none: it has no allow list")]))
    return Explained("definition", tuple(lines))


def tool_lines(tools: list[ToolRow]) -> list[Line]:
    """What the gate lets it call, what only with a person's approval, and what it refuses although it is on the allow list."""
    lines = []
    for verdict, label in (("allowed", "may call"), ("approval", "asks before")):
        names = [tool.id for tool in tools if tool.allowed == verdict]
        if names:
            lines.append(para(f"{label} {len(names)}: {' '.join(names)}"))
    lines += [para(f"✗ {tool.why}", "broken") for tool in tools if tool.allowed == "denied"]
    rest = sum(tool.allowed in ("not_allowed", "blocked") for tool in tools)
    lines.append(para(f"{rest} more are not on its allow list, or for people only", "dim"))
    return lines


COLUMNS: tuple[Column, ...] = (
    Column("id", "name", text("id", "strong"), most=24),
    Column("kind", "kind", text("kind"), most=14),
    Column("model", "model", text("model"), most=24, priority=1),
    Column(
        "capabilities",
        "can",
        text("capabilities", "dim"),
        most=24,
        priority=3,
        value=lambda row: ",".join(row.capabilities),
    ),
    Column("pools", "pools", text("pools"), most=24, priority=2, value=lambda row: ",".join(row.pools)),
    Column(
        "digest",
        "digest",
        lambda row, _: (clean(row.digest, 8), "faint"),
        most=8,
        priority=4,
        value=lambda row: str(row.digest),
    ),
    Column("description", "description", text("description", "dim"), flex=True),
)

SCREEN = TableScreen(
    table="workers",
    columns=COLUMNS,
    empty=(
        (("no worker definitions here", "dim"),),
        (
            ("N", "key"),
            (" makes one by form; or write ai_worker_definitions.json in the home, then ", "dim"),
            ("L", "key"),
            (" reads it", "dim"),
        ),
    ),
    opens=lambda row: f":workers/{row.id}",
    explain=explain,
)
