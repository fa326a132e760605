"""Versions of adapters as values: which there are, which is current, how they came. Pure: nothing here reads a disk or a clock.

A version is a number for exact content, and stays what it is. A directory `NAME` gives its adapter the next version, again each time
its content is replaced; `NAME@vN` is version N and must not change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from engine.contract.errors import ErrorInfo
from engine.inference.adapters.facts import Facts
from engine.inference.adapters.spelling import exact

Source = Literal["shipped", "home", "added", "copied"]
AUTOMATIC = "aiwm"
"""Who chose the current version where no person has."""


class Version(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`digest` is the hex SHA-256 of its content, "" while that could not be read. `named`: its directory carries the number, so
    other content there is a mistake. `marks` are the files' times and sizes when the digest was taken."""

    n: int
    path: str
    source: Source
    at_ms: int
    by: str = AUTOMATIC
    digest: str = ""
    named: bool = False
    parent: str = ""
    marks: tuple[int, ...] = ()
    replaced: bool = False


class Choice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version became the current one."""

    n: int
    at_ms: int
    by: str = AUTOMATIC
    reason: str = ""


class Adapter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An adapter with its versions by number, and the choices of the current one, the latest last."""

    name: str
    versions: tuple[Version, ...] = ()
    choices: tuple[Choice, ...] = ()

    @property
    def current(self) -> int:
        """The current version's number, 0 while it has none."""
        return self.choices[-1].n if self.choices else 0

    @property
    def next(self) -> int:
        return max((version.n for version in self.versions), default=0) + 1

    def version(self, n: int) -> Version | None:
        return next((version for version in self.versions if version.n == n), None)

    def at(self, path: str) -> Version | None:
        """The version that lies there now."""
        return next((it for it in self.versions if it.path == path and not it.replaced), None)

    def put(self, version: Version) -> Adapter:
        others = [it for it in self.versions if it.n != version.n]
        return msgspec.structs.replace(self, versions=tuple(sorted((*others, version), key=lambda it: it.n)))

    def without(self, n: int) -> Adapter:
        return msgspec.structs.replace(self, versions=tuple(it for it in self.versions if it.n != n))

    def choose(self, choice: Choice) -> Adapter:
        return msgspec.structs.replace(self, choices=(*self.choices, choice)[-MOST_CHOICES:])

    @property
    def kept(self) -> bool:
        """Whether it says more than the next look at the disk would find again."""
        return any(it.source != "shipped" for it in self.versions) or any(it.by != AUTOMATIC for it in self.choices)


MOST_CHOICES = 200


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in a directory now: `facts` of a whole adapter, or the `problem` of a broken one. `number` is that of its name."""

    path: str
    name: str
    source: Source
    number: int | None = None
    marks: tuple[int, ...] = ()
    digest: str = ""
    facts: Facts | None = None
    problem: ErrorInfo | None = None


class News(msgspec.Struct, frozen=True):
    """Something that an operator would want to have been told: an event."""

    level: str
    type: str
    about: str
    text: str


def reconciled(
    adapters: Mapping[str, Adapter], found: Iterable[Found], now_ms: int
) -> tuple[dict[str, Adapter], list[News]]:
    """The adapters with what lies on disk taken in, and what there is to tell of it. Shipped directories come first in `found`."""
    after, news = dict(adapters), []
    lying = list(found)
    here = frozenset(it.path for it in lying if it.marks)
    for it in lying:
        adapter = after.get(it.name) or Adapter(name=it.name)
        adapter, more = _taken_in(adapter, it, here, now_ms)
        after[it.name] = adapter
        news += more
    return after, news


def _taken_in(adapter: Adapter, found: Found, here: frozenset[str], now_ms: int) -> tuple[Adapter, list[News]]:
    known = adapter.at(found.path)
    if known is None:
        return _added(adapter, found, here, now_ms) if found.marks else (adapter, [])
    if found.facts is None or found.digest == known.digest:
        same = known.marks == found.marks or not found.digest
        return (adapter if same else adapter.put(msgspec.structs.replace(known, marks=found.marks))), []
    if not known.digest:
        whole = msgspec.structs.replace(known, digest=found.digest, marks=found.marks)
        return _chosen(adapter.put(whole), whole, now_ms)
    if known.named:
        return adapter, []  # it is refused for as long as it is not what it was
    return _replaced(adapter, known, found, now_ms)


def _added(adapter: Adapter, found: Found, here: frozenset[str], now_ms: int) -> tuple[Adapter, list[News]]:
    number = found.number or _moved(adapter, found, here) or adapter.next
    taken = adapter.version(number)
    if taken is not None and taken.path in here and taken.path != found.path:
        text = f"{found.path} is not used: {exact(adapter.name, number)} is {taken.path}"
        return adapter, [News("warn", "adapter.twice", exact(adapter.name, number), text)]
    version = Version(
        n=number,
        path=found.path,
        source=found.source,
        at_ms=now_ms,
        digest=found.digest if found.facts is not None else "",
        named=found.number is not None,
        marks=found.marks,
    )
    if taken is not None and taken.digest:  # it lies somewhere else now; other content there is refused
        version = msgspec.structs.replace(
            taken, path=found.path, marks=found.marks, source=found.source, replaced=False
        )
    name = exact(adapter.name, number)
    if found.problem is not None:
        news = [News("warn", "adapter.refused", name, found.problem.message)]
    else:
        news = [News("info", "adapter.found", name, found.path)] if found.source != "shipped" and taken is None else []
    adapter, more = _chosen(adapter.put(version), version, now_ms)
    return adapter, news + more


def _moved(adapter: Adapter, found: Found, here: frozenset[str]) -> int | None:
    """The version that this directory without a number is, if its content is known and has gone from where it was."""
    if not found.digest:
        return None
    gone = (it.n for it in adapter.versions if it.digest == found.digest and (it.replaced or it.path not in here))
    return next(gone, None)


def _replaced(adapter: Adapter, known: Version, found: Found, now_ms: int) -> tuple[Adapter, list[News]]:
    """Other content lies in a directory without a number: that is the next version, and the one before is no more."""
    number, was_current = adapter.next, adapter.current == known.n
    adapter = adapter.put(msgspec.structs.replace(known, replaced=True))
    version = Version(
        n=number,
        path=found.path,
        source=found.source,
        at_ms=now_ms,
        digest=found.digest,
        parent=exact(adapter.name, known.n),
        marks=found.marks,
    )
    adapter = adapter.put(version)
    name, text = exact(adapter.name, number), f"the files of v{known.n} in {found.path} were replaced"
    news = [News("warn", "adapter.replaced", name, text)]
    if was_current:
        adapter = adapter.choose(Choice(n=number, at_ms=now_ms, reason=text))
    return adapter, news


def _chosen(adapter: Adapter, version: Version, now_ms: int) -> tuple[Adapter, list[News]]:
    """The first whole version of an adapter is current, and a home's own beats one that ships, until somebody says otherwise."""
    if not version.digest or any(choice.by != AUTOMATIC for choice in adapter.choices):
        return adapter, []
    current = adapter.version(adapter.current)
    if current is not None and (current.source != "shipped" or version.source == "shipped"):
        return adapter, []
    reason = "the first version" if current is None else "the home's own"
    return adapter.choose(Choice(n=version.n, at_ms=now_ms, reason=reason)), []
