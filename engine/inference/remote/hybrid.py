"""A model that is a route over others: it asks them in order, goes on when one is not there, and says what it tried and why.

Policies (a closed set):
- `failover` (the default): on to the next when a model is not there, rests after trouble, does not take the request (its prompt is too
  long, an adapter or a schema is not for it), or fails before its first word. A full or slow model is waited for.
- `busy`: also when all its slots are taken, or nothing was said within [remote] hybrid_wait_ms.
- `local-first`: as `busy`, with the models of this machine before all others, whatever their order in the route.

What was begun is never begun again elsewhere: once a word was said, a failure is the call's failure. The last model of the route is
waited for; when it fails, the first that was only full or slow is. A request that is wrong in itself, or whose time is over, goes
nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from engine.clock import Clock
from engine.contract.definitions import ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_seq
from engine.contract.records.models import ModelRow
from engine.inference.remote.detour import HybridGeneration, No, Stop
from engine.inference.remote.model import Publish, RemoteModel
from engine.inference.remote.routes import POLICIES, route_fault
from engine.inference.served import Served
from engine.ports import EventSink, GenerateRequest, ReplicaState, Reservation

Held = Callable[[str, tuple[str, ...]], AbstractContextManager[str | None]]
"""Holds a slot of a model, for these adapters, for something that is no task of it; gives the replica."""


class HybridModel:
    """A route as the rooms above see it (`ports.ModelHandle`). `member` gives what serves a model, or raises model_not_found."""

    def __init__(
        self,
        definition: ModelDefinition,
        wait: float,
        *,
        member: Callable[[str], Served],
        held: Held,
        clock: Clock,
        events: EventSink,
        publish: Publish,
        changed: Callable[[], None],
    ) -> None:
        self.definition = definition
        self._wait = wait
        self._member = member
        self._held = held
        self._clock = clock
        self._events = events
        self._publish = publish
        self._changed = changed
        self._running: set[HybridGeneration] = set()
        self._since_ms = clock.wall_ms()
        self._last = ""

    @property
    def context(self) -> int | None:
        """Its own, or the largest of its models': a prompt that one cannot hold goes on to the next. None while nobody knows."""
        return self.definition.context or max((it.context or 0 for it in self._members()), default=0) or None

    @property
    def state(self) -> ReplicaState:
        """What the scheduler is told: its own bound on calls; those of its models are theirs."""
        return ReplicaState(
            model=self.definition.name, replica=self.definition.name, total=self.definition.slots or None
        )

    def announce(self) -> None:
        """Publish its state again, and those of its models: calls hold their slots."""
        for member in self._members():
            member.announce()
        self._publish(self.state)

    async def generate(self, request: GenerateRequest, reservation: Reservation) -> HybridGeneration:
        """Start a call; every failure comes from the iteration, but that of a definition that is none."""
        definition = self.definition
        if reservation.model != definition.name:
            message = f"{reservation.task} has leave to call {reservation.model}, not {definition.name}"
            raise AiwmError(Code.internal, message)
        policy = definition.policy or POLICIES[0]
        if policy not in POLICIES or not definition.route:
            raise _no_route(definition)
        stops = [self._stop(name, policy) for name in definition.route]
        if policy == "local-first":
            stops.sort(key=lambda stop: not stop.local)
        generation = HybridGeneration(
            request,
            reservation,
            stops,
            held=self._held,
            detour=lambda route: self._told(reservation, route),
            ended=lambda: self._over(generation),
        )
        self._running.add(generation)
        self._changed()
        return generation

    def rows(self) -> list[ModelRow]:
        """Its one row; `note` is its route, or where the last call that went on went, and why."""
        definition = self.definition
        return [
            ModelRow(
                id=definition.name,
                model=definition.name,
                state="busy" if self._running else "ready",
                backend=definition.backend.value,
                where="route",
                running=len(self._running),
                waiting=0,
                slots=definition.slots,
                tokens_per_s=0.0,  # its models' rows have them
                steps_per_s=0.0,
                weights_bytes=0,
                kv_bytes=0,
                kv_used_bytes=0,
                rss_bytes=0,
                adapters=0,
                restarts=0,
                since_ms=self._since_ms,
                pid=None,
                note=self._last or " > ".join(definition.route)[:300],
                context=definition.context,
            )
        ]

    def tokens_per_second(self) -> float:
        """0: what its models make is counted with them."""
        return 0.0

    async def close(self, grace: float = 0.0) -> None:
        """Stop; its models give calls under way their time."""
        del grace
        for generation in list(self._running):
            await generation.cancel()

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _stop(self, name: str, policy: str) -> Stop:
        try:
            member: Served | AiwmError = self._member(name)
        except AiwmError as error:
            member = error
        if isinstance(member, HybridModel):
            member = AiwmError(Code.model_invalid, f"{name} is a route itself, and routes do not lead into others")
        impatient = policy != "failover"
        return Stop(
            name=name,
            member=member,
            local=not isinstance(member, RemoteModel | AiwmError),
            wait=self._wait if impatient else None,
            look=lambda: _looked(member, impatient=impatient),
        )

    def _members(self) -> Iterator[Served]:
        for name in self.definition.route:
            try:
                member = self._member(name)
            except AiwmError:
                continue  # whoever calls it is told
            if not isinstance(member, HybridModel):
                yield member

    def _told(self, reservation: Reservation, route: tuple[str, ...]) -> None:
        self._last = "; ".join(route)[:300]
        about, text = reservation.task, f"{self.definition.name}: {self._last}"
        seq = task_seq(about) if about.startswith("t-") else None
        self._events.emit("info", "model.rerouted", about, text, task_seq=seq)

    def _over(self, generation: HybridGeneration) -> None:
        self._running.discard(generation)
        self._changed()


def _looked(member: Served | AiwmError, *, impatient: bool) -> No | None:
    """Why a model is not asked now; None when it is."""
    if isinstance(member, AiwmError):
        return No(f"{member.code}: {member.info.message}")
    if isinstance(member, RemoteModel) and member.resting_ms:
        return No(f"{member.rows()[0].state} for another {member.resting_ms / 1000:.0f} s")
    if impatient:
        rows = member.rows()
        slots, taken = sum(row.slots for row in rows), sum(row.running + row.waiting for row in rows)
        if slots and taken >= slots:
            return No(f"all {slots} slots are taken", busy=True)
    return None


def _no_route(definition: ModelDefinition) -> AiwmError:
    found = route_fault(definition)
    assert found is not None
    return AiwmError(Code.model_invalid, f"{definition.name}: {found.info.message}", field=found.info.field)
