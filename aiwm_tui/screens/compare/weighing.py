"""What the comparing page knows: answers by adapter and weight, and where the slider stands. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.comparing import difference, lines_of
from aiwm_tui.live.text import Line, Span, clean, cut_line, line_width
from engine.contract.requests.comparisons import Answer

STEP, MOST = 0.1, 2.0
_TRACK = 21


class Weighing(msgspec.Struct, frozen=True):
    """`adapters` may be compared with base, `chosen` is one of them, `weight` what its own weights are multiplied by."""

    adapters: tuple[str, ...] = ()
    chosen: int = 0
    weight: float = 1.0

    @property
    def adapter(self) -> str:
        return self.adapters[self.chosen] if self.adapters else ""

    def moved(self, steps: int) -> Weighing:
        """The slider some steps to the right."""
        return msgspec.structs.replace(self, weight=min(MOST, max(0.0, round(self.weight + steps * STEP, 2))))

    def next(self) -> Weighing:
        """The next adapter."""
        return msgspec.structs.replace(self, chosen=(self.chosen + 1) % max(1, len(self.adapters)))


def slider(weighing: Weighing) -> Line:
    """`weight 0 ├────────●─────────┤ 2   1.00 × invoice-de@v3   1 of 3`."""
    at = round(weighing.weight / MOST * (_TRACK - 1))
    track = "─" * at + "●" + "─" * (_TRACK - 1 - at)
    which = f"   {weighing.chosen + 1} of {len(weighing.adapters)}" if len(weighing.adapters) > 1 else ""
    line: list[Span] = [
        (" weight ", "dim"),
        ("0 ├", "faint"),
        (track, "key"),
        (f"┤ {MOST:g}", "faint"),
        (f"   {weighing.weight:.2f} × ", "strong"),
        (clean(weighing.adapter, 80) or "no adapter", "strong"),
        (which, "dim"),
        ("   ← →", "key"),
        (" weight", "dim"),
    ]
    if len(weighing.adapters) > 1:
        line += [("   Tab", "key"), (" next adapter", "dim")]
    return (*line, ("   T", "key"), (" another prompt", "dim"))


def head(answer: Answer | None, first: Answer | None) -> list[Line]:
    """What stands above an answer: what it was made with, and what it took."""
    if answer is None:
        return [(("…", "coming"),), ()]
    if answer.error is not None:
        return [((clean(answer.label, 80), "title"),), ((clean(answer.error.code, 40), "broken"),)]
    digests = " ".join(it.digest[:6] for it in answer.adapters)
    took = f"{answer.tokens_in} in  {answer.tokens_out} out  {form.span(answer.total_ms)}  {clean(answer.reason, 20)}"
    top: Line = ((clean(answer.label, 80) + "  ", "title"), (digests, "faint"))
    if first is None or answer is first:
        return [top, ((took, "dim"),)]
    changed, words = difference(first.text, answer.text)
    style, said = ("mark", f"{changed} of {words} words differ") if changed else ("works", "the same words")
    return [top, ((took + "   ", "dim"), (said, style))]


def side_by_side(answers: Sequence[Answer | None], cells: int) -> list[Line]:
    """Answers in columns of equal width; words that differ from the first one's are marked."""
    width = (cells - 2 - 3 * (len(answers) - 1)) // len(answers)
    first = answers[0]
    columns = []
    for answer in answers:
        lines = [*head(answer, first), ()]
        if answer is not None:
            failed = answer.error is not None
            text = f"{answer.error.message} {answer.error.fix or ''}" if answer.error is not None else answer.text
            against = text if failed or first is None else first.text
            lines += [
                tuple((span.text, "mark" if span.differs else "text") for span in line)
                for line in lines_of(against, text, width)
            ]
        columns.append([cut_line(line, width) for line in lines])
    return [_joined(row, width) for row in zip_longest(*columns, fillvalue=())]


def _joined(row: Sequence[Line], width: int) -> Line:
    line: list[Span] = [(" ", "")]
    for place, part in enumerate(row):
        if place:
            line.append((" │ ", "rule"))
        line += [*part, (" " * (width - line_width(part)), "")]
    return tuple(line)
