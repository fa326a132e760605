"""What the service runs for one model definition, whichever backend: the face that they all have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from engine.contract.definitions import ModelDefinition
from engine.contract.records import ModelRow
from engine.inference.memory.ledger import Use
from engine.inference.settings import ProcessSettings
from engine.ports import GenerateRequest, Generation, ReplicaState, Reservation

Publish = Callable[[ReplicaState], None]
"""Tells the scheduler of a replica."""


class Served(Protocol):
    """A model that text can be asked of. One object a model, made when somebody first needs it."""

    @property
    def context(self) -> int | None: ...

    async def generate(self, request: GenerateRequest, reservation: Reservation) -> Generation: ...

    def rows(self) -> list[ModelRow]: ...

    def announce(self) -> None:
        """Publish every replica's state again."""

    def tokens_per_second(self) -> float: ...

    async def close(self, grace: float = 0.0) -> None: ...


class Process(Protocol):
    """A process of this machine that a model runs in."""

    @property
    def id(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def startable(self) -> bool: ...
    @property
    def up(self) -> bool: ...
    @property
    def requests(self) -> int: ...
    @property
    def idle_s(self) -> float | None: ...

    def start(self) -> None: ...
    def drain(self) -> None: ...
    def stop(self) -> None: ...
    async def stopped(self) -> None: ...


class Managed(Served, Protocol):
    """A model in processes that this engine starts and ends: it needs memory."""

    definition: ModelDefinition
    held: str
    """Why it must not be started (somebody said so); empty when it may."""
    waits: str
    """What it waits for before it is started; empty when it does not."""
    refused: str
    """Why there is no room for it, found when it was last needed; empty when there was."""
    keep_ms: int | None
    """Until when somebody keeps it: -1 for ever, None: nobody does."""
    context_override: int
    """The context of its next start, when somebody wants another one than its definition says; 0: nobody does."""
    gpus: tuple[int, ...]
    """The GPUs that its next starts take, over all of which it is spread; empty: whichever has room."""

    @property
    def processes(self) -> list[Process]: ...
    @property
    def settings(self) -> ProcessSettings: ...

    async def ready(self) -> None:
        """Bring it up, and wait until it is. Raises AiwmError."""

    def grow(self) -> Process | None:
        """One more process that may be started now, not started yet; None when there are as many as there may be."""

    def wants(self, process: Process) -> bool:
        """Whether it may still have this process: its definition may say fewer than when it was started."""

    def uses(self) -> list[Use]:
        """What its processes hold of memory, and are planned to hold."""

    def publish(self) -> None:
        """Tell the scheduler what is different."""

    def changed(self, definition: ModelDefinition) -> None:
        """Its definition is another one: the next start takes it."""
