"""How a prompt is put together from what a task is given beside its payload."""

from __future__ import annotations

from collections.abc import Sequence

from engine.ports import ContextFile, Lesson, Message

HEADING = "What earlier tasks of this sort have taught:"


def taught(turns: Sequence[Message], lessons: Sequence[Lesson]) -> tuple[Message, ...]:
    """A conversation with lessons at the end of its system message, or in one of their own. Without lessons it stays as it is."""
    if not lessons:
        return tuple(turns)
    text = "\n".join([HEADING, *(f"- [{lesson.id}] {lesson.text}" for lesson in lessons)])
    return _told(turns, text)


def with_files(turns: Sequence[Message], files: Sequence[ContextFile]) -> tuple[Message, ...]:
    """A conversation with its file contexts at the end of its system message, each between marks that it cannot close itself."""
    if not files:
        return tuple(turns)
    parts = []
    for file in files:
        inert = file.text.replace("</data", "<\\/data").replace("<data", "<\\data")
        name = " ".join(file.name[:200].replace('"', "'").split())
        parts.append(f'<data from="{name}">\n{inert}\n</data>')
    return _told(turns, "\n".join(parts))


def _told(turns: Sequence[Message], text: str) -> tuple[Message, ...]:
    """With this text at the end of the system message, or in one of its own."""
    for index, turn in enumerate(turns):
        if turn.role == "system":
            whole = Message(role="system", content=f"{turn.content}\n\n{text}")
            return (*turns[:index], whole, *turns[index + 1 :])
    return (Message(role="system", content=text), *turns)
