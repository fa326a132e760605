"""A recording as one file, or as a ring of files that each begin with a snapshot of their own, so that the oldest can go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from engine.contract.requests.recordings import Recording
from engine.recording.sink import Sink
from engine.store.image import Limits

RING_LIMITS: Final = Limits(
    waiting=5_000, ended=2_000, events=2_000, records=2_000, documents=500, points=300, bodies_bytes=4 * 2**20
)
"""What a file of a ring begins with: it has four or five of them, and all must fit."""
_PARTS: Final = 4


class Made(msgspec.Struct):
    """A recording that somebody asked for. `sinks` are its files, the last one takes what comes; `turning`: another is about to, `stuck`:
    that was tried and did not succeed."""

    id: str
    client: int
    ring: bool
    redact: bool
    started_ms: int
    keep_ms: int
    keep_bytes: int
    path: Callable[[int], Path]
    sinks: list[Sink] = []
    count: int = 0
    turning: bool = False
    stuck: bool = False
    ended: str | None = None

    @property
    def limits(self) -> Limits:
        return RING_LIMITS if self.ring else Limits()

    @property
    def state(self) -> str:
        if self.ended is not None:
            return "ended"
        return "recording" if self.sinks and self.sinks[0].written else "snapshot"

    def next_path(self) -> Path:
        self.count += 1
        return self.path(self.count)

    def full(self, now_ms: int) -> bool:
        """Whether the ring's last file should be followed by another."""
        last = self.sinks[-1]
        if self.ended is not None or not self.ring or self.turning or not last.written or not last.changes:
            return False
        return now_ms - last.from_ms >= self.keep_ms // _PARTS or last.bytes >= self.keep_bytes // _PARTS

    def spare(self, now_ms: int) -> list[Sink]:
        """The files that the ring need not keep: older than asked for, or too many bytes. Taken out of it."""
        gone: list[Sink] = []
        while len(self.sinks) > 1:
            old = self.sinks[1].from_ms <= now_ms - self.keep_ms
            if not old and sum(sink.bytes for sink in self.sinks) <= self.keep_bytes:
                break
            gone.append(self.sinks.pop(0))
        return gone

    def report(self) -> Recording:
        return Recording(
            id=self.id,
            files=tuple(str(sink.path) for sink in self.sinks),
            ring=self.ring,
            redacted=self.redact,
            state=self.state,
            started_ms=self.started_ms,
            from_ms=self.sinks[0].from_ms if self.sinks else self.started_ms,
            bytes=sum(sink.bytes for sink in self.sinks),
            changes=sum(sink.changes for sink in self.sinks),
            problem=self.ended or "",
            left_out=self.sinks[0].left_out if self.sinks else "",
        )
