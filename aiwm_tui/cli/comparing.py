"""`aiwm task compare`, `aiwm adapter compare` and what a task's model read: one prompt under several adapters, side by side."""

from __future__ import annotations

import sys
from itertools import zip_longest
from typing import Annotated, Any

import msgspec
import typer

from aiwm_tui.cli.command import Cli
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import shown, styled, terminal_width
from aiwm_tui.live.comparing import Line, difference, lines_of
from aiwm_tui.live.text import clean, cut
from aiwm_tui.typed import finite
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.comparisons import AdapterCompare, Answer, Comparison, PromptText, TaskCompare, TaskPrompt

_WIDE = 120
_NARROW = 24
_GAP = " │ "
_ON, _OFF = "\x1b[1;4m", "\x1b[0m"

Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", metavar="X,…", help="each adapter with each of these weights: 0,0.5,1", show_default=False
    ),
]
Seed = Annotated[str, typer.Option("--seed", metavar="SEED", help="same: the task's, or one for all; or a number")]
Adapters = Annotated[
    str,
    typer.Option(
        "--adapters",
        metavar="A,B",
        help="base, NAME, NAME@vN, NAME@vN:0.5, or blended A@v1+B@v2:0.5",
        show_default=False,
    ),
]
Prompt = Annotated[str, typer.Option("--prompt", metavar="TEXT", help="- reads it from stdin", show_default=False)]


def compare_task(
    cli: Cli, request: TaskCompare, *, adapters: Adapters, weights: Weights = None, seed: Seed = "same"
) -> int:
    """Put a task's prompt to its model again under several adapters, side by side; words that differ from the first are marked.

    The task itself stays as it is; it costs tokens of its definition. Exit code: 1 when an answer failed. JSON: kind comparison."""
    request = msgspec.structs.replace(request, adapters=_parts(adapters), weights=_weights(weights), seed=_seed(seed))
    return _show(cli, cli.call(request))


def compare_adapters(
    cli: Cli, request: AdapterCompare, *, prompt: Prompt, weights: Weights = None, seed: Seed = "same"
) -> int:
    """Put one prompt to a model under several adapters, side by side; a single one is compared with base.

    NAMES are base, NAME, NAME@vN, NAME@vN:0.5, or blended A@v1+B@v2:0.5. Exit code: 1 when an answer failed. JSON: kind comparison."""
    text = sys.stdin.read() if prompt == "-" else prompt
    names = tuple(part for name in request.names for part in _parts(name))
    request = msgspec.structs.replace(request, names=names, prompt=text, weights=_weights(weights), seed=_seed(seed))
    return _show(cli, cli.call(request))


def show_prompt(cli: Cli, identifier: str) -> None:
    """What a task's model read, exactly. JSON: kind prompt."""
    found: PromptText = cli.call(TaskPrompt(id=identifier))
    cli.output.one("prompt", found, lambda: shown(found.text), exact=True)
    if found.note:
        cli.output.talk(found.note)


def _show(cli: Cli, found: Comparison) -> int:
    cli.output.one("comparison", found, lambda: "\n".join(_page(found)), exact=True)
    return ExitCode.failed if any(answer.error is not None for answer in found.answers) else ExitCode.ok


def _page(found: Comparison) -> list[str]:
    """For people: what was asked, then the answers in columns."""
    what = f"task {found.about}" if found.about else found.definition
    prompt = "its prompt as it was read" if found.kept else "the prompt"
    lines = [clean(f"{what}, {found.model}, seed {found.seed}: {prompt}, {len(found.prompt):,} characters")]
    across = terminal_width() or _WIDE
    fits = max(1, (across + len(_GAP)) // (_NARROW + len(_GAP)))
    for start in range(0, len(found.answers), fits):
        lines += ["", *_columns(found.answers[start : start + fits], found.answers[0].text, across)]
    return lines


def _columns(answers: list[Answer], first: str, across: int) -> list[str]:
    width = (across - len(_GAP) * (len(answers) - 1)) // len(answers)
    marks = styled(sys.stdout)
    columns = [[*_head(answer, first, width), "", *_body(answer, first, width, marks=marks)] for answer in answers]
    return [_GAP.join(_padded(cell, width) for cell in row).rstrip() for row in zip_longest(*columns, fillvalue="")]


def _head(answer: Answer, first: str, width: int) -> list[str]:
    changed, words = difference(first, answer.text)
    said = [
        answer.label,
        " ".join(f"{it.name} {it.digest[:12]}" for it in answer.adapters) or "no adapter",
        f"{answer.tokens_in} in, {answer.tokens_out} out, {answer.total_ms:,.0f} ms, {answer.reason or 'failed'}",
        f"{changed} of {words} words differ" if changed else "the same words" if answer.error is None else "",
    ]
    if not answer.same_prompt:
        said.append("it read another prompt")
    return [cut(clean(text), width) for text in said]


def _body(answer: Answer, first: str, width: int, *, marks: bool) -> list[str]:
    if answer.error is not None:
        failed = f"{answer.error.code}: {answer.error.message}"
        return [_line(line, marks=False) for line in lines_of(failed, failed, width)]
    return [_line(line, marks=marks) for line in lines_of(first, answer.text, width)]


def _line(line: Line, *, marks: bool) -> str:
    return "".join(f"{_ON}{span.text}{_OFF}" if marks and span.differs else span.text for span in line)


def _padded(cell: str, width: int) -> str:
    from rich.cells import cell_len

    return cell + " " * (width - cell_len(cell.replace(_ON, "").replace(_OFF, "")))


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _weights(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(finite(float(part), "--weights") for part in _parts(text or ""))
    except ValueError:
        raise _wrong("weights", text, "--weights 0,0.5,1") from None


def _seed(text: str) -> int | None:
    try:
        return None if text == "same" else int(text)
    except ValueError:
        raise _wrong("seed", text, "--seed same, or a number") from None


def _wrong(name: str, text: Any, fix: str) -> AiwmError:
    return AiwmError(Code.bad_request, f'--{name} "{str(text)[:40]}" are no numbers', field=name, fix=fix)
