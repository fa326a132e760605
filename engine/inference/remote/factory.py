"""What the service makes of models that no process of this machine runs: one factory for each backend of this room.

Whatever speaks to servers is imported with the first such model: an engine without one starts without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.clock import Clock
from engine.contract.definitions import Backend, ModelDefinition
from engine.inference.remote.settings import RemoteSettings
from engine.inference.served import Publish, Served
from engine.inference.service import Elsewhere
from engine.ports import EventSink

if TYPE_CHECKING:
    from engine.inference.remote.hybrid import Held
    from engine.inference.remote.model import Keys


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
        from engine.inference.remote.model import RemoteModel

        return RemoteModel(
            definition, settings, keys=keys, clock=clock, events=events, publish=publish, changed=changed
        )

    def hybrid(definition: ModelDefinition, *, publish: Publish, changed: Callable[[], None]) -> Served:
        from engine.inference.remote.hybrid import HybridModel

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
