"""The text of a followed task as immutable data: what `task.follow` and `stream.chunk` make of it. Pure."""

from __future__ import annotations

import msgspec

from engine.contract.notifications import StreamChunk
from engine.contract.requests.tasks import StreamState


class Followed(msgspec.Struct, frozen=True):
    """`text` is the attempt's text from its start; `state` the task's end state once `ended`."""

    stream: str = ""
    task: str = ""
    attempt: int = 0
    text: str = ""
    ended: bool = False
    state: str | None = None


def started(answer: StreamState, before: Followed | None = None) -> Followed:
    """The state after `task.follow`; with an offset asked for, what was known of the same attempt is kept."""
    known = before.text if before is not None and before.attempt == answer.attempt else ""
    return Followed(answer.stream, answer.task, answer.attempt, known[: answer.offset] + answer.text, answer.ended)


def chunk(state: Followed, news: StreamChunk) -> Followed | None:
    """The state after a chunk; None when text in between is missing and the stream must be followed again."""
    if news.stream != state.stream or news.attempt < state.attempt:
        return state
    text = state.text if news.attempt == state.attempt else ""
    if news.offset > len(text):
        return None
    if news.text:
        text = text[: news.offset] + news.text
    return msgspec.structs.replace(state, attempt=news.attempt, text=text, ended=news.ended, state=news.state)
