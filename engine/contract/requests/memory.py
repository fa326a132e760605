"""Requests about model processes and the memory they need: what fits, ways to make room, load, unload, keep, restart, crashes."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.records import DeviceRow, ModelRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class DeviceList(Request[list[DeviceRow]], frozen=True, kw_only=True):
    """The devices that models can lie on: the host's memory, and every GPU, each with who holds how much of it."""

    method: ClassVar[str] = "model.devices"
    effect: ClassVar[Effect] = Effect.read


class EstimateParts(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes in bytes: weights, keys and values, adapters, scratch, and the process around them."""

    weights: int
    kv: int
    adapters: int
    scratch: int
    process: int
    total: int


class PlanWay(msgspec.Struct, frozen=True, kw_only=True):
    """One way to load. `spare` is what is left on `device` then (negative: so much is missing, it is not enough). `hit` says who waits or
    ends for it. `load_ms` is the time until it is ready (0: nobody knows), `back_ms` the point in time. Ways that are not `runnable` are
    for others to go: `model load --way` refuses them."""

    number: int
    text: str
    device: str
    frees: int
    spare: int
    fits: bool
    runnable: bool
    hit: tuple[str, ...] = ()
    load_ms: int = 0
    back_ms: int | None = None


class PlanSpace(msgspec.Struct, frozen=True, kw_only=True):
    """A device as the plan found it: `free` is what one more process may take. `others` are processes that are not ours."""

    id: str
    name: str
    total: int
    free: int
    others: tuple[str, ...] = ()


class MemoryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Does a model fit, and what if not. `id` names this plan; `load --way` goes a way of the plan that was made last. `measured` is what
    the model took when it was last loaded like this (0: never)."""

    id: str
    model: str
    backend: str
    context: int
    slots: int
    estimate: EstimateParts
    measured: int
    fits: bool
    spaces: tuple[PlanSpace, ...]
    ways: tuple[PlanWay, ...]
    note: str = ""


class ModelPlan(Request[MemoryPlan], frozen=True, kw_only=True):
    """Where a model fits, and numbered ways to make room for it: what each frees, who is hit, when it is back. Changes nothing."""

    method: ClassVar[str] = "model.plan"
    effect: ClassVar[Effect] = Effect.read

    name: str
    context: int = 0


class ModelLoaded(msgspec.Struct, frozen=True, kw_only=True):
    """A model is up. `estimate` is what was planned and `measured` what it takes, in bytes; `unloaded` are processes that had to go."""

    model: str
    process: str
    load_ms: float
    estimate: int
    measured: int
    unloaded: tuple[str, ...] = ()


class ModelLoad(Request[ModelLoaded], frozen=True, kw_only=True):
    """Load a model now and wait until it is ready. It refuses with the numbers when there is no room: then `way` goes that way of the last
    plan (`plan` insists on one by its id), or `evict` names processes that shall go, `drain` after what they are doing. `put_back` loads
    them again once this model is unloaded. `yes` agrees to what a way does to others."""

    method: ClassVar[str] = "model.load"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("ai-daemon/spawn-process",)

    name: str
    way: int | None = None
    plan: str = ""
    evict: tuple[str, ...] = ()
    drain: bool = False
    context: int = 0
    gpu: tuple[int, ...] = ()
    put_back: bool = False
    yes: bool = False


class ModelStopped(msgspec.Struct, frozen=True, kw_only=True):
    """Processes that are told to go; `running` requests are in them."""

    model: str
    processes: tuple[str, ...]
    running: int


class ModelUnload(Request[ModelStopped], frozen=True, kw_only=True):
    """Unload a model, or one process of it by its id: after what it does, or `now`. Work for it loads it again, unless `hold` (a reason)
    says not to: then its tasks wait until `model load`."""

    method: ClassVar[str] = "model.unload"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("ai-daemon/kill-process",)

    name: str
    now: bool = False
    hold: str = ""


class ModelKept(msgspec.Struct, frozen=True, kw_only=True):
    """How long a model stays: `until_ms` is None for ever, and 0 when nobody keeps it."""

    model: str
    until_ms: int | None


class ModelKeep(Request[ModelKept], frozen=True, kw_only=True):
    """Keep a model loaded: it is neither unloaded for being idle nor to make room by itself. `keep_ms` -1: always; 0: no longer."""

    method: ClassVar[str] = "model.keep"
    effect: ClassVar[Effect] = Effect.write

    name: str
    keep_ms: int = -1


class ModelRestart(Request[ModelStopped], frozen=True, kw_only=True):
    """Start a model's processes again, or one by its id: after what they do, or `now`. One that was given up, or that somebody stopped, is
    tried again."""

    method: ClassVar[str] = "model.restart"
    effect: ClassVar[Effect] = Effect.write

    name: str
    now: bool = False


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ended that nobody asked to. `code` is its exit code, negative for a signal, which `signal` names; `verdict` says what
    that means; `requests` were in it; `stderr` are the last lines of its log."""

    process: str
    model: str
    started_ms: int
    ended_ms: int
    code: int
    verdict: str
    requests: int
    error: str
    signal: str = ""
    stderr: tuple[str, ...] = ()


class ModelCrashes(Request[list[Crash]], frozen=True, kw_only=True):
    """How a model's processes crashed, the latest first: exit code or signal, what it means, and the last lines of each log."""

    method: ClassVar[str] = "model.crashes"
    effect: ClassVar[Effect] = Effect.read

    name: str
    limit: int = 3


class ModelStatus(Request[list[ModelRow]], frozen=True, kw_only=True):
    """The processes of one model, or one by its id."""

    method: ClassVar[str] = "model.status"
    effect: ClassVar[Effect] = Effect.read

    name: str
