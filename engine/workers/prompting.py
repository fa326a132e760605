"""How a prompt is put together from what a task is given beside its payload."""

from __future__ import annotations

from collections.abc import Sequence

from engine.ports import Lesson, Message

HEADING = "What earlier tasks of this sort have taught:"


def taught(turns: Sequence[Message], lessons: Sequence[Lesson]) -> tuple[Message, ...]:
    """A conversation with lessons at the end of its system message, or in one of their own. Without lessons it stays as it is."""
    if not lessons:
        return tuple(turns)
    text = "\n".join([HEADING, *(f"- [{lesson.id}] {lesson.text}" for lesson in lessons)])
    for index, turn in enumerate(turns):
        if turn.role == "system":
            whole = Message(role="system", content=f"{turn.content}\n\n{text}")
            return (*turns[:index], whole, *turns[index + 1 :])
    return (Message(role="system", content=text), *turns)
