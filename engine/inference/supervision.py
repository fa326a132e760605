"""The life of one model process as a pure state machine: what it is in, what happened, what to do about it.

No clock and no process in here: `supervisor.ModelProcess` feeds events and performs actions, tests feed events and look."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal


class ProcessState(StrEnum):
    stopped = "stopped"
    starting = "starting"
    ready = "ready"
    busy = "busy"
    draining = "draining"
    backoff = "backoff"
    failed = "failed"


EventName = Literal[
    "wanted", "loaded", "refused", "exited", "hung", "rested", "busy", "idle", "served", "drain", "stop"
]
"""wanted: someone needs it. loaded, refused: the load's answer. exited: the process is gone. hung: its steps stand still.
rested: the backoff is over. busy, idle: it has requests, or none any more.
served: a request finished as it should. drain: stop when idle. stop: stop now."""

ActionName = Literal["spawn", "kill", "rest"]


@dataclass(frozen=True, slots=True)
class Policy:
    """A crash is followed by a rest (seconds), doubled from crash to crash; so many in a row and it is given up."""

    first_rest: float = 0.5
    longest_rest: float = 30.0
    max_crashes: int = 8


@dataclass(frozen=True, slots=True)
class Life:
    """`crashes` in a row, with no request finished between them; `restarts` in all. `leaving`: it was asked to stop, so its exit
    is no crash. `alive`: there is a process. `rest` is the length of the current backoff in seconds."""

    state: ProcessState = ProcessState.stopped
    alive: bool = False
    leaving: bool = False
    crashes: int = 0
    restarts: int = 0
    rest: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    life: Life
    actions: tuple[ActionName, ...] = ()


_UP = (ProcessState.ready, ProcessState.busy, ProcessState.draining)

# Events that only change the state.
_PLAIN: dict[tuple[ProcessState, EventName], ProcessState] = {
    (ProcessState.starting, "loaded"): ProcessState.ready,
    (ProcessState.ready, "busy"): ProcessState.busy,
    (ProcessState.busy, "idle"): ProcessState.ready,
    (ProcessState.busy, "drain"): ProcessState.draining,
}


def advance(life: Life, event: EventName, policy: Policy) -> Step:
    """What an event makes of a life. An event that means nothing in a state changes nothing."""
    plain = _PLAIN.get((life.state, event))
    if plain is not None:
        return Step(replace(life, state=plain))
    match event:
        case "wanted" if life.state in (ProcessState.stopped, ProcessState.failed) and not life.alive:
            return Step(_starting(replace(life, crashes=0)), ("spawn",))
        case "refused" if life.state is ProcessState.starting:
            # The model itself is at fault, trying again would give the same answer: not a crash.
            return Step(replace(life, state=ProcessState.failed, leaving=True), ("kill",))
        case "exited" if life.alive:
            return _exited(life, policy)
        case "hung" if life.alive and not life.leaving:
            return Step(life, ("kill",))
        case "rested" if life.state is ProcessState.backoff:
            return Step(_starting(replace(life, restarts=life.restarts + 1)), ("spawn",))
        case "served":
            return Step(replace(life, crashes=0))
        case "drain" | "stop":
            return _stop(life)
        case "idle" if life.state is ProcessState.draining:
            return _stop(life)
    return Step(life)


def _starting(life: Life) -> Life:
    return replace(life, state=ProcessState.starting, alive=True, leaving=False, rest=0.0)


def _exited(life: Life, policy: Policy) -> Step:
    gone = replace(life, alive=False)
    if life.leaving:
        kept = life.state if life.state is ProcessState.failed else ProcessState.stopped
        return Step(replace(gone, state=kept, leaving=False))
    crashes = life.crashes + 1
    if crashes >= policy.max_crashes:
        return Step(replace(gone, state=ProcessState.failed, crashes=crashes))
    rest = min(policy.longest_rest, policy.first_rest * 2.0 ** (crashes - 1))
    return Step(replace(gone, state=ProcessState.backoff, crashes=crashes, rest=rest), ("rest",))


def _stop(life: Life) -> Step:
    if life.alive:
        return Step(
            replace(life, leaving=True, state=ProcessState.draining if life.state in _UP else life.state), ("kill",)
        )
    if life.state is ProcessState.failed:
        return Step(life)
    return Step(replace(life, state=ProcessState.stopped, rest=0.0))
