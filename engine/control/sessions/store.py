"""Where sessions are kept: documents of the kinds `session`, `turn` and `retired`, and what changes them."""

from __future__ import annotations

import msgspec

from engine.clock import Clock
from engine.contract.records.instances import ChatTurn, RetiredRow
from engine.contract.states import Durability
from engine.control.numbering import RETIRED
from engine.control.sessions.session import Session
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers
from engine.store.usage import Used
from engine.store.window import Windows

SESSION, TURN = "session", "turn"
_ALL = 1_000_000
MOST_RETIRED = 10_000
"""So many retired instances are kept, the latest."""


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """An instance that is no more; `session` is what a directly spawned one was."""

    row: RetiredRow
    session: Session | None = None


class Chatted(msgspec.Struct, frozen=True):
    """What the sessions of one definition came to, live and retired ones."""

    turns: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    last_ms: int = 0


_CHATTED = (
    "SELECT ref, coalesce(sum(json_extract(session, '$.turns')), 0),"
    " coalesce(sum(json_extract(session, '$.tokens_in') + json_extract(session, '$.tokens_out')), 0),"
    " coalesce(sum(json_extract(session, '$.cost_usd')), 0.0), coalesce(max(json_extract(session, '$.active_ms')), 0) FROM ("
    "SELECT ref, json AS session FROM documents WHERE kind = 'session'"
    " UNION ALL SELECT ref, json_extract(json, '$.session') FROM documents WHERE kind = 'retired'"
    ") WHERE session IS NOT NULL GROUP BY ref"
)


_WHOSE = {
    "submitter": "coalesce(json_extract(s.json, '$.by'), json_extract(s.json, '$.session.by'), '')",
    "definition": "s.ref",
    "model": "coalesce(json_extract(s.json, '$.config.model'), json_extract(s.json, '$.session.config.model'), '')",
}
_USED = (
    "SELECT {whose}, count(*), 0, sum(json_extract(t.json, '$.tokens_in')), sum(json_extract(t.json, '$.tokens_out')),"
    " sum(json_extract(t.json, '$.cost_usd')), CAST(sum(json_extract(t.json, '$.total_ms')) AS INTEGER) FROM documents AS t"
    " JOIN documents AS s ON s.kind IN ('session', 'retired') AND s.key = t.ref WHERE t.kind = 'turn' AND t.at_ms >= ? GROUP BY 1"
)


class SessionStore:
    """Reads and writes sessions. What is written is on disk when the call returns."""

    def __init__(self, journal: Journal, readers: Readers, windows: Windows, clock: Clock) -> None:
        self._journal = journal
        self._readers = readers
        self._windows = windows
        self._clock = clock

    def sessions(self) -> list[Session]:
        """Every session that was not retired, in the order in which they were spawned."""
        found = [
            msgspec.json.decode(document.json, type=Session)
            for document in self._readers.documents(SESSION, limit=_ALL, newest_first=False)
        ]
        return sorted(found, key=lambda session: session.spawned_ms)

    def turns(self, identifier: str) -> list[ChatTurn]:
        """The conversation of an instance, also of a retired one."""
        found = self._readers.documents(TURN, ref=identifier, limit=_ALL, newest_first=False)
        turns = [msgspec.json.decode(document.json, type=ChatTurn) for document in found]
        return sorted(turns, key=lambda turn: turn.n)

    def retired(self, identifier: str) -> Retired | None:
        document = self._readers.document(RETIRED, identifier)
        return None if document is None else msgspec.json.decode(document.json, type=Retired)

    async def chatted(self) -> dict[str, Chatted]:
        """What all sessions came to, by definition."""
        return {row[0]: Chatted(*row[1:]) for row in await self._windows.read(_CHATTED)}

    async def used(self, by: str, since_ms: int | None) -> dict[str, Used]:
        """What turns of chats since then used, by submitter, definition or model; nothing for other things. `tasks` counts turns."""
        whose = _WHOSE.get(by)
        if whose is None:
            return {}
        rows = await self._windows.read(_USED.format(whose=whose), since_ms or 0)
        return {row[0]: Used(*row) for row in rows}

    async def trim(self) -> None:
        """Forget the oldest of those that are no more, beyond as many as are worth keeping, and what was said with them."""
        old = await self._windows.read(
            "SELECT key FROM documents WHERE kind = 'retired' ORDER BY at_ms DESC LIMIT -1 OFFSET ?", MOST_RETIRED
        )
        for (identifier,) in old:
            turns = await self._windows.read("SELECT key FROM documents WHERE kind = 'turn' AND ref = ?", identifier)
            entry = [ops.DeleteDocument(RETIRED, identifier), *(ops.DeleteDocument(TURN, key) for (key,) in turns)]
            await self._journal.write(entry, Durability.os)

    async def put(self, session: Session, turn: ChatTurn | None = None, event: ops.AppendEvent | None = None) -> None:
        """Write a session, and the turn and the event that changed it."""
        entry: list[ops.Op] = [self._put(SESSION, session.id, session.definition, msgspec.json.encode(session))]
        if turn is not None:
            key = f"{session.id}/{turn.n:06d}"
            entry.append(self._put(TURN, key, session.id, msgspec.json.encode(turn)))
        if event is not None:
            entry.append(event)
        await self._journal.write(entry, Durability.disk)

    async def note(self, event: ops.AppendEvent) -> None:
        """Write an event; whatever was given to the journal before is on disk then, too."""
        await self._journal.write((event,), Durability.os)

    async def retire(self, retired: Retired, event: ops.AppendEvent | None = None) -> None:
        """Move an instance into the history; its conversation stays."""
        row = retired.row
        entry: list[ops.Op] = [self._put(RETIRED, row.id, row.definition, msgspec.json.encode(retired))]
        if retired.session is not None:
            entry.append(ops.DeleteDocument(SESSION, row.id))
        if event is not None:
            entry.append(event)
        await self._journal.write(entry, Durability.disk)

    def event(self, type_: str, about: str, text: str, who: str, level: str = "info") -> ops.AppendEvent:
        return ops.AppendEvent(
            at_ms=self._clock.wall_ms(), level=level, type=type_, who=who, about=about, text=text[:2000]
        )

    def _put(self, kind: str, key: str, ref: str, json: bytes) -> ops.PutDocument:
        return ops.PutDocument(kind, key, ref, self._clock.wall_ms(), json)
