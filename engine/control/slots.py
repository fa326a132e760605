"""Models' slots as the scheduler is told of them: what each replica has, and what others than tasks hold of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from engine.control.dispatcher import Dispatcher
from engine.ports import ReplicaState
from engine.scheduling.inputs import ReplicaChanged, ReplicaGone

Place = tuple[str, str]
"""A model, and the name of one of its replicas."""


class Slots:
    """A chat's turn holds a slot like a task does. It does not wait for one: it is put to the best replica at once, which serves in order,
    and the next slot there that a task gives back goes to nobody else."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._states: dict[Place, ReplicaState] = {}
        self._outside: Counter[Place] = Counter()

    def changed(self, state: ReplicaState) -> None:
        """A replica is there and serves so many requests at once now (0: it is not ready), or it is gone."""
        place = (state.model, state.replica)
        if state.gone:
            if self._states.pop(place, None) is not None:
                self._dispatcher.feed(ReplicaGone(*place))
        else:
            self._states[place] = state
            self._tell(place)

    @contextmanager
    def held(self, model: str, adapters: tuple[str, ...] = ()) -> Iterator[str | None]:
        """Hold a slot for something that is no task and will use these adapters; gives the replica that it is of, None if none is known."""
        replica = self._dispatcher.route(model, adapters)
        if replica is None:
            yield None
            return
        place = (model, replica)
        self._outside[place] += 1
        self._tell(place)
        try:
            yield replica
        finally:
            self._outside[place] -= 1
            if not self._outside[place]:
                del self._outside[place]
            self._tell(place)

    def _tell(self, place: Place) -> None:
        state = self._states.get(place)
        if state is not None:
            outside = self._outside.get(place, 0)
            self._dispatcher.feed(
                ReplicaChanged(
                    *place,
                    state.total,
                    outside,
                    resident=state.resident,
                    latency_ms=state.latency_ms,
                    why=state.why,
                    until_ms=state.until_ms,
                )
            )
