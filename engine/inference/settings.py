"""How model processes are run: config.toml's [models], and what one model's definition says differently."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.inference.supervision import Policy


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """How model processes are run. Times in seconds, sizes in bytes. Besides `slots` requests that run, `depth` wait in a process.
    `memory_limit` bounds it (None: no bound), `address_space` is what the kernel enforces (None where a backend reserves more than it
    uses)."""

    slots: int = 8
    context: int | None = None
    depth: int = 10
    replicas: int = 2
    idle: float | None = None
    adapter_slots: int = 20
    adapter_bytes: int = 500_000_000
    start_timeout: float = 60.0
    hang_timeout: float = 30.0
    memory_limit: int | None = None
    address_space: int | None = None
    policy: Policy = field(default_factory=Policy)
