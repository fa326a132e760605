"""Room for a model, as a pure function of what there is: does it fit, and if not, which ways there are to make it fit and who they hit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.inference.memory.words import size_text, span_text

MAX_WAYS = 9
_LEAST_CONTEXT = 256
_WORTH_NAMING = 0.03  # of a device's memory; a stranger that holds less is not named

Kind = Literal["unload", "context", "shrink", "split", "ask", "wait"]


@dataclass(frozen=True, slots=True)
class Space:
    """A device: `free` is what one more process may take of it, in bytes; `most` what it could be if nobody else were there (None: all)."""

    id: str
    name: str
    total: int
    free: int
    most: int | None = None

    @property
    def alone(self) -> Space:
        """It without what processes hold that are not ours, and without what is promised to others of ours."""
        return replace(self, free=self.total if self.most is None else max(self.free, self.most))


@dataclass(frozen=True, slots=True)
class Holder:
    """One of our processes and what it holds, in bytes by device. Times in ms: `idle_ms` since its last work (None: it works),
    `unload_ms` until it is unloaded by itself (None: never), `load_ms` what loading it again takes (0: not known). `shrinks` is what half
    its context would free; `hit` says who waits without it."""

    process: str
    model: str
    pid: int | None
    held: dict[str, int]
    running: int = 0
    waiting: int = 0
    kept: bool = False
    idle_ms: int | None = None
    unload_ms: int | None = None
    load_ms: int = 0
    context: int = 0
    shrinks: int = 0
    hit: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        return bool(self.running or self.waiting) or self.idle_ms is None


@dataclass(frozen=True, slots=True)
class Stranger:
    """A process that is not ours, and what it holds of a device in bytes."""

    pid: int
    name: str
    owner: str
    device: str
    bytes: int

    def __str__(self) -> str:
        return f"pid {self.pid} {self.name} ({self.owner})"


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes in bytes with the context that was asked for; `shorter` are (context, bytes) with less, longest first. `devices`
    are those it may go to (none: any), `splits` whether it can be spread over several. `load_ms`: 0 when not known."""

    model: str
    bytes: int
    context: int
    shorter: tuple[tuple[int, int], ...] = ()
    devices: tuple[str, ...] = ()
    splits: bool = False
    load_ms: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: unload a process, load with a shorter `context`, shrink another process to `context`, spread over `devices`; or
    what is not ours to do: ask a process's owner, wait."""

    kind: Kind
    process: str = ""
    context: int = 0
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """A way to load. `spare` is what is left then, in bytes (negative: so much is missing); `runnable` whether the engine can go it
    alone."""

    number: int
    text: str
    frees: int
    spare: int
    device: str
    steps: tuple[Step, ...] = ()
    hit: tuple[str, ...] = ()
    runnable: bool = True
    load_ms: int = 0
    cost: tuple[int, ...] = field(default=(), compare=False)

    @property
    def fits(self) -> bool:
        return self.spare >= 0


@dataclass(frozen=True, slots=True)
class Plan:
    """`id` names exactly this plan: another situation has another one."""

    id: str
    need: Need
    spaces: tuple[Space, ...]
    ways: tuple[Way, ...]

    @property
    def fits(self) -> bool:
        """It can be loaded as it was asked for, and nobody is hit."""
        return any(way.fits and not way.steps for way in self.ways)


def make_plan(
    need: Need, spaces: Sequence[Space], holders: Sequence[Holder], strangers: Sequence[Stranger] = ()
) -> Plan:
    """All ways, the cheapest first: those that fit, then those that do not, each with what is missing."""
    open_ = [space for space in spaces if not need.devices or space.id in need.devices]
    found: list[Way] = []
    for space in open_:
        found += _ways_on(space, need, holders, strangers)
    if need.splits and len(open_) > 1 and not any(way.fits and not way.steps for way in found):
        found.append(_split(need, open_))
    found.sort(key=lambda way: (not way.fits, not way.runnable, *way.cost, -way.spare))
    ways = tuple(replace(way, number=number) for number, way in enumerate(found[:MAX_WAYS], 1))
    return Plan(_plan_id(need, spaces, holders, ways), need, tuple(open_), ways)


def automatic(need: Need, spaces: Sequence[Space], holders: Sequence[Holder]) -> tuple[Space, tuple[str, ...]] | None:
    """A device, and the processes that may be unloaded there without asking anybody, so that it fits: idle ones that nobody keeps, as few
    as possible, the longest idle first. None of them: it fits as it is, where most is free. None at all: that is not enough."""
    best: tuple[tuple[int, int], Space, tuple[str, ...]] | None = None
    for space in spaces:
        if need.devices and space.id not in need.devices:
            continue
        idle = [it for it in holders if not it.works and not it.kept and it.held.get(space.id)]
        chosen = _fewest(need.bytes - space.free, idle, space.id)
        if chosen is not None and (best is None or (len(chosen), -space.free) < best[0]):
            best = ((len(chosen), -space.free), space, tuple(it.process for it in chosen))
    return None if best is None else (best[1], best[2])


def could_fit(need: Need, spaces: Sequence[Space], holders: Sequence[Holder]) -> bool:
    """Whether it fits once all of these holders are gone: then it is worth waiting for."""
    return any(
        space.free + sum(it.held.get(space.id, 0) for it in holders) >= need.bytes
        for space in spaces
        if not need.devices or space.id in need.devices
    )


def _fewest(short: int, idle: list[Holder], device: str) -> list[Holder] | None:
    """As few of them as free `short` bytes of a device; one that does it alone before several."""
    if short <= 0:
        return []
    idle.sort(key=lambda it: -(it.idle_ms or 0))
    alone = [it for it in idle if it.held[device] >= short]
    if alone:
        return alone[:1]
    chosen: list[Holder] = []
    for holder in sorted(idle, key=lambda it: -it.held[device]):
        chosen.append(holder)
        short -= holder.held[device]
        if short <= 0:
            return chosen
    return None


# -- the ways on one device ----------------------------------------------------------------------------------------------


def _ways_on(space: Space, need: Need, holders: Sequence[Holder], strangers: Sequence[Stranger]) -> list[Way]:
    short = need.bytes - space.free
    if short <= 0:
        return [Way(0, f"load it on {space.id} now", 0, -short, space.id, load_ms=need.load_ms, cost=(0,))]
    here = [it for it in holders if it.held.get(space.id)]
    ways = [_unload([it], space, need) for it in here]
    if len(here) > 1 and not any(way.fits for way in ways):
        ways.append(_unload(_enough(here, short, space.id), space, need))
    ways += _shorter(space, need)
    ways += [_shrink(it, space, need) for it in here if it.shrinks]
    ways += _asked(space, need, strangers)
    ways += _waited(here, space, need)
    return ways


def _enough(here: Sequence[Holder], short: int, device: str) -> list[Holder]:
    """Holders in order of what they cost, until there is room; all of them if there never is."""
    chosen: list[Holder] = []
    for holder in sorted(here, key=lambda it: (*_cost(it), -it.held[device])):
        chosen.append(holder)
        short -= holder.held[device]
        if short <= 0:
            break
    return chosen


def _cost(holder: Holder) -> tuple[int, ...]:
    """What unloading a process costs others: one that somebody keeps, then work in it, those who wait for it, the way back."""
    return (
        1 + holder.kept * 4 + min(3, holder.running),
        holder.running + holder.waiting,
        len(holder.hit),
        holder.load_ms,
    )


def _unload(chosen: list[Holder], space: Space, need: Need) -> Way:
    frees = sum(it.held[space.id] for it in chosen)
    words = [
        f"{it.process} after its {it.running + it.waiting}" if it.running + it.waiting else it.process for it in chosen
    ]
    costs = [_cost(it) for it in chosen]
    hit = tuple(text for it in chosen for text in (*it.hit, *(("somebody keeps it",) if it.kept else ())))
    return Way(
        number=0,
        text="unload " + " and ".join(words),
        frees=frees,
        spare=space.free + frees - need.bytes,
        device=space.id,
        steps=tuple(Step("unload", it.process) for it in chosen),
        hit=hit,
        load_ms=need.load_ms,
        cost=tuple(max(parts) if place == 0 else sum(parts) for place, parts in enumerate(zip(*costs, strict=True))),
    )


def _shorter(space: Space, need: Need) -> list[Way]:
    """The longest shorter context that fits; where none does, the shortest, to show that it is not enough."""
    options = [(context, size) for context, size in need.shorter if context >= _LEAST_CONTEXT]
    if not options:
        return []
    context, size = next((it for it in options if it[1] <= space.free), options[-1])
    return [
        Way(
            number=0,
            text=f"a context of {context:,} instead of {need.context:,}: {size_text(size)}",
            frees=0,
            spare=space.free - size,
            device=space.id,
            steps=(Step("context", context=context),),
            load_ms=need.load_ms,
            cost=(1, 0, 0, 0),
        )
    ]


def _shrink(holder: Holder, space: Space, need: Need) -> Way:
    half = holder.context // 2
    return Way(
        number=0,
        text=f"half the context of {holder.process}, {half:,}",
        frees=holder.shrinks,
        spare=space.free + holder.shrinks - need.bytes,
        device=space.id,
        steps=(Step("shrink", holder.process, half),),
        hit=(f"{holder.model} is loaded again, conversations over {half:,} tokens end",),
        load_ms=need.load_ms + holder.load_ms,
        cost=tuple(part + 1 if place == 0 else part for place, part in enumerate(_cost(holder))),
    )


def _asked(space: Space, need: Need, strangers: Sequence[Stranger]) -> list[Way]:
    """Processes of others: theirs to end, not ours."""
    most = space.total if space.most is None else space.most
    if most <= space.free:
        return []  # it is our own limit that is reached: whoever else goes, nothing is won
    big = [it for it in strangers if it.device == space.id and it.bytes >= space.total * _WORTH_NAMING]
    return [
        Way(
            number=0,
            text=f"{it.owner} ends {it}",
            frees=it.bytes,
            spare=min(space.free + it.bytes, most) - need.bytes,
            device=space.id,
            steps=(Step("ask", str(it.pid)),),
            hit=(it.owner,),
            runnable=False,
            load_ms=need.load_ms,
            cost=(8, 0, 0, 0),
        )
        for it in sorted(big, key=lambda it: -it.bytes)[:3]
    ]


def _waited(here: Sequence[Holder], space: Space, need: Need) -> list[Way]:
    """What goes by itself, if one waits."""
    leaving = sorted((it for it in here if it.unload_ms is not None and not it.works), key=lambda it: it.unload_ms or 0)
    if not leaving:
        return []
    first = leaving[0]
    frees = first.held[space.id]
    return [
        Way(
            number=0,
            text=f"wait: {first.process} is idle and unloads in {span_text(first.unload_ms or 0)}",
            frees=frees,
            spare=space.free + frees - need.bytes,
            device=space.id,
            steps=(Step("wait", first.process),),
            runnable=False,
            load_ms=need.load_ms + (first.unload_ms or 0),
            cost=(7, 0, 0, first.unload_ms or 0),
        )
    ]


def _split(need: Need, spaces: Sequence[Space]) -> Way:
    return Way(
        number=0,
        text="split over " + " and ".join(space.id for space in spaces),
        frees=0,
        spare=sum(space.free for space in spaces) - need.bytes,
        device=spaces[0].id,
        steps=(Step("split", devices=tuple(space.id for space in spaces)),),
        load_ms=need.load_ms,
        cost=(1, 0, 0, 1),
    )


def _plan_id(need: Need, spaces: Sequence[Space], holders: Sequence[Holder], ways: Sequence[Way]) -> str:
    """The same model, processes and ways have the same id: a plan that somebody saw can be told from one that has changed since."""
    parts = [need.model, str(need.context), *(space.id for space in spaces)]
    parts += sorted(f"{it.process}={it.pid}" for it in holders)
    parts += [f"{way.number}:{way.steps}:{way.fits}" for way in ways]
    return "p-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:6]
