"""Requests about recordings: making one, and moving through one that is played."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.requests.base import Request
from engine.contract.states import Effect

RING_MS = 600_000
RING_BYTES = 64 * 2**20


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A recording that is being made. `files` belong to it in this order (a ring has several), on the engine's machine; `from_ms` is the
    first moment that they have. `state` is snapshot, recording or ended; `problem` says why it ended by itself, `left_out` what of the
    home was too much for its beginning."""

    id: str
    files: tuple[str, ...]
    ring: bool
    redacted: bool
    state: str
    started_ms: int
    from_ms: int
    bytes: int
    changes: int
    problem: str = ""
    left_out: str = ""


class RecordStart(Request[Recording], frozen=True, kw_only=True):
    """Record what is committed and seen from now on, until `record.stop`, the end of this connection, or the engine's.

    With a `path` (absolute, on the engine's machine, not there yet) it is one file; without, it is a ring of the last `keep_ms` ms or
    `keep_bytes` bytes in the home's `recordings/`. `redact` leaves out payloads, results, prompts and error texts of tasks."""

    method: ClassVar[str] = "record.start"
    effect: ClassVar[Effect] = Effect.write

    path: str = ""
    redact: bool = False
    keep_ms: int = RING_MS
    keep_bytes: int = RING_BYTES


class RecordStop(Request[Recording], frozen=True, kw_only=True):
    """End a recording of this connection. A ring's files are deleted."""

    method: ClassVar[str] = "record.stop"
    effect: ClassVar[Effect] = Effect.write

    id: str


class RecordShow(Request[Recording], frozen=True, kw_only=True):
    """How a recording of this connection is. Everything until now is in its files when the answer comes."""

    method: ClassVar[str] = "record.show"
    effect: ClassVar[Effect] = Effect.read

    id: str


class ReplayState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a played recording stands. It reaches from `from_ms` to `to_ms`; `change` of `changes` is the last that is seen. `ends` says
    how it ended (`cut`: by nobody's wish), `left_out` what it does not have, `skipped` how many changes were about tasks that it does
    not have. Times are Unix ms."""

    at_ms: int
    from_ms: int
    to_ms: int
    playing: bool
    speed: float
    change: int
    changes: int
    host: str
    redacted: bool
    ends: str
    cut: bool = False
    left_out: str = ""
    skipped: int = 0


class ReplayShow(Request[ReplayState], frozen=True, kw_only=True):
    """Where the recording stands that this engine plays."""

    method: ClassVar[str] = "replay.show"
    effect: ClassVar[Effect] = Effect.read


class ReplaySeek(Request[ReplayState], frozen=True, kw_only=True):
    """Go to a moment of the recording: `at_ms` (Unix ms), or `by_ms` from here, or `step` changes forward (below 0: back). A moment
    outside of it is its beginning or its end."""

    method: ClassVar[str] = "replay.seek"
    effect: ClassVar[Effect] = Effect.read

    at_ms: int | None = None
    by_ms: int = 0
    step: int = 0


class ReplayPlay(Request[ReplayState], frozen=True, kw_only=True):
    """Let the recording go on by itself, or not; `speed` is how many of its seconds pass in one (0.1 to 1000)."""

    method: ClassVar[str] = "replay.play"
    effect: ClassVar[Effect] = Effect.read

    playing: bool = True
    speed: float | None = None
