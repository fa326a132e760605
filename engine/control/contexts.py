"""What a task may use, gathered from the definitions in force and its stored row: the shell around the pure `scheduling.context`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from engine.contract.definitions import DataSource, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_id, task_seq
from engine.contract.requests.context import EffectiveContext, GivenSource, GivenSupervisor, LevelSays
from engine.control.catalogue import Catalogue
from engine.scheduling.context import Effective, Given, Level, LevelName, resolve
from engine.store.readers import Readers
from engine.store.rows import StoredTask
from engine.tools.gate import Lists
from engine.tools.service import Rights

AGENTS = frozenset({"worker", "supervisor", "instance"})
"""Principals that are no persons and no tasks: `worker:NAME`, `supervisor:NAME`, `instance:ID/NAME`, each of a definition."""

_MOST_ABOVE = 32


class _Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What the tasks above a task leave it: their data sources (None: a person started it), their lists, their ids, nearest first."""

    sources: frozenset[str] | None = None
    lists: tuple[Lists, ...] = ()
    tasks: tuple[str, ...] = ()


class Contexts:
    """Resolves contexts. A task that another task started has at most what that one has, all the way up."""

    def __init__(self, catalogue: Catalogue, readers: Readers) -> None:
        self._catalogue = catalogue
        self._readers = readers

    def rights(self, seq: int, definition: WorkerDefinition, pool: str) -> Rights | None:
        """What a running task may call and read; None for a task that is gone."""
        row = self._readers.task(seq)
        if row is None:
            return None
        bounds = self._above(row)
        effective = resolve(self._levels(row, definition, pool), self._catalogue.sources, bounds.sources)
        identifier = task_id(seq)
        return Rights(
            principal=f"task:{identifier}",
            lists=(_lists(definition), *bounds.lists),
            sources=effective.names,
            area=f"tasks/{identifier}",
            task=identifier,
        )

    def rights_as(self, definition: WorkerDefinition, principal: str) -> Rights:
        """What a definition may call and read where there is no task: in a chat, or when a person tries a tool as it."""
        known = tuple(name for name in dict.fromkeys(definition.sources) if name in self._catalogue.sources)
        return Rights(
            principal=principal, lists=(_lists(definition),), sources=known, area=f"workers/{definition.name}"
        )

    def effective(
        self,
        identifier: str,
        problem: Callable[[DataSource], str],
        permitted: Callable[[Rights], tuple[list[str], list[str]]],
    ) -> EffectiveContext:
        """The context of a task for people. `problem` says why a source cannot be used, `permitted` the tools that a caller may call
        and those that need approval. Raises `not_found`."""
        seq = task_seq(identifier)
        row = self._readers.task(seq)
        if row is None:
            raise AiwmError(Code.not_found, f"task {identifier[:40]} does not exist", field="id", fix="aiwm task list")
        definition, pool, note = self._server(row)
        levels = self._levels(row, definition, pool)
        bounds = self._above(row)
        effective = resolve(levels, self._catalogue.sources, bounds.sources)
        lists = (*((_lists(definition),) if definition is not None else ()), *bounds.lists)
        rights = Rights(
            principal=f"task:{task_id(seq)}", lists=lists, sources=effective.names, area="", task=task_id(seq)
        )
        tools, approval = permitted(rights) if definition is not None and definition.tools_allow else ([], [])
        return EffectiveContext(
            task=task_id(seq),
            levels=tuple(
                LevelSays(level=level.level, name=level.name, sources=level.sources, supervisor=level.supervisor)
                for level in levels
            ),
            sources=self._sources(effective, problem),
            supervisor=_supervisor(effective.supervisor),
            tools=tuple(tools),
            needs_approval=tuple(approval),
            tools_allow=definition.tools_allow if definition is not None else (),
            tools_deny=definition.tools_deny if definition is not None else (),
            tools_from=tuple(each.whose for each in lists),
            bounded_by=bounds.tasks,
            note=note,
        )

    def _sources(self, effective: Effective, problem: Callable[[DataSource], str]) -> tuple[GivenSource, ...]:
        usable = [_source(given, problem(self._catalogue.sources[given.value])) for given in effective.sources]
        gone = [_source(given, "no such data source is defined") for given in effective.unknown]
        kept = [
            _source(given, "withheld: the task that started this one may not use it") for given in effective.withheld
        ]
        return tuple(usable + gone + kept)

    def _server(self, row: StoredTask) -> tuple[WorkerDefinition | None, str, str]:
        """The definition and pool that ran a task, run it, or would: then the note says that it is not settled yet."""
        workers, pools = self._catalogue.workers, self._catalogue.pools
        if row.pool is not None:
            return workers.get(row.definition or ""), row.pool, ""
        queue = self._catalogue.queues.get(row.queue)
        for name in queue.pools if queue is not None else ():
            pool = pools.get(name)
            definition = workers.get(pool.definition) if pool is not None else None
            if definition is None or (row.wanted is not None and definition.name != row.wanted):
                continue
            if set(row.capabilities) <= set(definition.capabilities):
                others = " (or another pool of the queue)" if queue is not None and len(queue.pools) > 1 else ""
                return definition, name, f"not started: shown as pool {name} would run it{others}"
        return workers.get(row.wanted or ""), "", "not started, and no pool of its queue can serve it now"

    def _levels(self, row: StoredTask, definition: WorkerDefinition | None, pool_name: str) -> list[Level]:
        catalogue = self._catalogue
        queue, pool = catalogue.queues.get(row.queue), catalogue.pools.get(pool_name)
        template = catalogue.templates.get(row.template or "")
        found = [
            Level(level=LevelName.task, name=task_id(row.seq), sources=row.sources, supervisor=row.supervisor or "")
        ]
        if row.instance is not None:
            # An instance of a pool says nothing of its own; only one that was spawned by hand may.
            found.append(Level(level=LevelName.instance, name=row.instance))
        for level, thing in (
            (LevelName.definition, definition),
            (LevelName.queue, queue),
            (LevelName.pool, pool),
            (LevelName.template, template),
        ):
            if thing is not None:
                found.append(
                    Level(level=level, name=thing.name, sources=tuple(thing.sources), supervisor=thing.supervisor)
                )
        return sorted(found, key=lambda it: list(LevelName).index(it.level))

    def _above(self, row: StoredTask, depth: int = 0) -> _Bounds:
        if row.parent is None:
            return self._agent(row.by)
        identifier = task_id(row.parent)
        parent = self._readers.task(row.parent) if depth < _MOST_ABOVE else None
        if parent is None:
            # Whoever it was may have had nothing: what is not known is not allowed.
            return _Bounds(sources=frozenset(), lists=(Lists(whose=identifier, allow=()),), tasks=(identifier,))
        above = self._above(parent, depth + 1)
        definition = self._catalogue.workers.get(parent.definition or "")
        effective = resolve(self._levels(parent, definition, parent.pool or ""), self._catalogue.sources, above.sources)
        allow, deny = (definition.tools_allow, definition.tools_deny) if definition is not None else ((), ())
        own = Lists(whose=f"task {identifier}", allow=allow, deny=deny)
        return _Bounds(sources=frozenset(effective.names), lists=(own, *above.lists), tasks=(identifier, *above.tasks))

    def _agent(self, principal: str) -> _Bounds:
        """What a chat, a supervisor or a tried worker leaves the tasks that it starts: its definition's own. A person leaves all."""
        kind, _, name = principal.partition(":")
        if kind not in AGENTS:
            return _Bounds()
        definition = self._catalogue.workers.get(name.rpartition("/")[2])
        if definition is None:
            return _Bounds(sources=frozenset(), lists=(Lists(whose=principal, allow=()),), tasks=(principal,))
        rights = self.rights_as(definition, principal)
        lists = (msgspec.structs.replace(rights.lists[0], whose=principal),)
        return _Bounds(sources=frozenset(rights.sources), lists=lists, tasks=(principal,))


def _lists(definition: WorkerDefinition) -> Lists:
    return Lists(whose=f"worker {definition.name}", allow=definition.tools_allow, deny=definition.tools_deny)


def _source(given: Given, problem: str) -> GivenSource:
    return GivenSource(source=given.value, level=given.level, name=given.name, also=tuple(given.also), problem=problem)


def _supervisor(given: Given | None) -> GivenSupervisor | None:
    if given is None:
        return None
    return GivenSupervisor(supervisor=given.value, level=given.level, name=given.name, over=tuple(given.over))
