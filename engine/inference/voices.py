"""What models tell the scheduler of their replicas: each through a voice of its own, which ends with it, and a route only as far as the
models that it leads to can answer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.inference.served import Publish
from engine.ports import ReplicaState


class Voices:
    """All methods belong to the loop's thread."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._voices: dict[str, Voice] = {}

    def of(self, model: str, route: tuple[str, ...] = ()) -> Voice:
        """The voice of what serves a model from now on; what served it before is heard no more. `route`: the models that it asks."""
        self.end(model)
        self._voices[model] = voice = Voice(self, route)
        return voice

    def end(self, model: str) -> None:
        """What serves this model goes: whatever it still does, its replicas are gone for the scheduler."""
        voice = self._voices.pop(model, None)
        if voice is not None:
            voice.end()

    def told_by(self, model: str) -> tuple[ReplicaState, ...]:
        """What a model's replicas told last."""
        voice = self._voices.get(model)
        return () if voice is None else tuple(voice.told.values())

    def tell(self, state: ReplicaState) -> None:
        """Pass a state on, and what it changes for the routes that lead there."""
        self._publish(state)
        for voice in list(self._voices.values()):
            if state.model in voice.route:
                voice.look_again()


class Voice:
    """A `served.Publish`. `told` is what each replica said of itself last."""

    def __init__(self, voices: Voices, route: tuple[str, ...]) -> None:
        self.route = route
        self.told: dict[str, ReplicaState] = {}
        self._voices = voices
        self._passed: dict[str, ReplicaState] = {}
        self._over = False

    def __call__(self, state: ReplicaState) -> None:
        if self._over:
            return
        if state.gone:
            self.told.pop(state.replica, None)
            self._passed.pop(state.replica, None)
            self._voices.tell(state)
        else:
            self.told[state.replica] = state
            self._pass(state, again=True)

    def look_again(self) -> None:
        """A model of the route told something."""
        for state in list(self.told.values()):
            self._pass(state, again=False)

    def end(self) -> None:
        """Say that every replica is gone, and nothing after that."""
        self._over = True
        told, self.told = list(self.told.values()), {}
        for state in told:
            self._voices.tell(msgspec.structs.replace(state, total=0, resident=frozenset(), gone=True))

    def _pass(self, state: ReplicaState, *, again: bool) -> None:
        found = routed(state, [self._voices.told_by(name) for name in self.route]) if self.route else state
        if again or self._passed.get(state.replica) != found:
            self._passed[state.replica] = found
            self._voices.tell(found)


def routed(own: ReplicaState, members: Sequence[Sequence[ReplicaState]]) -> ReplicaState:
    """A route's state: it takes no more at once than its models together, and nothing while all of them rest: each try would cost a task
    an attempt. A model that told nothing is not known to rest or to serve; where none told anything the route speaks for itself."""
    told = [state for states in members for state in states]
    if not told:
        return own
    totals = [state.total for state in told]
    if any(totals) or None in totals:
        most = None if None in totals else sum(total or 0 for total in totals)
        bounds = [it for it in (own.total, most) if it is not None]
        return msgspec.structs.replace(own, total=min(bounds, default=None))
    known = [state.until_ms for state in told if state.until_ms is not None]
    why = "; ".join(f"{state.model}: {state.why or 'not ready'}" for state in told)[:300]
    return msgspec.structs.replace(own, total=0, why=why, until_ms=min(known, default=None))
