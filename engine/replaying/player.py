"""What was true at a moment of a recording: the store's rows by doing again what was committed, everything else as it was seen.

Forward is doing more. Back is becoming an earlier image of the file and going forward from there; images are kept on the way, so that no
step back is far."""

from __future__ import annotations

import asyncio
import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.clock import SystemClock
from engine.contract.errors import AiwmError, Code
from engine.contract.records import TABLES, Record
from engine.contract.requests.recordings import ReplayState
from engine.contract.states import Durability
from engine.recording.lines import Line, damaged, read_entries
from engine.replaying.tape import Tape
from engine.store.ops import Op
from engine.store.rerun import RerunStore

KEEP_EVERY: Final = 20_000
"""Operations between two images at first: going back repeats at most so many."""
_IMAGES: Final = 24
IMAGES_BYTES: Final = 512 * 2**20
"""So many images, and so many bytes of them, are kept at most; beyond that they are further apart. The first one is always there."""
_AT_ONCE: Final = 2_000
_TICK_S: Final = 0.1
SPEEDS: Final = (0.1, 1000.0)


class TapeClock(SystemClock):
    """Wall time is where the recording stands."""

    def __init__(self) -> None:
        self.at_ms = 0

    def wall_ms(self) -> int:
        return self.at_ms


class _Image(msgspec.Struct, frozen=True):
    """Everything as it was after `index` changes, `ops` operations from the beginning. `size` in bytes."""

    index: int
    ops: int
    path: Path
    size: int
    rows: dict[str, dict[str, Record]]
    answers: dict[str, bytes]
    skipped: int


class Player:
    """Moves a store through a tape. `changed` is called whenever it stands somewhere else, `told` whenever `state` is another."""

    def __init__(self, tape: Tape, store: RerunStore, folder: Path) -> None:
        self.clock = TapeClock()
        self.clock.at_ms = tape.from_ms
        self.changed: Callable[[], None] = lambda: None
        self.told: Callable[[], None] = lambda: None
        self._tape = tape
        self._store = store
        self._folder = folder
        self._rows: dict[str, dict[str, Record]] = {}
        self._answers: dict[str, bytes] = {}
        self._index = 0
        self._ops = 0
        self._skipped = 0
        self._speed = 1.0
        self._trouble = ""
        self._lock = asyncio.Lock()
        self._images: list[_Image] = []
        self._apart = KEEP_EVERY
        self._moving: set[asyncio.Task[None]] = set()
        self._playing: asyncio.Task[None] | None = None

    # -- what was ----------------------------------------------------------------------------------------------------------

    def rows(self, table: str) -> list[Record]:
        """The rows of a table that was kept in memory."""
        return list(self._rows.get(table, {}).values())

    def row(self, table: str, identifier: str) -> Record | None:
        return self._rows.get(table, {}).get(identifier)

    def answer(self, method: str, params: Mapping[str, Any]) -> bytes | None:
        """What a request was answered then; None when that was not recorded."""
        return self._answers.get(_key(method, params))

    @property
    def state(self) -> ReplayState:
        return ReplayState(
            at_ms=self.clock.at_ms,
            from_ms=self._tape.from_ms,
            to_ms=self._tape.to_ms,
            playing=self._playing is not None,
            speed=self._speed,
            change=self._index,
            changes=len(self._tape),
            host=self._tape.header.host,
            redacted=self._tape.header.redacted,
            ends=self._trouble or self._tape.ends,
            cut=bool(self._trouble) or self._tape.cut,
            left_out=self._tape.left_out,
            skipped=self._skipped,
        )

    # -- moving --------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Stand at the beginning."""
        await self._keep()
        await self.seek(self._tape.from_ms)

    async def seek(self, at_ms: int) -> None:
        """Stand at a moment, or at the nearest one that there is."""
        at_ms = min(max(at_ms, self._tape.from_ms), self._tape.to_ms)
        await self._move(lambda: at_ms)

    async def step(self, count: int) -> None:
        """Stand `count` moments with a change later, below 0 earlier."""
        await self._move(lambda: self._stepped(count))

    def _stepped(self, count: int) -> int:
        at, steps = self.clock.at_ms, self._tape.steps
        for _ in range(min(abs(count), len(steps))):
            if count > 0:
                index = bisect_right(steps, at)
                at = steps[index] if index < len(steps) else self._tape.to_ms
            else:
                index = bisect_left(steps, at)
                at = max(steps[index - 1] if index else 0, self._tape.from_ms)
        return at

    def play(self, playing: bool, speed: float | None) -> None:
        """Go on by itself, or stand. Raises `bad_request` for a speed that is none."""
        if speed is not None:
            if not SPEEDS[0] <= speed <= SPEEDS[1]:
                message = f"speed is {speed:g}, but must lie between {SPEEDS[0]:g} and {SPEEDS[1]:g}"
                raise AiwmError(Code.bad_request, message, field="speed", fix="speed 10")
            self._speed = speed
        if playing and self._playing is None:
            self._playing = asyncio.get_running_loop().create_task(self._play())
        elif not playing and self._playing is not None:
            self._playing.cancel()
            self._playing = None
        self.told()

    async def close(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.wait([self._playing])
        if self._moving:
            await asyncio.wait(self._moving)
        self._tape.close()

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        last, exact = loop.time(), float(self.clock.at_ms)
        while self.clock.at_ms < self._tape.to_ms:
            await asyncio.sleep(_TICK_S)
            now = loop.time()
            if int(exact) != self.clock.at_ms:
                # Somebody went elsewhere meanwhile: on from there.
                exact = float(self.clock.at_ms)
            exact = min(exact + (now - last) * 1000 * self._speed, float(self._tape.to_ms))
            last = now
            try:
                await self._move(partial(int, exact))
            except (AiwmError, sqlite3.Error, OSError) as error:
                self._trouble = str(error)
                break
        self._playing = None
        self.told()

    async def _move(self, to: Callable[[], int]) -> None:
        """Stand at the moment that `to` says when its turn comes. Whoever asked may go: half a move would leave rows of two moments."""

        async def go() -> None:
            async with self._lock:
                at_ms = to()
                await self._go(self._tape.until(at_ms), at_ms)

        move = asyncio.get_running_loop().create_task(go())
        self._moving.add(move)
        move.add_done_callback(self._moving.discard)
        await asyncio.shield(move)

    async def _go(self, index: int, at_ms: int) -> None:
        if index != self._index:
            image = max((it for it in self._images if it.index <= index), key=lambda it: it.index)
            if index < self._index or image.index > self._index:
                await self._become(image)
            while self._index < index:
                await self._forward(index)
        self.clock.at_ms = at_ms
        self.changed()
        self.told()

    async def _become(self, image: _Image) -> None:
        await self._store.become(image.path)
        self._index, self._ops, self._skipped = image.index, image.ops, image.skipped
        self._rows = {table: dict(rows) for table, rows in image.rows.items()}
        self._answers = dict(image.answers)

    async def _forward(self, index: int) -> None:
        """Do some of the changes up to `index`, and keep an image now and then."""
        entries: list[list[Op]] = []
        count = 0
        while self._index < index and count < _AT_ONCE:
            line, number = self._tape.line(self._index)
            if line.ops:
                found = read_entries(line.ops, number)
                entries += found
                count += sum(map(len, found))
            self._see(line, number)
            self._index += 1
        receipts = await asyncio.gather(
            *(self._store.past.write(entry, Durability.os) for entry in entries), return_exceptions=True
        )
        for receipt in receipts:
            if isinstance(receipt, AiwmError) and receipt.code == Code.storage_failed:
                raise receipt
            self._skipped += isinstance(receipt, BaseException) or receipt.fenced
        self._ops += count
        if self._ops - max(image.ops for image in self._images) >= self._apart:
            await self._keep()

    def _see(self, line: Line, number: int) -> None:
        if line.table:
            kind = TABLES.get(line.table)
            if kind is None:
                raise damaged(number, f'"{line.table[:40]}" is no table')
            shown = self._rows.setdefault(line.table, {})
            try:
                shown.update((row.id, row) for row in (msgspec.convert(it, kind) for it in line.rows))
            except msgspec.ValidationError as error:
                raise damaged(number, f"a row of {line.table}: {error}") from None
            for identifier in line.gone:
                shown.pop(identifier, None)
        for method, params, result in line.answers:
            self._answers[_key(method, msgspec.json.decode(params))] = bytes(result)

    async def _keep(self) -> None:
        """Keep an image of now, if there is room for it."""
        if any(image.index == self._index for image in self._images):
            return
        needed = self._store.size
        if not self._room(needed):
            return
        path = self._folder / f"image-{self._index}.db"
        await self._store.keep(path)
        rows = {table: dict(rows) for table, rows in self._rows.items()}
        image = _Image(self._index, self._ops, path, needed, rows, dict(self._answers), self._skipped)
        self._images = sorted([*self._images, image], key=lambda it: it.index)

    def _room(self, needed: int) -> bool:
        """Make room for another image of so many bytes: of too many, every second one goes, and the next ones are twice as far apart."""
        while len(self._images) >= _IMAGES or sum(it.size for it in self._images) + needed > IMAGES_BYTES:
            if len(self._images) < 2:
                return not self._images
            for image in self._images[1::2]:
                image.path.unlink(missing_ok=True)
            self._images = self._images[::2]
            self._apart *= 2
        return True


def _key(method: str, params: Mapping[str, Any]) -> str:
    return method + msgspec.json.encode(dict(sorted(params.items()))).decode()
