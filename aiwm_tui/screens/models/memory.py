"""Memory in words and letters: a bar a device, who holds it, and the plan of a model that does not fit. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from aiwm_tui.live import format as form
from aiwm_tui.live.bars import shares
from aiwm_tui.live.text import Line, Span, clean, fit, line_width
from aiwm_tui.screens.wording import facts, para
from engine.contract.records import DeviceRow
from engine.contract.requests.memory import MemoryPlan, PlanWay

PARTS: tuple[tuple[str, str, str, str], ...] = (
    ("W", "weights", "weights_bytes", "works"),
    ("K", "KV pages", "kv_bytes", "coming"),
    ("A", "adapters", "adapters_bytes", "later"),
    ("S", "scratch", "scratch_bytes", "held"),
    ("x", "not ours", "others_bytes", "paused"),
)
"""Letter, word, attribute and style of what fills a device, in the order of its bar."""
_NAME, _LEAST, _MOST = 22, 12, 48


def legend(devices: Iterable[DeviceRow]) -> Line:
    """What the letters mean."""
    line: list[Span] = [(" ", "")]
    for letter, word, _, style in PARTS:
        line += [(letter, style), (f" {word}  ", "dim")]
    line += [("·", "faint"), (" free", "dim")]
    if any(device.utilisation is not None for device in devices):
        line.append(("    util · temp · power · PCIe", "head"))
    return tuple(line)


def bar(device: DeviceRow, cells: int) -> Line:
    """One device: `GPU0 RTX 4090 WWWWKKAxx···  2.9G free   97 %   71°C   388/450W`."""
    name = fit(clean(f"{device.id} {device.name}", 60), _NAME)
    measured = _measured(device)
    free = f"  {form.size(device.free_bytes)} of {form.size(device.total_bytes)} free"
    room = cells - _NAME - len(free) - line_width(measured) - 3
    width = max(_LEAST, min(_MOST, room))
    counts = shares([getattr(device, attribute) for _, _, attribute, _ in PARTS], device.total_bytes, width)
    line: list[Span] = [(f" {name} ", "strong")]
    line += [(letter * count, style) for (letter, _, _, style), count in zip(PARTS, counts, strict=True) if count]
    line += [("·" * (width - sum(counts)), "faint"), (free, "text"), *(measured if room >= _LEAST else ())]
    return tuple(line)


def _measured(device: DeviceRow) -> Line:
    found = []
    if device.utilisation is not None:
        found.append(f"{device.utilisation:3.0f} %")
    if device.temperature_c is not None:
        found.append(f"{device.temperature_c:.0f}°C")
    if device.power_w is not None:
        limit = f"/{device.power_limit_w:.0f}" if device.power_limit_w else ""
        found.append(f"{device.power_w:.0f}{limit}W")
    if device.pcie_bytes_per_s is not None:
        found.append(f"{form.size(int(device.pcie_bytes_per_s))}/s")
    return (("   " + "   ".join(found), "dim"),) if found else ()


def not_ours(devices: Iterable[DeviceRow]) -> Line:
    """Who else holds memory, by device: `not ours: GPU0 3.9G pid 88412 python (ana)`."""
    found = [f"{device.id} {', '.join(device.others[:3])}" for device in devices if device.others]
    if not found:
        return ()
    return ((" not ours: ", "paused"), (clean(" · ".join(found), 400), "dim"))


def no_gpu(devices: Iterable[DeviceRow]) -> Line:
    """That there is no GPU, and why, as the host's row notes it."""
    notes = [device.note.rpartition("; ")[2] for device in devices if "no GPU" in device.note]
    said = notes[0] if notes else "no GPU"
    return (
        (" ○ ", "rests"),
        (clean(said, 200), "dim"),
        ("   models run on the CPU; ", "faint"),
        ("aiwm doctor", "key"),
    )


def others(device: DeviceRow) -> list[Line]:
    return [para(f"not ours: {holder}", "paused") for holder in device.others]


def parts_line(device: DeviceRow) -> Line:
    """`weights 9.4G · KV pages 6.0G · free 2.9G`."""
    held = [(word, form.size(getattr(device, attribute))) for _, word, attribute, _ in PARTS]
    return facts([*held, ("free", form.size(device.free_bytes)), ("of", form.size(device.total_bytes))])


# The plan of a model


def plan_lines(plan: MemoryPlan, now_ms: int) -> list[Line]:
    """What it would take, where it fits, and the numbered ways to make room: who is hit, when it is back."""
    parts = plan.estimate
    said = f"{form.size(parts.weights)} weights + {form.size(parts.kv)} KV ({form.short(plan.context)})"
    said += f" + {form.size(parts.adapters)} adapters + {form.size(parts.scratch + parts.process)} scratch"
    measured = f"; last measured {form.size(plan.measured)}" if plan.measured else ""
    lines: list[Line] = [((f" plan: {said} = ", "text"), (form.size(parts.total), "strong"), (measured, "dim"))]
    free = " · ".join(f"{space.id} {form.size(space.free)} of {form.size(space.total)}" for space in plan.spaces)
    lines.append(((" free: ", "dim"), (clean(free, 300), "text")))
    if plan.fits:
        lines.append(((" it fits: ", "works"), ("L", "key"), (" loads it", "dim")))
    if plan.ways:
        lines.append(((_row("", "way", "frees", "who is hit", "back at"), "head"),))
        lines += [_way(way, now_ms) for way in plan.ways]
    if plan.note:
        lines.append(para(plan.note, "dim"))
    return lines


def _way(way: PlanWay, now_ms: int) -> Line:
    hit = "; ".join(way.hit) or "nobody"
    if not way.fits:
        hit = f"not enough: {form.size(-way.spare)} short on {way.device}" if way.spare < 0 else "not enough"
    back = form.moment(way.back_ms, now_ms) if way.back_ms else form.NONE
    text = _row(str(way.number), way.text, form.size(way.frees) if way.frees else form.NONE, hit, back)
    return ((text, "text" if way.fits and way.runnable else "dim"),)


def _row(number: str, text: str, frees: str, hit: str, back: str) -> str:
    return f" {number:>2}  {fit(clean(text, 200), 32)} {frees:>7}  {fit(clean(hit, 200), 33)}  {clean(back, 30)}"
