"""What a task may use, and which level gave it: data sources and the supervisor, from the worker definition down to the task."""

from __future__ import annotations

from collections.abc import Container, Sequence
from enum import StrEnum

import msgspec


class LevelName(StrEnum):
    """The levels, from the most general to the task itself."""

    definition = "definition"
    queue = "queue"
    pool = "pool"
    instance = "instance"
    template = "template"
    task = "task"


ADDED: tuple[LevelName, ...] = tuple(LevelName)
"""The order in which data sources are added up."""

FIRST: tuple[LevelName, ...] = (
    LevelName.task,
    LevelName.template,
    LevelName.instance,
    LevelName.pool,
    LevelName.queue,
    LevelName.definition,
)
"""The order in which the first supervisor is taken."""


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """What one level says: `name` is the queue's, the pool's, … own."""

    level: LevelName
    name: str
    sources: tuple[str, ...] = ()
    supervisor: str = ""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A value and the level that gave it; `also` are the levels that say the same (sources), or another (`over`, supervisors)."""

    value: str
    level: LevelName
    name: str
    also: tuple[LevelName, ...] = ()
    over: tuple[LevelName, ...] = ()


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force. `unknown` are sources that a level names and nobody defines; `withheld` those that the principal, on whose
    behalf the task was started, may not use itself."""

    sources: tuple[Given, ...]
    unknown: tuple[Given, ...]
    withheld: tuple[Given, ...]
    supervisor: Given | None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(given.value for given in self.sources)


def resolve(levels: Sequence[Level], known: Container[str], ceiling: Container[str] | None = None) -> Effective:
    """Add up the data sources in the order of `ADDED`, each once, by the first level that names it; take the first supervisor in the
    order of `FIRST`. `ceiling` bounds the sources to those of the principal (None: an operator's, who may use all)."""
    sources: list[Given] = []
    unknown: list[Given] = []
    withheld: list[Given] = []
    for given in _added(levels):
        if given.value not in known:
            unknown.append(given)
        elif ceiling is not None and given.value not in ceiling:
            withheld.append(given)
        else:
            sources.append(given)
    return Effective(
        sources=tuple(sources), unknown=tuple(unknown), withheld=tuple(withheld), supervisor=_first(levels)
    )


def _added(levels: Sequence[Level]) -> list[Given]:
    found: dict[str, Given] = {}
    for level in sorted(levels, key=lambda it: ADDED.index(it.level)):
        for source in dict.fromkeys(level.sources):
            before = found.get(source)
            if before is None:
                found[source] = Given(value=source, level=level.level, name=level.name)
            elif level.level not in (before.level, *before.also):
                found[source] = msgspec.structs.replace(before, also=(*before.also, level.level))
    return list(found.values())


def _first(levels: Sequence[Level]) -> Given | None:
    saying = [level for level in sorted(levels, key=lambda it: FIRST.index(it.level)) if level.supervisor]
    if not saying:
        return None
    first, *others = saying
    over = tuple(other.level for other in others)
    return Given(value=first.supervisor, level=first.level, name=first.name, over=over)
