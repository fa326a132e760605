"""The book of adapters: versions on disk and registered ones, the current one of each, and what a name means now.

Adapters that lie in the home's `adapters/` or ship with aiwm are here by themselves; others are registered by their path. What was
chosen, and which number means which content, outlives the engine as documents. All methods belong to the loop's thread."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from engine.clock import Clock
from engine.contract.definitions import NAME_PATTERN
from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest
from engine.inference.adapters.fitting import FindModel, Fitting
from engine.inference.adapters.kept import KeptAdapters
from engine.inference.adapters.known import Known, Resolved, as_known
from engine.inference.adapters.scan import Place, look, marks_of, places_in, read
from engine.inference.adapters.spelling import BASE, exact, spelled
from engine.inference.adapters.versions import Adapter, Choice, Found, News, Source, Version, reconciled
from engine.store.journal import Journal
from engine.store.readers import Readers

_log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parents[1] / "shipped" / "adapters"
LOOK_S = 2.0
"""How often it is looked whether something was put into the home's folder, or replaced there."""


class AdapterBook:
    """`find_model` finds the base of an adapter among the models of this home (None: it is not here)."""

    def __init__(
        self,
        home: Path,
        journal: Journal,
        readers: Readers,
        clock: Clock,
        find_model: FindModel = lambda _: None,
        shipped: Path = SHIPPED,
    ) -> None:
        self.folder = home / "adapters"
        self._shipped = shipped
        self._kept = KeptAdapters(journal, readers, clock)
        self._fitting = Fitting(find_model)
        self._clock = clock
        self._adapters: dict[str, Adapter] = {}
        self._found: dict[str, Found] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._looking = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._rechecks: set[asyncio.Task[None]] = set()
        self._listeners: list[Callable[[], None]] = []

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with what was kept, then look at the disk, and go on looking."""
        self._adapters.update((adapter.name, adapter) for adapter in self._kept.read())
        self._rename()
        self._watch = asyncio.get_running_loop().create_task(self._watching())

    async def close(self) -> None:
        tasks = [*self._rechecks, *([] if self._watch is None else [self._watch])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def on_change(self, callback: Callable[[], None]) -> None:
        """`callback` runs when versions came or changed, or another one is current."""
        self._listeners.append(callback)

    # -- what names mean ---------------------------------------------------------------------------------------------

    async def resolve(self, name: str) -> Resolved:
        """What a name means now. Raises adapter_not_found, or what is wrong with the adapter, naming it."""
        known = self._known(name)
        if known is None or marks_of(known.version.path) != self._marks(known.version.path):
            await self.refresh()
            known = self._known(name)
        if known is None:
            raise self.unknown(name)
        if known.problem is not None:
            raise AiwmError.of(msgspec.structs.replace(known.problem, field="adapters"))
        assert known.facts is not None
        return Resolved(known.name, Path(known.version.path), known.digest, known.facts.size_bytes)

    def pinned(self, name: str) -> str:
        """The exact name that a name means now; one that is not known stays what it is, and fails where it is resolved."""
        spelling = spelled(name)
        if spelling is None or spelling.exact:
            return name
        adapter = self._adapters.get(spelling.name)
        return exact(adapter.name, adapter.current) if adapter is not None and adapter.current else name

    def names_of(self, digest: str) -> frozenset[str]:
        """Every name that means this content now."""
        return self._names.get(digest, frozenset())

    def get(self, name: str) -> Known:
        """A version by its exact name, or the current one of an adapter. Raises adapter_not_found."""
        known = self._known(name)
        if known is None:
            raise self.unknown(name)
        return known

    def versions(self, name: str | None = None) -> list[Known]:
        """All versions, of one adapter or of every one, by name and number. Raises adapter_not_found for one that is not here."""
        if name is None:
            adapters: Iterable[Adapter] = (self._adapters[it] for it in sorted(self._adapters))
        else:
            spelling = spelled(name)
            if spelling is None or spelling.name not in self._adapters:
                raise self.unknown(name)
            adapters = (self._adapters[spelling.name],)
        return [self._as_known(adapter, version) for adapter in adapters for version in adapter.versions]

    def unknown(self, name: str) -> AiwmError:
        spelling = spelled(name)
        adapter = self._adapters.get(spelling.name) if spelling is not None else None
        if adapter is not None and spelling is not None and spelling.exact:
            numbers = ", ".join(f"v{version.n}" for version in adapter.versions)
            message, fix = f'adapter "{name[:80]}" does not exist', f"{adapter.name} has {numbers}"
        elif adapter is not None:
            message = f'adapter "{adapter.name}" has no version that can be used'
            fix = f"aiwm adapter versions {adapter.name}"
        else:
            message = f'adapter "{name[:80]}" is not in {self.folder} and does not ship with aiwm'
            fix = nearest(name, self._adapters) or f"aiwm adapter add PATH, or put its directory into {self.folder}"
        return AiwmError(Code.adapter_not_found, message, field="adapters", fix=fix)

    # -- changes -----------------------------------------------------------------------------------------------------

    async def add(self, path: Path, name: str, by: str, *, parent: str = "", copy: bool = False) -> Known:
        """Register a PEFT directory as the next version of an adapter; with `copy` its files are copied into the home. Content that is
        there already gives its version. Raises what is wrong with the directory."""
        spelling = spelled(name)
        if spelling is None or spelling.exact:
            reserved = name == BASE
            why = "is reserved: it means no adapter at all" if reserved else "is no adapter's name"
            fix = "choose another name" if reserved else NAME_PATTERN
            raise AiwmError(Code.bad_request, f'"{name[:80]}" {why}', field="name", fix=fix)
        if parent:
            self.get(parent)
        async with self._looking:
            await self._look()
            found = await asyncio.to_thread(_read_whole, path, name)
            adapter = self._adapters.get(name) or Adapter(name=name)
            same = next((it for it in adapter.versions if it.digest == found.digest and not it.replaced), None)
            if same is not None:
                return self._as_known(adapter, same)
            number = adapter.next
            source: Source = "added"
            if copy:
                path, source = self.folder / exact(name, number), "copied"
                await asyncio.to_thread(_copy, Path(found.path), path)
            version = Version(
                n=number,
                path=str(path),
                source=source,
                at_ms=self._clock.wall_ms(),
                by=by,
                digest=found.digest,
                named=True,
                parent=parent,
                marks=marks_of(str(path)),
            )
            found = msgspec.structs.replace(found, path=str(path), source=source, number=number, marks=version.marks)
            before = adapter.at(str(path))
            if before is not None:
                adapter = adapter.put(msgspec.structs.replace(before, replaced=True))
            adapter = adapter.put(version)
            if not adapter.current:
                adapter = adapter.choose(Choice(n=number, at_ms=version.at_ms, reason="the first version"))
            text = f"{found.path}, {found.digest[:12]}"
            await self._write(adapter, News("info", "adapter.added", exact(name, number), text), by)
            self._found[version.path] = found
            await self._fitting.check((found,))
            self._changed()
            return self._as_known(adapter, version)

    async def choose(self, name: str, by: str, reason: str, *, expected: int | None = None) -> tuple[int, int]:
        """Make a version the current one; the numbers before and after. `expected`: only if that one is current now. Raises
        adapter_not_found, the version's problem, or `conflict`."""
        async with self._looking:
            known = self.get(name)
            if known.problem is not None:
                raise AiwmError.of(msgspec.structs.replace(known.problem, field="name"))
            before, after = known.adapter.current, known.version.n
            if expected is not None and before != expected:
                raise AiwmError(
                    Code.conflict,
                    f"{known.adapter.name} is v{before} by now, not v{expected}",
                    field="name",
                    fix=f"aiwm adapter use {exact(known.adapter.name, after)}",
                )
            if before != after:
                chosen = known.adapter.choose(Choice(n=after, at_ms=self._clock.wall_ms(), by=by, reason=reason[:500]))
                said = f" ({reason[:500]})" if reason else ""
                news = News("info", "adapter.current", chosen.name, f"v{before} → v{after}{said}")
                await self._write(chosen, news, by)
                self._changed()
            return before, after

    async def forget(self, name: str, by: str) -> Known:
        """Forget a registered version, or one whose files are gone. Its files stay. Raises adapter_not_found, `conflict`."""
        async with self._looking:
            await self._look()
            known = self.get(name)
            version, adapter = known.version, known.adapter
            why = ""
            if known.current and len(adapter.versions) > 1:
                why, fix = "is the current one", f"aiwm adapter use {adapter.name}@vN"
            elif version.source != "added" and not version.replaced and self._marks(version.path):
                why, fix = f"lies in {version.path}", "remove its directory"
            if why:
                raise AiwmError(Code.conflict, f"{known.name} {why}", field="name", fix=fix)
            left = adapter.without(version.n)
            await self._write(left, News("info", "adapter.forgotten", known.name, version.path), by)
            self._found.pop(version.path, None)
            self._changed()
            return known

    # -- the disk ----------------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Look at the disk now."""
        async with self._looking:
            await self._look()

    def models_changed(self) -> None:
        """Another model is here, or one is gone: hold every adapter against its base again."""
        task = asyncio.get_running_loop().create_task(self._recheck())
        self._rechecks.add(task)
        task.add_done_callback(self._rechecks.discard)

    async def _recheck(self) -> None:
        async with self._looking:
            await self._fitting.check(self._found.values())
            self._changed()

    async def _watching(self) -> None:
        while True:
            try:
                await self.refresh()
            except Exception:
                _log.exception("the adapters could not be looked at")
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        """Take in what changed on disk. `_looking` must be held."""
        found = await asyncio.to_thread(look, await self._places(), self._found, self._digests())
        changed = [it for it in found if self._found.get(it.path) is not it]
        if not changed:
            return
        self._found.update((it.path, it) for it in changed)
        await self._fitting.check(changed)
        here = [self._found[it.path] for it in found]
        after, news = reconciled(self._adapters, _relevant(here, changed), self._clock.wall_ms())
        for name, adapter in after.items():
            told = [it for it in news if it.about.partition("@")[0] == name]
            if told or adapter != self._adapters.get(name):
                await self._kept.keep(adapter, told)
                self._in_force(adapter)
        self._changed()

    def _digests(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {
            version.path: (version.marks, version.digest)
            for adapter in self._adapters.values()
            for version in adapter.versions
            if version.digest and not version.replaced
        }

    async def _places(self) -> list[Place]:
        shipped, own = await asyncio.to_thread(self._folders)
        registered = [
            Place(version.path, adapter.name, version.source, version.n)
            for adapter in self._adapters.values()
            for version in adapter.versions
            if not version.replaced
        ]
        places = {place.path: place for place in registered}
        return list({**{it.path: it for it in (*shipped, *own)}, **places}.values())

    def _folders(self) -> tuple[list[Place], list[Place]]:
        return places_in(self._shipped, "shipped"), places_in(self.folder, "home")

    # -- inside ------------------------------------------------------------------------------------------------------

    def _known(self, name: str) -> Known | None:
        spelling = spelled(name)
        adapter = self._adapters.get(spelling.name) if spelling is not None else None
        if spelling is None or adapter is None:
            return None
        version = adapter.version(spelling.version or adapter.current)
        return None if version is None else self._as_known(adapter, version)

    def _as_known(self, adapter: Adapter, version: Version) -> Known:
        found = None if version.replaced else self._found.get(version.path)
        return as_known(adapter, version, found, *self._fitting.of(version.path))

    def _marks(self, path: str) -> tuple[int, ...]:
        found = self._found.get(path)
        return found.marks if found is not None else ()

    def _rename(self) -> None:
        names: dict[str, set[str]] = {}
        for adapter in self._adapters.values():
            for version in adapter.versions:
                if version.digest and not version.replaced:
                    spellings = names.setdefault(version.digest, set())
                    spellings.add(exact(adapter.name, version.n))
                    if version.n == adapter.current:
                        spellings.add(adapter.name)
        self._names = {digest: frozenset(spellings) for digest, spellings in names.items()}

    def _changed(self) -> None:
        self._rename()
        for listener in self._listeners:
            listener()

    async def _write(self, adapter: Adapter, news: News, by: str) -> None:
        """What somebody changed is in force when it is on disk."""
        await self._kept.write(adapter, news, by)
        self._in_force(adapter)

    def _in_force(self, adapter: Adapter) -> None:
        if adapter.versions:
            self._adapters[adapter.name] = adapter
        else:
            self._adapters.pop(adapter.name, None)


def _relevant(here: list[Found], changed: list[Found]) -> list[Found]:
    """What is to be taken in: whatever lies there of the adapters of which something changed."""
    names = {it.name for it in changed}
    return [it for it in here if it.name in names]


def _read_whole(path: Path, name: str) -> Found:
    found = read(Place(str(path.resolve()), name, "added"), marks_of(str(path)))
    if found.problem is not None:
        raise AiwmError.of(msgspec.structs.replace(found.problem, field="path"))
    return found


def _copy(source: Path, target: Path) -> None:
    """Copy a directory under a name that it has only when it is whole."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise AiwmError(
            Code.bad_request, f"{source} cannot be copied to {target}: {error.strerror}", field="copy"
        ) from error
