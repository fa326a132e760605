"""The screen of the devices that models lie on: the host's memory and every GPU."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span
from aiwm_tui.screens.cells import number, text
from aiwm_tui.screens.models.memory import others, parts_line
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import para
from engine.contract.records import DeviceRow


async def explain(_: Link, row: DeviceRow, __: int) -> Explained:
    lines: list[Line] = [parts_line(row), *others(row)]
    if row.note:
        lines.append(para(row.note, "text"))
    return Explained("who holds what", tuple(lines))


def _unit(attribute: str, unit: str) -> Column:
    """A measured value with its unit; `–` where the driver does not say."""

    def cell(row: DeviceRow, _: int) -> Span:
        value = getattr(row, attribute)
        return (form.NONE, "faint") if value is None else (f"{value:.0f}{unit}", "text")

    titles = {"utilisation": "util", "temperature_c": "temp", "power_w": "power"}
    return Column(attribute, titles[attribute], cell, right=True, most=7, priority=2)


COLUMNS: tuple[Column, ...] = (
    Column("id", "device", text("id", "strong"), most=8),
    Column("name", "name", text("name"), most=28, priority=3),
    Column("total", "total", number("total_bytes", form.size), right=True, most=7),
    Column("free", "free", number("free_bytes", form.size), right=True, most=7),
    Column("weights", "weigh", number("weights_bytes", form.size), right=True, most=7, priority=4),
    Column("kv", "KV", number("kv_bytes", form.size), right=True, most=7, priority=5),
    Column("adapters", "adp", number("adapters_bytes", form.size), right=True, most=7, priority=6),
    Column("scratch", "scratch", number("scratch_bytes", form.size), right=True, most=7, priority=7),
    Column("others", "not ours", number("others_bytes", form.size, "paused"), right=True, most=8, priority=1),
    _unit("utilisation", " %"),
    _unit("temperature_c", "°C"),
    _unit("power_w", "W"),
    Column("note", "note", text("note", "dim"), flex=True),
)

SCREEN = TableScreen(
    table="devices",
    columns=COLUMNS,
    empty=(
        (("nothing is known of this machine's memory", "dim"),),
        (("aiwm doctor", "key"), (" says why, and what a GPU would need", "dim")),
    ),
    opens=lambda row: f":devices/{row.id}",
    explain=explain,
)
