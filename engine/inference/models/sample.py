"""What a chat template makes of a conversation, tried in a process of its own.

A template is a program by whoever made the model: it may loop for ever or eat memory. So a child with bounded memory and time renders it
in the sandbox; this module is both, the child (`python -m engine.inference.models.sample`, JSON on stdin and stdout) and who starts it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from engine.contract.errors import NOT_JSON
from engine.inference.models.kinds import Template

CONVERSATION = (
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is 2+2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And 3+3?"},
)
_MEMORY = 1_000_000_000
_EACH_S = 1.0
_MOST_CHARS = 2_000


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """`verdict` is ok, or what is wrong with the template; `text` the conversation as it writes it, with the place where the answer
    begins."""

    verdict: str
    text: str = ""


async def samples(templates: Sequence[Template | None]) -> list[Sample]:
    """A sample of each template; `none` for a model without one. Never raises."""
    asked = [template for template in templates if template is not None]
    if not asked:
        return [Sample(verdict="none")] * len(templates)
    found = iter(await asyncio.to_thread(_rendered, asked))
    return [Sample(verdict="none") if template is None else next(found) for template in templates]


def _rendered(templates: Sequence[Template]) -> list[Sample]:
    command = [sys.executable, "-P", "-m", "engine.inference.models.sample"]
    done = b""
    try:
        done = subprocess.run(
            command,
            input=msgspec.json.encode(templates),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=5 + _EACH_S * len(templates),
            check=False,
            start_new_session=True,
        ).stdout
    except subprocess.TimeoutExpired as error:
        done = error.stdout or b""
    found = []
    for line in done.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=Sample))
        except NOT_JSON:
            break
    missing = len(templates) - len(found)
    return found + [Sample(verdict="broke off: it takes too much time or memory")] * missing


# -- the child ---------------------------------------------------------------------------------------------------------


def render(template: Template) -> Sample:
    """What the template writes, and whether it writes what it was given. Unbounded: for the child alone."""
    from engine.inference.templates import sandbox

    try:
        compiled = sandbox().from_string(template.source)
        try:
            text = _text(compiled, template, CONVERSATION)
        except Exception:
            # Some know no system message, and say so; then the conversation begins with the user.
            text = _text(compiled, template, CONVERSATION[1:])
            note = "ok (no system message)"
        else:
            note = "ok"
    except Exception as error:
        return Sample(verdict=f"refuses a conversation: {str(error)[:200] or type(error).__name__}")
    lost = [turn["content"] for turn in CONVERSATION[1:] if turn["content"] not in text]
    if lost:
        return Sample(verdict=f'loses what is said: "{lost[0]}"', text=text[:_MOST_CHARS])
    return Sample(verdict=note, text=text[:_MOST_CHARS])


def _text(compiled: object, template: Template, turns: Sequence[dict[str, str]]) -> str:
    return str(compiled.render(messages=list(turns), add_generation_prompt=True, **template.tokens))  # type: ignore[attr-defined]


class _TooSlowError(BaseException):
    """No Exception: whatever catches those on the way must not go on."""


def _too_slow(*_: object) -> None:
    raise _TooSlowError


def main() -> None:
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGALRM, _too_slow)
    for template in msgspec.json.decode(sys.stdin.buffer.read(), type=list[Template]):
        signal.setitimer(signal.ITIMER_REAL, _EACH_S)
        try:
            sample = render(template)
        except _TooSlowError:
            sample = Sample(verdict=f"takes more than {_EACH_S:g} s")
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.buffer.write(msgspec.json.encode(sample) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
