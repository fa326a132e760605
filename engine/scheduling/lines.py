"""Who goes first on a pool: queues compete by rank, the tenants of one queue take turns, and a tenant's own tasks go by rank.

The rule, exactly. A pool takes its next task from the queue whose first waiting task has the smallest (rank, seq). In that queue the
tenant with the smallest turn goes, among equal turns the one with the smallest (rank, seq); of that tenant, the task with the smallest
(rank, seq). A start moves the tenant's turn on by one, and the queue's time by one n-th of that, n being the tenants that wait; the time
never lies behind the turn that was just taken. A tenant that begins to wait has the turn it had, or the queue's time if that is later.

So n tenants that always wait get one n-th of the starts each, whatever their ranks and however many tasks they have; having been away
earns nothing; and one that waits sees at most three starts of each other tenant before its own. Where there is one tenant, all goes
by rank. The turns of a queue are a pool's own: what a tenant got elsewhere is not counted."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from engine.scheduling.inputs import Key

if TYPE_CHECKING:
    from engine.scheduling.classes import ReadyClass

TURN: Final = 1 << 20
_SPARE = 64


class Share:
    """A tenant's classes that are on offer: `key` is the (rank, seq) of their first task, None if there is none."""

    __slots__ = ("classes", "heads", "key", "turn")

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.key: Key | None = None
        self.classes: dict[ReadyClass, None] = {}
        self.heads: list[tuple[int, int, ReadyClass]] = []

    def __lt__(self, other: object) -> bool:
        # Only ever asked for two heap entries of one task, from before and after its tenant's share was dropped.
        return False

    def first(self) -> ReadyClass | None:
        """The class with the smallest (rank, seq). A class is pushed again whenever its first task changes; entries that no longer say
        the truth are dropped when they come up."""
        heads, classes = self.heads, self.classes
        if len(heads) > _SPARE + 4 * len(classes):
            self.heads = heads = [(row[0], row[1], cls) for cls in classes if (row := cls.window.first()) is not None]
            heapify(heads)
        while heads:
            cls = heads[0][2]
            if cls in classes:
                row = cls.window.first()
                if row is not None and row[1] == heads[0][1]:
                    return cls
            heappop(heads)
        return None


class Line:
    """The tenants of one queue at one pool. `time` is the turn that a newcomer gets."""

    __slots__ = ("_ranks", "_turns", "shares", "time", "waiting")

    def __init__(self) -> None:
        self.time = 0
        self.waiting = 0  # tenants with something on offer
        self.shares: dict[str, Share] = {}
        self._ranks: list[tuple[int, int, Share]] = []
        self._turns: list[tuple[int, int, int, Share]] = []

    def offer(self, cls: ReadyClass, rank: int, seq: int) -> None:
        """This class's first task is now (rank, seq)."""
        tenant = cls.key.tenant
        share = self.shares.get(tenant)
        if share is None:
            share = self._add(tenant)
        if not share.classes:
            self.waiting += 1
            if share.turn < self.time:
                share.turn = self.time
        share.classes[cls] = None
        heappush(share.heads, (rank, seq, cls))
        self._rank(share)

    def withdraw(self, cls: ReadyClass) -> None:
        share = self.shares.get(cls.key.tenant)
        if share is None or cls not in share.classes:
            return
        del share.classes[cls]
        self._rank(share)
        if not share.classes:
            self.waiting -= 1
            share.heads.clear()
            if share.turn <= self.time and len(self.shares) > 1:
                self._drop(cls.key.tenant)

    def first(self) -> Key | None:
        """The smallest (rank, seq) of all tenants."""
        if len(self.shares) == 1:
            return next(iter(self.shares.values())).key
        ranks = self._ranks
        while ranks:
            rank, seq, share = ranks[0]
            if share.key == (rank, seq):
                return share.key
            heappop(ranks)
        return None

    def next(self) -> ReadyClass | None:
        """The class whose first task is next."""
        if len(self.shares) == 1:
            return next(iter(self.shares.values())).first()
        turns = self._turns
        while turns:
            turn, rank, seq, share = turns[0]
            if turn == share.turn and share.key == (rank, seq):
                return share.first()
            heappop(turns)
        return None

    def started(self, cls: ReadyClass) -> None:
        """The first task of this class is about to start here."""
        share = self.shares[cls.key.tenant]
        self.time = max(self.time + TURN // self.waiting, share.turn)
        share.turn += TURN
        # Whatever comes first now is entered under the new turn.
        share.key = None

    # -- inside ------------------------------------------------------------------------------------------------------

    def _rank(self, share: Share) -> None:
        """Note the share's first task, if it is another one now."""
        cls = share.first()
        row = None if cls is None else cls.window.first()
        key = None if row is None else row[:2]
        if key == share.key:
            return
        share.key = key
        if key is not None and len(self.shares) > 1:
            if len(self._turns) > _SPARE + 4 * self.waiting or len(self._ranks) > _SPARE + 4 * self.waiting:
                self._rebuild()
            else:
                heappush(self._ranks, (*key, share))
                heappush(self._turns, (share.turn, *key, share))

    def _add(self, tenant: str) -> Share:
        if len(self.shares) > _SPARE + 4 * self.waiting:
            self.shares = {
                name: share for name, share in self.shares.items() if share.classes or share.turn > self.time
            }
        share = self.shares[tenant] = Share(self.time)
        if len(self.shares) == 2:
            self._rebuild()
        return share

    def _drop(self, tenant: str) -> None:
        del self.shares[tenant]
        if len(self.shares) == 1:
            self._ranks, self._turns = [], []

    def _rebuild(self) -> None:
        waiting = [(share.key, share) for share in self.shares.values() if share.key is not None]
        self._ranks = [(*key, share) for key, share in waiting]
        self._turns = [(share.turn, *key, share) for key, share in waiting]
        heapify(self._ranks)
        heapify(self._turns)
