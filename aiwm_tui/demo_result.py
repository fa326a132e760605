"""The demo's messages and what became of them: reading the inbox, choosing from it, comparing answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.contract.requests.tasks import TaskOutcome
from engine.contract.states import TaskState


class Message(msgspec.Struct, frozen=True):
    """One line of the inbox: what is asked, and what a right answer is."""

    id: str
    skill: str
    prompt: str
    answer: str
    system: str | None = None

    def payload(self) -> dict[str, Any]:
        return {"prompt": self.prompt} if self.system is None else {"prompt": self.prompt, "system": self.system}


class Skill(msgspec.Struct):
    submitted: int = 0
    completed: int = 0
    correct: int = 0


class Wrong(msgspec.Struct, frozen=True):
    task: str
    message: str
    skill: str
    expected: str
    got: str | None


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """`tokens` are those that the model wrote, `tokens_in` those it read; `seconds` from the first submit to the last end."""

    submitted: int
    completed: int
    failed: int
    correct: int
    tokens: int
    tokens_in: int
    seconds: float
    per_skill: dict[str, Skill]
    wrong: list[Wrong]


def read_inbox(path: Path) -> list[Message]:
    """The messages of the inbox. `config_invalid` names the line that is not one."""
    messages = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise AiwmError(Code.config_invalid, f"{path} cannot be read: {error.strerror}", field="inbox") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                messages.append(msgspec.json.decode(line, type=Message))
            except NOT_JSON as error:
                raise AiwmError(Code.config_invalid, f"{path}, line {number}: {error}", field="inbox") from None
    if not messages:
        raise AiwmError(Code.config_invalid, f"{path} has no messages", field="inbox")
    return messages


def sample(messages: Sequence[Message], count: int) -> list[Message]:
    """`count` messages spread evenly over the inbox, so that every skill is met; more than there are begin again."""
    total = len(messages)
    if count >= total:
        return [messages[index % total] for index in range(count)]
    return [messages[index * total // count] for index in range(count)]


def _answer(outcome: TaskOutcome) -> str | None:
    text = outcome.result.get("text") if isinstance(outcome.result, dict) else None
    return text if isinstance(text, str) else None


def is_right(message: Message, outcome: TaskOutcome) -> bool:
    text = _answer(outcome)
    return outcome.state == TaskState.completed and text is not None and text.strip() == message.answer.strip()


def judge(messages: Sequence[Message], outcomes: Sequence[TaskOutcome], seconds: float) -> DemoResult:
    """Compare answers exactly, but for white space around them."""
    skills: dict[str, Skill] = {}
    wrong = []
    for message, outcome in zip(messages, outcomes, strict=True):
        skill = skills.setdefault(message.skill, Skill())
        right = is_right(message, outcome)
        skill.submitted += 1
        skill.completed += outcome.state == TaskState.completed
        skill.correct += right
        if not right:
            wrong.append(Wrong(outcome.id, message.id, message.skill, message.answer, _answer(outcome)))
    return DemoResult(
        submitted=len(messages),
        completed=sum(skill.completed for skill in skills.values()),
        failed=sum(outcome.state != TaskState.completed for outcome in outcomes),
        correct=sum(skill.correct for skill in skills.values()),
        tokens=sum(outcome.tokens_out or 0 for outcome in outcomes),
        tokens_in=sum(outcome.tokens_in or 0 for outcome in outcomes),
        seconds=round(seconds, 3),
        per_skill=skills,
        wrong=wrong,
    )


def result_text(result: DemoResult) -> str:
    from aiwm_tui.live.text import clean

    rate = result.tokens / result.seconds if result.seconds else 0.0
    lines = [
        f"submitted {result.submitted}, completed {result.completed}, failed {result.failed}, correct {result.correct}",
        f"{result.tokens:,} tokens in {result.seconds:.1f} s ({rate:,.0f}/s)",
    ]
    wide = max(map(len, result.per_skill))
    lines += [
        f"  {clean(name):<{wide}}  {skill.correct:>4} of {skill.submitted:>4} right"
        for name, skill in result.per_skill.items()
    ]
    lines += [clean(f"  ✗ {one.message}: expected {one.expected!r}, got {one.got!r}") for one in result.wrong[:10]]
    return "\n".join(lines)
