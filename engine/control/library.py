"""The definitions as a whole: the catalogue with what keeps, checks and changes it, put together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine.clock import Clock
from engine.config import Config, KeyMethod
from engine.contract.ids import task_id
from engine.contract.requests.tasks import Cancelled, TaskCancel
from engine.contract.states import TaskState
from engine.control.bundles.validate import Prepared, prepare
from engine.control.catalogue import Catalogue
from engine.control.checks import Surroundings
from engine.control.definer import Announce, Definer
from engine.control.definitions import Definitions
from engine.control.dispatcher import Dispatcher
from engine.control.emptying import Emptying
from engine.control.keeping import Keeping
from engine.control.operations.bundles import BundleOperations
from engine.control.operations.fleet import FleetOperations
from engine.control.operations.sources import SourceOperations
from engine.control.operations.templates import TemplateOperations
from engine.control.scaling import Scaling
from engine.control.tables import Tables
from engine.control.tally import Tally
from engine.keys.ring import may_go_to
from engine.ports import EventSink
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.commit import CommittedBatch
from engine.store.store import Store
from engine.wire.rpc import encode
from engine.workers.registry import KindRegistry


class Library:
    """Owns what the catalogue holds. `check_model` raises for a model that is not here, `announce` tells the scheduler of changes."""

    def __init__(
        self,
        home: Path,
        config: Config,
        catalogue: Catalogue,
        kinds: KindRegistry,
        store: Store,
        clock: Clock,
        events: EventSink,
        check_model: Callable[[str], None],
        announce: Announce,
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._clock = clock
        self._announce = announce
        self._keys = config.keys
        roots = tuple(Path(root) for root in config.security.external_roots)
        self.around = Surroundings(
            kinds=kinds,
            files=home / "files",
            roots=roots,
            keys=lambda: config.keys.keys(),
            sendable=lambda key, host: may_go_to(host, config.keys[key]),
            model=check_model,
        )
        self.keeping = Keeping(home, catalogue, store.journal, store.readers, clock, events)
        self.definer = Definer(catalogue, self.keeping, self.around, announce)
        self._events = events
        store.journal.on_commit(self._dead_letters)

    async def begin(self) -> None:
        """Put the home's definitions in force and announce them. A model that is not here is told with its pool: it may come back."""
        around = msgspec.structs.replace(self.around, model=lambda _: None)

        def look(document: dict[str, Any], base: Definitions) -> Prepared:
            return prepare(document, base, around, key_for=self._key_for, strict=True)

        await self.keeping.begin(look)
        self._announce(Definitions(), self._catalogue.now)

    def register(
        self, table: RequestTable, dispatcher: Dispatcher, tables: Tables, scaling: Scaling, tally: Tally
    ) -> None:
        """Answer the requests about definitions."""

        async def cancel(request: TaskCancel, caller: Caller) -> Cancelled:
            answer = await table.handle(TaskCancel.method, msgspec.Raw(encode(request)), caller)
            return msgspec.json.decode(answer, type=Cancelled)

        emptying = Emptying(self._store.windows, tally, cancel, self._clock.wall_ms)
        FleetOperations(
            self._catalogue, self.definer, dispatcher, tables, scaling, emptying, self.around.model
        ).register(table)
        TemplateOperations(self._catalogue, self.definer).register(table)
        SourceOperations(self._catalogue, self.definer, tables).register(table)
        BundleOperations(
            self._catalogue,
            self.definer,
            self.keeping,
            self.around,
            tables,
            emptying.held,
            self._key_for,
            self._clock.wall_ms,
            self._events,
        ).register(table)

    def _dead_letters(self, batch: CommittedBatch) -> None:
        """A task that was given up in a mission-critical queue, or by a mission-critical pool, is an alert."""
        for change in batch.changed:
            if change.after != TaskState.failed or change.before == TaskState.failed:
                continue
            queue = self._catalogue.queues.get(change.queue)
            critical = queue is not None and queue.mission_critical
            if not critical and not any(pool.mission_critical for pool in self._catalogue.pools.values()):
                continue
            row = self._store.readers.task_row(change.seq)
            pool = self._catalogue.pools.get(row.pool or "") if row is not None else None
            text = f"{task_id(change.seq)}: {row.reason if row is not None else 'it failed'}"
            if queue is not None and critical:
                self._events.emit("error", "alert.queue", queue.name, text, who="scheduler", task_seq=change.seq)
            elif pool is not None and pool.mission_critical:
                self._events.emit("error", "alert.pool", pool.name, text, who="scheduler", task_seq=change.seq)

    def _key_for(self, method: str, value: str) -> str | None:
        """The key of config.toml that a seed's `auth` means: the one that comes from the same place, or is called so."""
        for name, key in self._keys.items():
            source = key.path if key.method is KeyMethod.file else key.value
            if key.method is _METHODS.get(method) and value in (source, name):
                return name
        return None


_METHODS = {"env_var": KeyMethod.env, "config_path": KeyMethod.file, "vault": KeyMethod.vault}
