"""How one model is started: what its definition says, over what config.toml says, as the load that its process is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.contract.definitions import Backend, ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.inference import protocol
from engine.inference.memory.estimate import Estimate, Sizing, estimate
from engine.inference.memory.plan import Need
from engine.inference.models.kinds import Seen
from engine.inference.models.look import look
from engine.inference.settings import ProcessSettings

_ROOM = 2 * 2**30  # address space beside what a process uses: libraries, arenas, stacks of threads
_SHORTEST = 256
_CONTEXT = 8192  # tokens of a slot where nobody says: models for GPUs are made for more than anybody's memory
_IN_PROCESS = (Backend.reference, Backend.exllamav2)


def settings_of(definition: ModelDefinition, defaults: ProcessSettings) -> ProcessSettings:
    """How its processes are run."""
    return replace(
        defaults,
        slots=definition.slots or defaults.slots,
        context=definition.context or (defaults.context if definition.backend is Backend.reference else _CONTEXT),
        replicas=definition.replicas or defaults.replicas,
        idle=_idle(definition, defaults),
        adapter_slots=definition.adapter_slots or defaults.adapter_slots,
        adapter_bytes=definition.adapter_bytes or defaults.adapter_bytes,
        memory_limit=definition.memory_bytes or defaults.memory_limit,
        address_space=_address_space(definition, defaults),
    )


def _idle(definition: ModelDefinition, defaults: ProcessSettings) -> float | None:
    if definition.idle_ms < 0:
        return None
    return definition.idle_ms / 1000 if definition.idle_ms else defaults.idle


def _address_space(definition: ModelDefinition, defaults: ProcessSettings) -> int | None:
    """What the kernel enforces. A process with a GPU reserves far more addresses than it uses: only its memory is watched."""
    if definition.backend is not Backend.reference:
        return None
    return definition.memory_bytes + _ROOM if definition.memory_bytes else defaults.address_space


def load_of(definition: ModelDefinition, settings: ProcessSettings, context: int = 0) -> protocol.Load:
    """What the process is told. `context` overrides the definition's for as long as somebody wants that."""
    return protocol.Load(
        model=definition.path,
        slots=settings.slots,
        backend=definition.backend,
        context=context or settings.context,
        devices=definition.devices,
        split=definition.split,
        kv=definition.kv,
        kv_bytes=definition.kv_bytes,
        memory_bytes=definition.memory_bytes,
        adapter_slots=settings.adapter_slots,
        adapter_bytes=settings.adapter_bytes,
    )


def files_mark(definition: ModelDefinition) -> tuple[int, ...]:
    """What changes when files of a model come or go; empty when there are none."""
    path = Path(definition.path)
    try:
        return tuple(it.stat().st_mtime_ns for it in (path, path / "config.json") if it.exists())
    except OSError:
        return ()


class Sizes:
    """What models take, from their files' headers; read again when the files change."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, Seen]] = {}

    def seen(self, definition: ModelDefinition) -> Seen | None:
        """A model's files by their headers; None for one without files here."""
        if not definition.path:
            return None
        path = Path(definition.path)
        config = path / "config.json"
        try:
            mark = (config if config.is_file() else path).stat().st_mtime_ns
            known = self._seen.get(definition.path)
            if known is None or known[0] != mark:
                known = self._seen[definition.path] = (mark, look(path))
        except OSError:
            return None  # it is gone; whoever loads it says so
        return known[1]

    def check(self, definition: ModelDefinition) -> None:
        """Raises model_invalid for a model whose files are not there, or say nothing of what they are."""
        if not definition.path:
            return
        seen = self.seen(definition)
        if seen is None or not seen.weights_bytes:
            what = "is not there" if seen is None else "has no weights"
            raise AiwmError(
                Code.model_invalid,
                f"{definition.name}: {definition.path} {what}",
                field="name",
                fix=f"put its files back, or aiwm model set {definition.name} path=…",
            )

    def estimate(self, definition: ModelDefinition, settings: ProcessSettings, context: int = 0) -> Estimate:
        """What one process of it takes. Zeros for what has no files here."""
        seen = self.seen(definition)
        if seen is None:
            return Estimate()
        sizing = Sizing(
            slots=settings.slots,
            context=context or settings.context or seen.shape.context,
            kv=definition.kv,
            kv_bytes=definition.kv_bytes,
            adapter_slots=settings.adapter_slots,
            adapter_bytes=settings.adapter_bytes,
        )
        return estimate(definition.backend, seen.kind, seen.shape, seen.parameters, seen.weights_bytes, sizing)

    def context(self, definition: ModelDefinition, settings: ProcessSettings, context: int = 0) -> int:
        """The context that it will have."""
        seen = self.seen(definition)
        most = seen.shape.context if seen is not None else 0
        wanted = context or settings.context or most
        return min(wanted, most) if most else wanted

    def need(
        self,
        definition: ModelDefinition,
        settings: ProcessSettings,
        devices: tuple[str, ...],
        context: int,
        load_ms: int,
    ) -> Need:
        """What a plan has to find room for, and what it would be with less context."""
        full = self.context(definition, settings, context)
        shorter = []
        size = full // 2
        while size >= _SHORTEST:
            shorter.append((size, self.estimate(definition, settings, size).total))
            size //= 2
        total = self.estimate(definition, settings, full).total
        return Need(
            model=definition.name,
            bytes=total,
            context=full,
            shorter=tuple(it for it in shorter if it[1] < total),
            devices=devices,
            splits=definition.backend is Backend.exllamav2,
            load_ms=load_ms,
        )


def in_process(definition: ModelDefinition) -> bool:
    """Whether it runs in a model process of this engine."""
    return definition.backend in _IN_PROCESS
