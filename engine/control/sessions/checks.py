"""What a session must fulfil before it is spawned or talked to. Each check raises an error that says what to do."""

from __future__ import annotations

from engine.contract.definitions import DefinitionStatus, Interaction, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.control.catalogue import Catalogue
from engine.control.dispatcher import Dispatcher
from engine.control.instances import Instances
from engine.workers.registry import KindRegistry


def check_talks(definition: WorkerDefinition, kinds: KindRegistry) -> None:
    """Only an active definition for conversations, of a kind with a model, is spawned or talked to."""
    name, kind = definition.name, definition.kind
    if definition.status is not DefinitionStatus.active:
        raise AiwmError(
            Code.not_active,
            f'worker definition "{name}" is {definition.status.value}',
            field="definition",
            fix="set its status to active in ai_worker_definitions.json, then aiwm worker reload",
        )
    if definition.interaction is Interaction.stateless_task:
        raise AiwmError(
            Code.not_active,
            f'worker definition "{name}" takes single tasks only (interaction stateless_task)',
            field="definition",
            fix="aiwm task run, or another definition",
        )
    if not kinds.third_party(kind) and not kinds.load(kind).uses_model:
        raise AiwmError(
            Code.bad_request,
            f'worker definition "{name}" is of kind "{kind}", which has no model to talk with',
            field="definition",
            fix="aiwm worker list",
        )


def check_room(
    definition: WorkerDefinition,
    catalogue: Catalogue,
    instances: Instances,
    dispatcher: Dispatcher,
    max_instances: int,
) -> None:
    """The definition's and the engine's bounds on instances, those of pools and those on their way counted."""
    starting = {pool.name: dispatcher.starting(pool.name) for pool in catalogue.pools.values()}
    coming = sum(starting[pool.name] for pool in catalogue.pools.values() if pool.definition == definition.name)
    live = instances.all()
    of_it = coming + sum(instance.definition.name == definition.name for instance in live)
    _check(f'"{definition.name}"', of_it, definition.limits.max_instances, "limits.max_instances")
    _check("the engine", len(live) + sum(starting.values()), max_instances, "scheduling.max_total_instances")


def _check(whose: str, count: int, most: int, setting: str) -> None:
    if most and count >= most:
        raise AiwmError(
            Code.conflict,
            f"{whose} has {count} of at most {most} instances",
            field="definition",
            fix=f"aiwm instance retire, or raise {setting}",
            retryable=True,
        )
