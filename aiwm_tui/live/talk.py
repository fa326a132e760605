"""A conversation with an instance as immutable data: the turns so far, and the answer that is being given. Pure."""

from __future__ import annotations

import msgspec

from engine.contract.notifications import InstanceChunk
from engine.contract.records import ChatTurn


class Talk(msgspec.Struct, frozen=True):
    """`said` is what was asked and is being answered, "" when nothing is; `answer` what has come of it so far. While a rate limit holds
    the turn, `until_ms` is when it opens and `why` which one it is."""

    turns: tuple[ChatTurn, ...] = ()
    said: str = ""
    answer: str = ""
    until_ms: int | None = None
    why: str = ""

    @property
    def answering(self) -> bool:
        return bool(self.said)


def asked(talk: Talk, message: str) -> Talk:
    """Something was said; the answer is to come."""
    return Talk(talk.turns, message)


def heard(talk: Talk, chunk: InstanceChunk) -> Talk:
    """A piece of the answer came, or the news that it has to wait."""
    if chunk.until_ms is not None:
        return msgspec.structs.replace(talk, until_ms=chunk.until_ms, why=chunk.why)
    if chunk.offset > len(talk.answer):
        # Its beginning came before we listened.
        return Talk(talk.turns, talk.said or "…", "… " + chunk.text)
    return Talk(talk.turns, talk.said or "…", talk.answer[: chunk.offset] + chunk.text)


def answered(talk: Talk, turn: ChatTurn) -> Talk:
    """The turn is over."""
    return Talk((*(each for each in talk.turns if each.n != turn.n), turn))


def text_of(talk: Talk) -> str:
    """The whole conversation as text; what was said stands behind `›`."""
    parts = [f"› {turn.message}\n{turn.text}{_ended(turn)}" for turn in talk.turns]
    if talk.said:
        parts.append(f"› {talk.said}\n{talk.answer}")
    return "\n\n".join(parts)


def _ended(turn: ChatTurn) -> str:
    return {"length": "\n(broke off at its limit of tokens)", "cancelled": "\n(stopped)"}.get(turn.reason, "")
