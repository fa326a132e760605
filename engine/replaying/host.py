"""The engine that plays a recording: the live engine's rooms over a tape, and a player instead of all that makes things happen."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar

import msgspec

from engine.config import LoadedConfig, load_config
from engine.contract.errors import AiwmError
from engine.contract.notifications import ReplayMoved
from engine.contract.records import MachineRow, QueueRow, Record, TaskRow
from engine.contract.requests import recordings as requests
from engine.contract.requests.session import Welcome
from engine.contract.states import TaskState
from engine.doors.pipe import open_pipe
from engine.doors.socket import open_socket
from engine.home import lock_path, make_home, socket_path
from engine.host import Host, Options
from engine.lock import HomeLock
from engine.recording.looking import LIVE
from engine.replaying.answers import Answers
from engine.replaying.folder import playing_folder
from engine.replaying.player import Player
from engine.replaying.tape import Tape
from engine.requests.caller import Caller
from engine.running import say
from engine.store.image import build
from engine.store.rerun import RerunStore

_TELL_S = 0.2
_WAITING = frozenset({TaskState.pending, TaskState.scheduled, TaskState.retrying})


class ReplayHost(Host):
    """Answers what the recorded engine would have answered, at the moment where the player stands."""

    FIXED: ClassVar[str] = "a recording cannot be changed"

    def __init__(self, options: Options, loaded: LoadedConfig, store: RerunStore, player: Player, host: str) -> None:
        self._player = player
        self._of_host = host
        self._told = 0.0
        self._telling: asyncio.TimerHandle | None = None
        super().__init__(options, loaded, store, player.clock)
        answers = Answers(player, store.readers, lambda: self._manager.catalogue.now, self._reasons)
        self._table.instead(answers.choose)
        player.changed, player.told = self._moved, self._tell

    async def run(self, pipe: tuple[BinaryIO, BinaryIO] | None) -> int:
        """Serve until everybody has left, or until stopped."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, "now")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        await self._player.start()
        server = await open_socket(socket_path(self._options.home), self._doorman)
        if pipe is not None:
            await open_pipe(*pipe, self._doorman)
        self._presence.begin()
        await self._stopping
        self._doorman.stopping = True
        server.close()
        self._doorman.close_all()
        await self._player.close()
        await self._models.close()
        await self._views.close()
        await self._store.close()
        return 0

    # -- what it answers -------------------------------------------------------------------------------------------------

    def _rows(self) -> dict[str, Callable[[], Sequence[Record]]]:
        live = {name: self._recorded(name) for name in LIVE if name != "machine"}
        return {**super()._rows(), **live, "queues": self._queues, "logs": tuple, "machine": self._machine}

    def _recorded(self, table: str) -> Callable[[], Sequence[Record]]:
        return lambda: self._player.rows(table)

    def _machine(self) -> list[Record]:
        clock = time.strftime("%H:%M:%S", time.localtime(self._player.clock.at_ms / 1000))
        rows = [row for row in self._player.rows("machine") if isinstance(row, MachineRow)]
        counted = {} if self._player.state.left_out else self._counted(None)
        return [msgspec.structs.replace(row, mode=f"replay {clock}", **counted) for row in rows]

    def _queues(self) -> list[Record]:
        """As they were seen, with the tasks that they have at this very moment, if the recording has all of them."""
        rows = [row for row in self._player.rows("queues") if isinstance(row, QueueRow)]
        if self._player.state.left_out:
            return [*rows]
        states = ("scheduled", "retrying", "completed", "failed", "cancelled")
        tally = self._manager.tally
        return [
            msgspec.structs.replace(
                row, **self._counted(row.id), **{state: tally.count(row.id, TaskState(state)) for state in states}
            )
            for row in rows
        ]

    def _counted(self, queue: str | None) -> dict[str, int]:
        """How many tasks of a queue (None: of all) run and wait."""
        tally = self._manager.tally
        if queue is None:
            return {"running": tally.total(TaskState.processing), "waiting": tally.total(*_WAITING)}
        return {"running": tally.count(queue, TaskState.processing), "waiting": tally.waiting(queue)}

    def _reasons(self, found: list[TaskRow]) -> list[TaskRow]:
        """Waiting tasks have the gate of their queue."""
        out: list[TaskRow] = []
        for row in found:
            queue = self._player.row("queues", row.queue)
            if row.state in _WAITING and isinstance(queue, QueueRow):
                gate = "after" if row.after else queue.gate
                row = msgspec.structs.replace(row, reason=" · ".join(part for part in (gate, row.reason) if part))
            out.append(row)
        return out

    def _register_recordings(self) -> None:
        super()._register_recordings()
        self._table.replace(requests.ReplayShow, self._show)
        self._table.replace(requests.ReplaySeek, self._seek)
        self._table.replace(requests.ReplayPlay, self._play)

    async def _show(self, _: requests.ReplayShow, __: Caller) -> requests.ReplayState:
        return self._player.state

    async def _seek(self, request: requests.ReplaySeek, _: Caller) -> requests.ReplayState:
        if request.step:
            await self._player.step(request.step)
        else:
            at = self._player.clock.at_ms if request.at_ms is None else request.at_ms
            await self._player.seek(at + request.by_ms)
        return self._player.state

    async def _play(self, request: requests.ReplayPlay, _: Caller) -> requests.ReplayState:
        self._player.play(request.playing, request.speed)
        return self._player.state

    def _welcome(self) -> Welcome:
        welcome = super()._welcome()
        return msgspec.structs.replace(welcome, host=self._of_host, read_only=True, at_ms=self._player.clock.at_ms)

    def _arrived(self, caller: Caller, works: bool) -> None:
        del works
        super()._arrived(caller, False)

    # -- where it stands -------------------------------------------------------------------------------------------------

    def _moved(self) -> None:
        self._manager.library.keeping.restore()
        self._manager.tally.recount(self._store.counters())
        self._views.refresh()

    def _tell(self) -> None:
        """Tell every client where it stands: at once, but not more than five times a second."""
        now = asyncio.get_running_loop().time()
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_at(max(now, self._told + _TELL_S), self._tell_now)

    def _tell_now(self) -> None:
        self._telling, self._told = None, asyncio.get_running_loop().time()
        state = self._player.state
        self._doorman.tell_all(ReplayMoved(at_ms=state.at_ms, playing=state.playing, speed=state.speed))


def run(arguments: list[str], pipe: tuple[BinaryIO, BinaryIO] | None) -> int:
    """`engine replay`: play a recording to whoever connects. Exit codes as `engine run`."""
    parser = argparse.ArgumentParser(prog="aiwm replay", description="Play a recording.")
    parser.add_argument("files", nargs="+", type=Path, help="the recording; a ring's files in their order")
    parser.add_argument("--home", type=Path, default=None, help="where to serve it (default: a folder that goes again)")
    parser.add_argument("--stdio", action="store_true", help="serve the client at stdin and stdout, and leave with it")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    # Until the loop hears it: opening a large recording takes a while, and its folder is not to be left behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        with playing_folder() as folder:
            home = (parsed.home or folder / "home").expanduser().absolute()
            make_home(home)
            lock = HomeLock(lock_path(home))
            try:
                return asyncio.run(_serve(parsed.files, home, folder, load_config(), pipe, stays=not parsed.stdio))
            finally:
                lock.release()
    except AiwmError as error:
        return say(error)


async def _serve(
    files: Sequence[Path],
    home: Path,
    folder: Path,
    loaded: LoadedConfig,
    pipe: tuple[BinaryIO, BinaryIO] | None,
    *,
    stays: bool,
) -> int:
    tape = Tape(files)
    database = folder / "replay.db"
    build(database, tape.parts(), epoch=tape.header.epoch, task_high=tape.header.task_high)
    store = RerunStore(database)
    player = Player(tape, store, folder)
    # Nobody is called for what happened long ago.
    silent = msgspec.structs.replace(loaded.config.notify, command=(), webhook="")
    quiet = msgspec.structs.replace(loaded, config=msgspec.structs.replace(loaded.config, notify=silent))
    options = Options(home=home, on_demand=not stays, read_only=True)
    return await ReplayHost(options, quiet, store, player, tape.header.host).run(pipe)
