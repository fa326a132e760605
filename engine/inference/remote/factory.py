"""What the service makes of models that no process of this machine runs: one factory for each backend of this room."""

from __future__ import annotations

from collections.abc import Callable

from engine.clock import Clock
from engine.contract.definitions import Backend, ModelDefinition
from engine.inference.remote.hybrid import Held, HybridModel
from engine.inference.remote.model import Keys, RemoteModel
from engine.inference.remote.settings import RemoteSettings
from engine.inference.served import Publish, Served
from engine.inference.service import Elsewhere
from engine.ports import EventSink


def elsewhere(
    settings: RemoteSettings,
    *,
    keys: Keys,
    clock: Clock,
    events: EventSink,
    member: Callable[[str], Served],
    held: Held,
) -> dict[Backend, Elsewhere]:
    """`member` gives what serves a model by name, for routes; `held` holds one of its slots while a route's call is there."""

    def remote(definition: ModelDefinition, *, publish: Publish, changed: Callable[[], None]) -> Served:
        return RemoteModel(
            definition, settings, keys=keys, clock=clock, events=events, publish=publish, changed=changed
        )

    def hybrid(definition: ModelDefinition, *, publish: Publish, changed: Callable[[], None]) -> Served:
        return HybridModel(
            definition,
            settings.hybrid_wait,
            member=member,
            held=held,
            clock=clock,
            events=events,
            publish=publish,
            changed=changed,
        )

    return {Backend.openai: remote, Backend.anthropic: remote, Backend.hybrid: hybrid}
