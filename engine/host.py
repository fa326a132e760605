"""The composition root: builds the rooms from the configuration, starts them in order, and stops them in the opposite one."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar

import msgspec

from engine import __version__
from engine.clock import Clock, SystemClock
from engine.config import Config, LoadedConfig
from engine.configured import notify_ways, process_settings, server_settings
from engine.contract.definitions import ModelDefinition
from engine.contract.errors import AiwmError
from engine.contract.notifications import EngineNotice
from engine.contract.records import Record, TaskRow
from engine.contract.requests.session import PROTOCOL_VERSION, Welcome
from engine.control.adapters.room import Adapters
from engine.control.hits import waits_for
from engine.control.manager import Manager
from engine.control.operations.home import HomeOperations
from engine.control.operations.models import BookOperations
from engine.control.operations.streams import StreamOperations
from engine.control.operations.tools import ToolOperations
from engine.doors.pipe import open_pipe
from engine.doors.session import Doorman
from engine.doors.socket import open_socket
from engine.events import JournalEvents
from engine.home import database_path, socket_path
from engine.inference.adapters.book import AdapterBook
from engine.inference.log_operations import LogOperations
from engine.inference.memory.gpus import Gpus
from engine.inference.memory.ledger import Ledger
from engine.inference.models.book import ModelBook
from engine.inference.models.troubles import troubles
from engine.inference.operations import ModelOperations
from engine.inference.remote.factory import elsewhere
from engine.inference.remote.settings import RemoteSettings
from engine.inference.service import InferenceService
from engine.inference.shelf import StoredShelf
from engine.inference.streams import Streams
from engine.keys.operations import KeyOperations
from engine.keys.ring import KeyRing
from engine.needs import NeedsWatch
from engine.notify import Notify
from engine.operations import EngineOperations
from engine.presence import Presence, Stay
from engine.recording.looking import Looking
from engine.recording.operations import RecordOperations
from engine.recording.recorder import Recorder
from engine.requests.approvals import Approvals
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.retention import Limits, Retention
from engine.store.store import Store
from engine.ticker import Ticker
from engine.tools.files import FileTools
from engine.tools.filestore import FileStore
from engine.tools.service import TaskTools, ToolService
from engine.tools.sources import Sources
from engine.views.operations import ViewOperations
from engine.views.service import ViewService

_log = logging.getLogger(__name__)

_CLOSE_S = 1.0
_SWITCH_S = 0.0002


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How this engine was started. `on_demand`: by a subcommand, so it dispatches only for clients that wait for work."""

    home: Path
    on_demand: bool = False
    read_only: bool = False
    attached: bool = False


class Host:
    """One engine: every room, plugged together. `run` returns when it has stopped."""

    FIXED: ClassVar[str] = "this engine is read-only"
    """Why nothing can be changed where nothing can."""

    def __init__(self, options: Options, loaded: LoadedConfig, store: Store, clock: Clock | None = None) -> None:
        self._options = options
        self._store = store
        config = loaded.config
        clock = clock or SystemClock()
        self._events = JournalEvents(store.journal, clock)
        self._streams = Streams()
        shelf = StoredShelf(store.journal, store.readers, clock)
        self._book = ModelBook(options.home, store.journal, store.readers, clock, self._events)
        self._adapters = AdapterBook(options.home, store.journal, store.readers, clock, self._model_of)
        self._keys = KeyRing(config.keys, options.home, config.security.vault_passphrase_file)
        self._models = self._inference(config, shelf, clock)
        self._book.on_change(self._models.definition_changed)
        self._book.on_change(lambda _: self._adapters.models_changed())
        self._manager = Manager(
            options.home,
            config,
            store,
            clock,
            self._events,
            self._models,
            self._models,
            self._streams,
            self._models.rows,
            self._touch,
            self._mode,
            lambda rights: TaskTools(self._tools, rights),
            self._keys,
            lambda rights, path: self._tools.read(rights, path),
        )
        self._adapter_room = Adapters(
            self._adapters, self._models, self._manager, store, clock, self._events, self._keys, self._touch
        )
        rows = self._rows()
        self._views = ViewService(store, rows, clock, self._reasons)
        self._needs = NeedsWatch(lambda: self._manager.tables.queue_needs(), self._events, clock)
        self._logs = LogOperations(options.home, lambda: self._views.watched("logs"), lambda: self._touch("logs"))
        self._retention = Retention(
            store.journal,
            store.readers,
            store.windows,
            clock,
            Limits(**msgspec.structs.asdict(config.retention)),
            self._queue_retention_ms,
            self._manager.performance.add_up,
        )
        self._notify = Notify(
            store.journal,
            clock,
            self._events,
            notify_ways(config.notify),
            host=socket.gethostname(),
            home=str(options.home),
            repeat_ms=config.notify.repeat_ms,
            per_minute=config.notify.per_minute,
        )
        self._ticker = Ticker(config.engine.status_interval_ms, self._moving, self._tick)
        store.journal.on_commit(lambda _: self._ticker.stir())
        self._table = RequestTable(self._events, read_only=options.read_only, whose=self.FIXED)
        self._approvals = Approvals(
            self._table, store.journal, store.readers, clock, config.tools.approval_ms, self._approvals_changed
        )
        self._sources = Sources(
            options.home,
            config.security.external_roots,
            FileStore(options.home, config.files.store_quota_bytes),
            lambda: self._manager.catalogue.sources,
        )
        self._tools = self._tool_service(config)
        self._recorder = Recorder(
            store.journal,
            database_path(options.home),
            options.home / "recordings",
            Looking(rows, self._asked),
            clock,
            self._events,
            {"host": socket.gethostname(), "home": options.home.name},
        )
        self._manager.tables.asks = lambda: self._approvals.waiting
        self._manager.tables.gpus = lambda: self._models.ledger.gpu_words()
        self._manager.tables.key_status = lambda name: self._keys.status(name)[0].value
        self._doorman = Doorman(self._table, self._welcome, self._arrived, self._left)
        self._presence = Presence(
            Stay.on_demand if options.on_demand else Stay.attached if options.attached else Stay.headless,
            config.engine.linger_ms,
            lambda: self._manager.busy,
            self._manager.enable,
            lambda: self.stop("now"),
        )
        self._following = StreamOperations(self._streams, store.readers)
        self._register(loaded, clock)
        self._stopping: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def _inference(self, config: Config, shelf: StoredShelf, clock: Clock) -> InferenceService:
        return InferenceService(
            self._options.home,
            process_settings(config.models),
            book=self._book,
            adapters=self._adapters,
            shelf=shelf,
            clock=clock,
            events=self._events,
            on_replica=lambda state: self._manager.slots.changed(state),
            on_change=self._models_changed,
            ledger=Ledger(int(config.models.memory_gb * 2**30)),
            elsewhere=elsewhere(
                RemoteSettings.of(config.remote),
                keys=self._keys,
                clock=clock,
                events=self._events,
                member=lambda name: self._models.served(name),
                held=lambda model, adapters: self._manager.slots.held(model, adapters),
            ),
            servers=server_settings(config.models, config.keys),
            hits=lambda model: waits_for(model, self._manager.catalogue, self._manager.tally),
        )

    def _tool_service(self, config: Config) -> ToolService:
        return ToolService(
            FileTools(
                self._options.home,
                self._sources,
                max_file_bytes=config.files.max_file_bytes,
                quota_bytes=config.files.area_quota_bytes,
            ),
            self._table,
            self._approvals,
            self._events,
            max_chars=config.tools.max_result_chars,
            timeout_ms=config.tools.timeout_ms,
        )

    def _register(self, loaded: LoadedConfig, clock: Clock) -> None:
        """Every room says which requests it answers."""
        options, config = self._options, loaded.config
        ViewOperations(self._views).register(self._table)
        self._following.register(self._table)
        self._manager.register(self._table)
        self._notify.register(self._table)
        self._approvals.register()
        KeyOperations(self._keys, lambda: self._manager.catalogue.workers).register(self._table)
        ToolOperations(
            self._manager.catalogue,
            self._manager.contexts,
            self._sources,
            self._tools,
            self._events,
            config.files.max_file_bytes,
        ).register(self._table)
        self._adapter_room.register(self._table)
        ModelOperations(self._models, clock).register(self._table)
        BookOperations(
            self._book,
            self._manager.catalogue,
            self._manager.library.definer,
            Gpus(),
            process_settings(config.models),
            config.keys.keys,
            self._models.rows,
            self._models.all_rows,
            self._manager.tally,
        ).register(self._table)
        self._logs.register(self._table)
        HomeOperations(options.home, self._manager.catalogue, self._book, self._manager.tally).register(self._table)
        EngineOperations(
            options.home,
            loaded,
            self._store,
            self._manager,
            self._models.rows,
            lambda: self._doorman.clients,
            lambda: self._presence.dispatching,
            self.stop,
            self._access,
            lambda: troubles(list(self._book.added.values()), self._book.folder),
        ).register(self._table)
        self._register_recordings()

    async def run(self, pipe: tuple[BinaryIO, BinaryIO] | None) -> int:
        """Serve until stopped."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        await self._approvals.start()
        self._adapters.start()
        await self._manager.start(dispatch=self._presence.dispatching)
        recovered = self._store.recovered
        self._events.emit(
            "info",
            "engine.started",
            "engine",
            f"epoch {self._store.epoch}: {recovered.requeued} tasks taken back, {recovered.dead_lettered} given up,"
            f" {recovered.dropped} dropped",
        )
        server = await open_socket(socket_path(self._options.home), self._doorman)
        if pipe is not None:
            await open_pipe(*pipe, self._doorman)
        # The journal's thread gives the interpreter lock away at every statement. At the default of 5 ms it would wait that long to
        # get it back from a busy loop, several times a batch: measured, a third fewer tasks a second.
        sys.setswitchinterval(_SWITCH_S)
        # What is built now lives as long as the engine: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        self._store.feeder.start()
        self._retention.start()
        self._presence.begin()
        mode = await self._stopping
        await self._close(mode, server)
        return 0

    def stop(self, mode: str) -> None:
        """Begin to stop: `drain` waits for running tasks, `now` gives them back. Asked again, `now` overtakes `drain`."""
        if not self._stopping.done():
            self._stopping.set_result(mode)
        elif mode == "now":
            self._manager.hurry()

    # -- what a host that plays a recording does otherwise ---------------------------------------------------------------

    def _rows(self) -> dict[str, Callable[[], Sequence[Record]]]:
        """The tables that are kept in memory, by name."""
        tables = self._manager.tables
        return {
            "queues": tables.queues,
            "pools": tables.pools,
            "instances": tables.instances,
            "retired": tables.retired,
            "workers": tables.workers,
            "templates": tables.templates,
            "sources": tables.sources,
            "models": self._models.all_rows,
            "devices": self._models.devices,
            "adapters": lambda: self._adapter_room.rows(),
            "lessons": self._manager.supervision.lesson_rows,
            "reviews": self._manager.supervision.review_rows,
            **self._manager.desk.tables(),
            "approvals": lambda: self._approvals.rows(),
            "needs": lambda: [*self._approvals.needs(), *tables.needs()],
            "logs": lambda: self._logs.rows(),
            "machine": tables.machine,
        }

    def _reasons(self, found: list[TaskRow]) -> list[TaskRow]:
        """Task rows with why those that wait do so."""
        return self._manager.tables.with_reasons(found)

    def _register_recordings(self) -> None:
        RecordOperations(self._recorder).register(self._table)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _close(self, mode: str, server: asyncio.AbstractServer) -> None:
        self._manager.submission.draining = lambda: True
        self._doorman.tell_all(EngineNotice(what="stopping", text=f"the engine is stopping ({mode})"))
        self._touch("machine")
        if mode == "drain":
            # Until it is over clients may come: to look, and to say that it shall not take so long.
            await self._manager.drain()
        self._doorman.stopping = True
        server.close()
        await self._recorder.close()
        await self._manager.stop()
        self._ticker.close()
        await self._retention.close()
        await self._notify.close()
        self._needs.close()
        await self._models.close()
        await self._adapters.close()
        self._events.emit("info", "engine.stopped", "engine", mode)
        socket_path(self._options.home).unlink(missing_ok=True)
        # Answers under way (the stop's own among them) leave before the file is closed under their readers.
        peers = self._doorman.close_all()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.gather(*(asyncio.shield(peer.closed) for peer in peers))
        except TimeoutError:
            pass
        await self._views.close()
        await self._store.close()

    def _signalled(self, number: int) -> None:
        _log.info("signal %s", signal.Signals(number).name)
        again = self._stopping.done()
        self.stop("now" if again or number == signal.SIGTERM else "drain")

    def _welcome(self) -> Welcome:
        return Welcome(
            protocol=PROTOCOL_VERSION,
            version=__version__,
            home=str(self._options.home),
            pid=os.getpid(),
            epoch=self._store.epoch,
            host=socket.gethostname(),
            read_only=self._options.read_only,
            brief=self._presence.brief,
        )

    def _arrived(self, caller: Caller, works: bool) -> None:
        self._presence.arrived(caller.id, works)

    def _left(self, caller: Caller) -> None:
        self._views.close_client(caller.id)
        self._recorder.client_left(caller.id)
        self._following.close_client(caller.id)
        self._logs.close_client(caller.id)
        self._manager.sessions.close_client(caller.id)
        self._presence.left(caller.id)

    def _mode(self) -> str:
        if self._stopping.done():
            return "stopping"
        if self._store.journal.state == "failed":
            return "storage failed"
        if not self._presence.dispatching:
            return "not dispatching"
        usual = "read-only" if self._options.read_only else "live"
        return self._manager.dispatching.mode() or usual

    def _approvals_changed(self) -> None:
        for table in ("approvals", "needs", "machine"):
            self._touch(table)

    def _access(self) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
        """What stands between workers and what they are to reach: API keys with their status, data sources with their problem."""
        catalogue = self._manager.catalogue
        names = self._keys.keys.keys() | {worker.key for worker in catalogue.workers.values() if worker.key}
        found = [(name, self._keys.status(name)) for name in sorted(names)]
        keys = [(name, status.value, note) for name, (status, note) in found]
        return keys, [(name, self._sources.problem(source)) for name, source in sorted(catalogue.sources.items())]

    def _model_of(self, name: str) -> ModelDefinition | None:
        """A model of the book, for adapters that were made for it."""
        try:
            return self._book.find(name)
        except AiwmError:
            return None

    def _models_changed(self) -> None:
        self._adapter_room.look()
        for table in ("models", "devices", "adapters", "needs"):
            self._touch(table)

    def _touch(self, table: str) -> None:
        self._views.touch(table)
        if table == "needs":
            self._needs.stir()
        self._recorder.touch(table)

    async def _asked(self, method: str, params: msgspec.Raw) -> bytes:
        """What the engine would answer an operator who asks this now."""
        caller = Caller(id=0, principal="operator", client="recorder", read_only=True, send=lambda _: False)
        return await self._table.handle(method, params, caller)

    def _queue_retention_ms(self, queue: str) -> int | None:
        found = self._manager.catalogue.queues.get(queue)
        return None if found is None else found.retention_ms

    def _moving(self) -> bool:
        """Whether figures change by themselves: rates fall for a minute after the last task."""
        tally = self._manager.tally
        moving = any(any(tally.rates(queue)) for queue in self._manager.catalogue.queues)
        return bool(len(self._manager.attempts)) or moving or any(row.tokens_per_s for row in self._models.rows())

    def _tick(self) -> None:
        # A queue stands still when for a minute nothing has come out of it: that is no event, and no commit tells of it.
        for table in ("machine", "models", "devices", "queues", "pools", "needs"):
            self._touch(table)
        self._presence.look()
