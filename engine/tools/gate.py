"""The permission gate: pure, and asked before every call. The order of its questions is fixed and every answer says which one it was."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.invalid import invalid
from engine.contract.states import Effect

# For people only: what decides what models may do, shows what they must not see, ends everything, or starts work in a way that would
# not be bounded by what its starter may do.
HIGH_RISK = (
    *(
        "engine_*",
        "config_*",
        "key_*",
        "approval_*",
        "tool_*",
        "operation_*",
        "bundle_*",
        "view_*",
        "notify_*",
        "worker_load",
        "worker_reload",
    ),
    *("*_create", "*_update", "*_delete", "batch_add", "instance_spawn", "instance_chat", "instance_set"),
)


# Not destructive, but no less to be asked about each time: a task that is put back, or into another queue, runs with the rights that it
# has there, not with its mover's.
ASKED_EACH_TIME = ("task_retry", "task_move")


class Verdict(StrEnum):
    """`approval`: the call is not made but parked until a person approves it."""

    allowed = "allowed"
    approval = "approval"
    denied = "denied"
    not_allowed = "not_allowed"
    blocked = "blocked"
    unknown = "unknown"
    arguments = "arguments"


_CODES = {
    Verdict.denied: Code.tool_denied,
    Verdict.not_allowed: Code.tool_not_allowed,
    Verdict.blocked: Code.tool_blocked,
    Verdict.unknown: Code.tool_unknown,
    Verdict.arguments: Code.tool_arguments,
}


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """Something callable. `arguments` is the struct that they must be, `method` the request behind it ("" for a file tool)."""

    name: str
    description: str
    arguments: type[msgspec.Struct]
    effect: Effect
    method: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        """The arguments' JSON Schema, whole in itself."""
        return flat_schema(self.arguments)


class Lists(msgspec.Struct, frozen=True, kw_only=True):
    """One allow list and one deny list, of names or globs; `whose` they are."""

    whose: str
    allow: tuple[str, ...]
    deny: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate said to a call, and why. `gate` is the question that decided: deny, allow, policy, registry, arguments, or all."""

    tool: str
    verdict: Verdict
    gate: str
    why: str

    @property
    def allowed(self) -> bool:
        return self.verdict is Verdict.allowed

    def error(self) -> AiwmError:
        """The refusal as an error. Only of decisions that refuse."""
        return AiwmError(_CODES[self.verdict], self.why, field="tool")


def normalised(name: str) -> str:
    """One spelling for a tool: `TOOL.ReadFile`, `read-file` and `read_file` are the same. Globs stay globs."""
    name = re.sub(r"^TOOL\.", "", name.strip(), flags=re.IGNORECASE)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[.\-/\s]+", "_", name).lower()[:100]


def permitted(name: str, lists: Sequence[Lists], registry: Mapping[str, Tool]) -> Decision:
    """Everything but the arguments: the deny lists, the allow lists (an empty one allows nothing), the high-risk policy, the registry.

    `lists` are the definition's, and those of every task on whose behalf this one was started: a call must pass all of them."""
    for each in lists:
        hit = _hit(name, each.deny)
        if hit is not None:
            return _no(name, Verdict.denied, "deny", f"{name} is on the deny list of {each.whose}{_as(hit, name)}")
    for each in lists:
        if not each.allow:
            return _no(name, Verdict.not_allowed, "allow", f"{each.whose} allows no tools")
        if _hit(name, each.allow) is None:
            return _no(name, Verdict.not_allowed, "allow", f"{name} is not on the allow list of {each.whose}")
    tool = registry.get(name)
    if any(fnmatchcase(name, pattern) for pattern in HIGH_RISK) and (tool is None or tool.method):
        return _no(name, Verdict.blocked, "policy", f"{name} is for people only, whatever a list says")
    if tool is not None and name in ASKED_EACH_TIME:
        return _no(
            name, Verdict.approval, "policy", f"{name} lets work run with other rights: a person must approve it"
        )
    if tool is not None and tool.effect is Effect.destructive:
        return _no(name, Verdict.approval, "policy", f"{name} is destructive: a person must approve it")
    if tool is None:
        return _no(name, Verdict.unknown, "registry", f"there is no tool {name}")
    return Decision(
        tool=name, verdict=Verdict.allowed, gate="all", why=f"allowed to {lists[0].whose}" if lists else "allowed"
    )


def decide(name: str, arguments: Any, lists: Sequence[Lists], registry: Mapping[str, Tool]) -> tuple[Decision, Any]:
    """The gate's answer to a call, and its arguments as their struct (None when it is refused). A call that needs approval has passed
    the argument check too: nobody is asked about a call that could not be made."""
    decision = permitted(name, lists, registry)
    if decision.verdict not in (Verdict.allowed, Verdict.approval):
        return decision, None
    kind = registry[name].arguments
    try:
        return decision, msgspec.convert(arguments, kind)
    except msgspec.ValidationError as error:
        why = invalid(error, kind, root="arguments").info
        text = f"{why.message} ({why.fix})" if why.fix else why.message
        return _no(name, Verdict.arguments, "arguments", text), None


def _hit(name: str, patterns: Sequence[str]) -> str | None:
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)


def _as(pattern: str, name: str) -> str:
    return "" if pattern == name else f" ({pattern})"


def _no(name: str, verdict: Verdict, gate: str, why: str) -> Decision:
    return Decision(tool=name, verdict=verdict, gate=gate, why=why)


@cache
def flat_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """A struct's JSON Schema as one object, definitions inlined where they are not recursive: models and templates want it so.

    Made once a struct: whoever gets it may not change it."""
    (schema,), definitions = msgspec.json.schema_components((kind,), ref_template="{name}")
    return dict(_inlined(schema, definitions, ()))


def _inlined(node: Any, definitions: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_inlined(part, definitions, within) for part in node]
    if not isinstance(node, dict):
        return node
    name = node.get("$ref")
    if isinstance(name, str):
        return {"type": "object"} if name in within else _inlined(definitions[name], definitions, (*within, name))
    # A title is a schema's name, which says nothing here; an argument may be called `title`, and then it is a schema.
    named = {key: value for key, value in node.items() if key != "title" or isinstance(value, dict)}
    return {key: _inlined(value, definitions, within) for key, value in named.items()}
