"""What the definition of a route may say: pure, and all that must be known of hybrid models before one is called."""

from __future__ import annotations

from engine.contract.definitions import ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest

POLICIES = ("failover", "busy", "local-first")


def route_fault(definition: ModelDefinition) -> AiwmError | None:
    """What is wrong with the route and the policy of a hybrid definition, if anything is."""
    if definition.policy and definition.policy not in POLICIES:
        fix = nearest(definition.policy, POLICIES) or ", ".join(POLICIES)
        message = f'"{definition.policy[:80]}" is no policy of a route'
        return AiwmError(Code.definition_invalid, message, field="policy", fix=fix)
    if not definition.route:
        return AiwmError(
            Code.definition_invalid, "a hybrid model needs a route", field="route", fix='["aiwm-nano", "openai/gpt-4o"]'
        )
    if definition.name in definition.route:
        message = f"the route of {definition.name} leads to itself"
        return AiwmError(Code.definition_invalid, message, field="route", fix="name other models")
    return None
