"""The seeds' values in our units and fields. Each fold gets a value whose form its schema has already checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Schema = dict[str, Any]


class Item(Protocol):
    """What a fold writes to: a definition under way."""

    given_id: str | None

    def put(self, field: str, value: Any) -> None:
        """Set our field (`sampling.seed` for one inside another). A second value for it is a fault."""

    def inside(self, field: str, value: Any) -> None:
        """Set our field to a struct that is itself written as a document."""

    def default(self, field: str, value: Any) -> None:
        """Set our field unless the document did."""

    def wants_key(self, method: str, value: str) -> None:
        """Say where the seeds' API key comes from. Which of config.toml's keys that is, is found out later."""

    def warn(self, message: str, fix: str | None = None) -> None:
        """Warn about the name that is being read."""


Fold = Callable[[Any, Item], None]

_MOST_MS = 8 * 7 * 86_400_000

AUTH: Schema = {
    "type": ["object", "null"],
    "properties": {
        "method": {"enum": ["env_var", "env", "inline", "config_path", "vault", "none"]},
        "value": {"type": ["string", "null"]},
    },
    "required": ["method"],
    "additionalProperties": False,
}
INTERACTION: Schema = {
    "type": ["array", "null"],
    "items": {"enum": ["conversational", "stateless_task", "both"]},
}
_COUNT: Schema = {"type": ["integer", "null"]}
_SHARE: Schema = {"type": ["number", "null"]}
_TEXTS: Schema = {"type": ["array", "null"], "items": {"type": "string"}}
BASE_FIELDS = {
    "temperature": ("sampling.temperature", _SHARE),
    "top_p": ("sampling.top_p", _SHARE),
    "topP": ("sampling.top_p", _SHARE),
    "seed": ("sampling.seed", _COUNT),
    "max_tokens": ("sampling.max_tokens", _COUNT),
    "maxTokens": ("sampling.max_tokens", _COUNT),
    "max_output_tokens": ("sampling.max_tokens", _COUNT),
    "maxOutputTokens": ("sampling.max_tokens", _COUNT),
    "stop": ("sampling.stop", _TEXTS),
    "stop_sequences": ("sampling.stop", _TEXTS),
    "stopSequences": ("sampling.stop", _TEXTS),
    "num_ctx": ("context_tokens", _COUNT),
    "numCtx": ("context_tokens", _COUNT),
}
BASE_CONFIG: Schema = {
    "type": ["object", "null"],
    "properties": {name: schema for name, (_, schema) in BASE_FIELDS.items()},
}
CRITERIA: Schema = {
    "type": ["object", "null"],
    "properties": {
        **{name: {"type": ["string", "null"]} for name in ("definitionName", "definition_name", "definition")},
        "capabilities": _TEXTS,
    },
    "additionalProperties": False,
}


def ignore(_: Any, __: Item) -> None:
    """What the seeds' system keeps by itself: ours does, too."""


def identity(value: str | None, item: Item) -> None:
    """An id given in a document names the definition in that document. Ours follow from names."""
    item.given_id = value or None


def auth(value: dict[str, Any] | None, item: Item) -> None:
    if value is None:
        return
    method, text = value["method"], value.get("value") or ""
    if method == "env":
        item.warn('the method "env" is taken for env_var', '"method": "env_var"')
        method = "env_var"
    if method != "none":
        item.wants_key(method, text)


def interaction(value: list[str] | None, item: Item) -> None:
    models = set(value or ())
    if not models:
        item.put("interaction", "conversational")
    elif "both" in models or len(models) == 2:
        item.put("interaction", "both")
    else:
        item.put("interaction", models.pop())


def base_config(value: dict[str, Any] | None, item: Item) -> None:
    options = {}
    for name, setting in (value or {}).items():
        field, _ = BASE_FIELDS.get(name, ("", {}))
        if not field:
            options[name] = setting
        elif setting is not None:
            item.put(field, setting)
    if options:
        item.put("options", options)


def max_total(value: int, item: Item) -> None:
    if value == 0:
        item.warn("0 instances at most is taken for 1", '"max_total_instances": 1')
    item.put("max_total", value or 1)


def retry_policy(value: dict[str, Any], item: Item) -> None:
    """The seeds' policy waits equally long each time, and what it does not say is 0."""
    item.inside("retry", value)
    for field, default in (
        ("max_retries", 0),
        ("delay_ms", 0),
        ("backoff", 1.0),
        ("jitter", 0.0),
        ("max_delay_ms", _MOST_MS),
    ):
        item.default(f"retry.{field}", default)


def persist_tasks(value: bool, item: Item) -> None:
    item.put("durability", "disk" if value else "memory")


def criteria(value: dict[str, Any] | None, item: Item) -> None:
    found = value or {}
    for name in ("definitionName", "definition_name", "definition"):
        if found.get(name):
            item.put("definition", found[name])
    if found.get("capabilities"):
        item.put("capabilities", found["capabilities"])


def payload_schema(value: dict[str, Any], item: Item) -> None:
    """A JSON Schema as it is; the seeds' map of field → {type, description, default} becomes one; a map of plain values is defaults."""
    if any(key.startswith("$") for key in value) or isinstance(value.get("properties"), dict):
        item.put("payload_schema", value)
        return
    described = {name: field for name, field in value.items() if _describes(field)}
    if described:
        item.put("payload_schema", {"type": "object", "properties": described})
    defaults = {name: field["default"] for name, field in described.items() if "default" in field}
    defaults |= {name: field for name, field in value.items() if name not in described}
    if defaults:
        item.put("defaults", defaults)


def _describes(field: Any) -> bool:
    return isinstance(field, dict) and bool({"type", "description", "default", "enum"} & field.keys())


def local_path(value: str | None, item: Item) -> None:
    if value:
        item.put("path", value)


def store_path(field: str) -> Fold:
    """A path of the file store, with or without its scheme."""

    def fold(value: str | None, item: Item) -> None:
        if value:
            item.put(field, value if value.startswith("fm:/") else f"fm:/{value.lstrip('/')}")

    return fold


def scaled(field: str, factor: int, *, whole: bool = True) -> Fold:
    """A number in a larger unit than ours."""

    def fold(value: float, item: Item) -> None:
        item.put(field, round(value * factor) if whole else value * factor)

    return fold
