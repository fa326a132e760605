"""Templates at work: a submit and its template become one request, and the payload is held against the template's JSON Schema.

What the submit says explicitly wins; objects of the payload are merged deeply. A schema is compiled once for each revision of a
template, and never fetches anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from engine.contract.definitions import TaskTemplate
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.tasks import TaskSubmit
from engine.contract.suggest import nearest

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

MAX_DEPTH = 64
"""Objects in objects: deeper ones are neither merged nor filled."""


def deep_merge(under: Mapping[str, Any], over: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """`over` on top of `under`: objects in both are merged, everything else of `over` (null too) replaces. Neither is changed."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping) and depth < MAX_DEPTH:
            merged[key] = deep_merge(below, value, depth + 1)
        else:
            merged[key] = value
    return merged


def with_defaults(schema: Any, value: Any, depth: int = 0) -> Any:
    """The value with the schema's `default`s where properties are missing, in objects below it and in list items too."""
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return value
    if isinstance(value, Mapping):
        filled = dict(value)
        properties = schema.get("properties")
        for name, part in properties.items() if isinstance(properties, Mapping) else ():
            if name in filled:
                filled[name] = with_defaults(part, filled[name], depth + 1)
            elif isinstance(part, Mapping) and "default" in part:
                filled[name] = part["default"]
        return filled
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(schema["items"], item, depth + 1) for item in value]
    return value


def compile_schema(schema: Mapping[str, Any], field: str = "definition.payload_schema") -> Validator:
    """A schema ready to validate. Raises `definition_invalid` naming what is wrong; a reference to elsewhere is refused, not followed."""
    import jsonschema_rs

    def refuse(uri: str) -> Any:
        raise ValueError(f"{uri[:80]} is not part of this schema, and nothing is fetched")

    try:
        return jsonschema_rs.validator_for(dict(schema), retriever=refuse)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        place = _place(field, getattr(error, "instance_path", ()))
        message = str(getattr(error, "message", None) or error).splitlines()[0]
        raise AiwmError(
            Code.definition_invalid,
            f"{place} is no JSON Schema: {message[:300]}",
            field=place,
            fix="a JSON Schema (2020-12) that stands alone",
        ) from None


class Templating:
    """Merges and validates, with the compiled schemas of the templates that are in use."""

    def __init__(self) -> None:
        self._compiled: dict[str, tuple[TaskTemplate, Validator | None]] = {}

    def applied(self, request: TaskSubmit, template: TaskTemplate) -> TaskSubmit:
        """The request with what the template adds. Raises `payload_invalid` naming the field, its value and the fix."""
        payload = deep_merge(template.defaults, request.payload) if template.defaults else request.payload
        if template.answer_schema and "schema" not in payload:
            payload = {**payload, "schema": template.answer_schema}
        return msgspec.structs.replace(
            request,
            queue=request.queue or template.queue,
            payload=self.checked(template, payload),
            definition=request.definition if request.definition is not None else template.definition or None,
            capabilities=request.capabilities or template.capabilities,
            priority=request.priority if request.priority is not None else template.priority,
        )

    def checked(self, template: TaskTemplate, payload: dict[str, Any]) -> dict[str, Any]:
        """The payload with the schema's defaults filled in; `payload_invalid` when it does not satisfy the schema."""
        validator = self._validator(template)
        if validator is None:
            return payload
        filled: dict[str, Any] = with_defaults(template.payload_schema, payload)
        for error in validator.iter_errors(filled):
            raise payload_error(error, template)
        return filled

    def _validator(self, template: TaskTemplate) -> Validator | None:
        known = self._compiled.get(template.name)
        if known is None or known[0] is not template:
            schema = template.payload_schema
            known = (template, compile_schema(schema, "payload_schema") if schema else None)
            self._compiled[template.name] = known
        return known[1]


def payload_error(error: ValidationError, template: TaskTemplate) -> AiwmError:
    """One violation for a person: where, what it is, what it should be."""
    place = _place("payload", error.instance_path)
    kind = error.kind.as_dict() if error.kind is not None else {}
    properties = _properties_at(template.payload_schema, error.schema_path)
    fix: str | None = None
    if "property" in kind:
        place = f"{place}.{kind['property']}"
        message = f"{place} is missing"
        fix = _example(properties.get(kind["property"]), kind["property"])
    elif kind.get("unexpected"):
        unexpected = str(kind["unexpected"][0])
        place = f"{place}.{unexpected}"
        message = f"{place} is not a field of template {template.name}"
        fix = nearest(unexpected, properties) or "fields: " + ", ".join(sorted(properties))
    else:
        message = f"{place}: {error.message[:300]}"
        fix = _wanted(kind)
    return AiwmError(Code.payload_invalid, message, field=place, fix=fix or f"aiwm template show {template.name}")


def _properties_at(schema: Any, path: list[str | int]) -> Mapping[str, Any]:
    """The properties of the object that a violation is about; the last step of the path is the keyword itself."""
    here = schema
    for step in path[:-1]:
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            return {}
    found = here.get("properties") if isinstance(here, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _wanted(kind: Mapping[str, Any]) -> str | None:
    for name, words in (
        ("types", "a value of type"),
        ("options", "one of"),
        ("limit", "the limit is"),
        ("pattern", "must match"),
    ):
        if name in kind:
            value = kind[name]
            parts = value if isinstance(value, list) else [value]
            return f"{words} {', '.join(str(part) for part in parts)}"[:200]
    return None


def _example(schema: Any, name: str) -> str | None:
    if not isinstance(schema, Mapping):
        return None
    kind = schema.get("type")
    shown = {"string": '"…"', "integer": "1", "number": "1.0", "boolean": "true", "array": "[…]", "object": "{…}"}
    return f'"{name}": {shown[kind]}' if kind in shown else None


def _place(root: str, path: Any) -> str:
    return root + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
