"""What was found on this machine so far, and the lines that say it. Pure: the page asks, this writes.

Nothing is claimed before it was looked at: what is still being looked for says so, what could not be found out says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, Span, clean
from aiwm_tui.states import glyph

# This is drawn in the first frame of a new home: what it need not import, it does not.
if TYPE_CHECKING:
    from engine.contract.errors import AiwmError
    from engine.contract.records import DeviceRow, ModelRow
    from engine.contract.requests.home import HomeReport
    from engine.contract.requests.models import Detected, Verdict
    from engine.contract.requests.session import Finding

PORTS = "8080 8000 5000 11434 1234 30000 5001"
"""The ports of this machine that are looked at, as `aiwm model detect` does."""
TOY = "aiwm-nano"
TOY_NOTE = "A toy: sums, extraction, JSON. It proves the machinery, no more."
_LABEL = 16
INDENT = _LABEL + 5
"""The cell at which what is said of a part begins."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """None: not known yet. `errors` has why a part is not known, by its name; `checked` are the directories whose models were judged."""

    home: HomeReport | None = None
    findings: Sequence[Finding] | None = None
    detected: Detected | None = None
    devices: Sequence[DeviceRow] | None = None
    toy: ModelRow | None = None
    pid: int = 0
    started_ms: int = 0
    verdicts: tuple[Verdict, ...] = ()
    checked: frozenset[str] = frozenset()
    errors: Mapping[str, AiwmError] = {}

    def finding(self, what: str) -> list[Finding]:
        """What the doctor says of something that is not in order."""
        return [it for it in self.findings or () if it.what.startswith(what) and it.state != "ok"]

    @property
    def gpus(self) -> list[DeviceRow]:
        return [it for it in self.devices or () if it.id.startswith("GPU")]


def here_lines(facts: Facts, now_ms: int) -> list[Line]:
    """The part WHAT IS HERE: engine, toy model, GPUs, servers, models on disk."""
    return [
        ((" WHAT IS HERE", "title"),),
        _engine(facts, now_ms),
        _toy(facts),
        *_gpu(facts),
        *_servers(facts),
        _disk(facts),
    ]


def _line(style: str, label: str, *text: Span) -> Line:
    return ((f"  {glyph(style)} ", style), (f"{label:<{_LABEL}} ", "strong" if style == "works" else "text"), *text)


def _looking(facts: Facts, part: str, label: str) -> Line:
    error = facts.errors.get(part)
    if error is not None:
        return _line("wrong", label, ("not known: ", "dim"), (clean(error.info.message, 200), "text"))
    return _line("coming", label, ("looking …", "faint"))


def _engine(facts: Facts, now_ms: int) -> Line:
    if facts.home is None:
        return _looking(facts, "home", "engine")
    since = f"up {form.since(facts.started_ms, now_ms)}, " if facts.started_ms else ""
    state = "new" if facts.home.pristine else f"{form.plural(facts.home.tasks, 'task')} so far"
    return _line(
        "works",
        "engine",
        (f"{since}pid {facts.pid}, home ", "dim"),
        (clean(facts.home.home, 120), "text"),
        (f" ({state}, {form.size(facts.home.bytes)})", "dim"),
    )


def _toy(facts: Facts) -> Line:
    toy = facts.toy
    if toy is None:
        return _line("coming", "model, CPU", (f"{TOY}: being loaded. ", "dim"), (TOY_NOTE, "text"))
    up = toy.state in ("ready", "busy")
    style = "works" if up else "broken" if toy.state in ("failed", "refused", "backoff") else "coming"
    note = "" if up else f" {toy.note}" if toy.note else ""
    weight = f"{form.size(toy.weights_bytes)}, " if toy.weights_bytes else ""
    return _line(
        style,
        f"model, {clean(toy.where, 8)}",
        (f"{clean(toy.model, 40)}, {weight}{clean(toy.state + note, 120)}. ", "dim"),
        (TOY_NOTE, "text"),
    )


def _gpu(facts: Facts) -> list[Line]:
    if facts.devices is None or facts.findings is None:
        return [_looking(facts, "findings", "GPU")]
    missing = facts.finding("exllamav2")
    if not facts.gpus:
        seen = next((it.seen for it in facts.finding("GPU")), "no GPU: models run on the CPU")
        needed = "For models on a GPU: an NVIDIA card and its driver. Till then: the CPU, or a server"
        return [_line("rests", "GPU", (clean(seen, 120) + ". ", "text"), (needed, "dim"))]
    names: dict[str, int] = {}
    for gpu in facts.gpus:
        names[gpu.name] = names.get(gpu.name, 0) + 1
    seen = " · ".join(f"{count} × {clean(name, 40)}" if count > 1 else clean(name, 40) for name, count in names.items())
    free = ", ".join(f"{form.size(gpu.free_bytes)} of {form.size(gpu.total_bytes)}" for gpu in facts.gpus)
    lines = [_line("wrong" if missing else "works", "GPU", (seen, "text"), (f" ({free} free)", "dim"))]
    held = [f"{gpu.id} {', '.join(gpu.others[:3])}" for gpu in facts.gpus if gpu.others]
    if held:
        lines.append(_more(("not ours: ", "paused"), (clean(" · ".join(held), 300), "dim")))
    if missing:
        fix = f"  {missing[0].fix}" if missing[0].fix else ""
        lines.append(_more((f"{clean(missing[0].seen, 160)}:", "text"), (clean(fix, 200), "key")))
        lines.append(_more(("until then GGUF files and servers work", "dim")))
    return lines


def _more(*text: Span) -> Line:
    return ((" " * INDENT, ""), *text)


def _servers(facts: Facts) -> list[Line]:
    if facts.detected is None:
        return [_looking(facts, "detected", "servers")]
    if not facts.detected.servers:
        return [_line("rests", "servers", ("none answers here on ports ", "text"), (PORTS, "dim"))]
    words = []
    for server in facts.detected.servers:
        offers = "needs a key" if server.needs_key else form.plural(len(server.models), "model")
        known = ", in use" if server.known_as else ""
        words.append(f"{clean(server.program or 'a server', 30)} on {port_of(server.url)} ({offers}{known})")
    return [_line("works", "servers", (" · ".join(words), "text"))]


def port_of(url: str) -> str:
    """`:8080` of an address."""
    return ":" + clean(url.partition("://")[2].partition("/")[0].rpartition(":")[2], 5)


def _disk(facts: Facts) -> Line:
    if facts.detected is None:
        return _looking(facts, "detected", "models on disk")
    if not facts.detected.directories:
        return _line("rests", "models on disk", ("none in the usual places", "text"))
    words = [f"{shortened(it.path)} {it.models}" for it in facts.detected.directories]
    note = "  (nothing is copied or moved)"
    return _line("works", "models on disk", (clean(" · ".join(words), 200), "text"), (note, "dim"))


def shortened(path: str) -> str:
    """A path with the operator's own directory as `~`."""
    import os

    own = os.path.expanduser("~")
    return clean("~" + path[len(own) :] if path == own or path.startswith(own + "/") else path, 120)
