"""Chat templates: where a model's directory has them, and the sandbox that they render in.

A template is a program that came with a model. It runs in jinja2's immutable sandbox, in a process with bounded memory: a model process, or
the one that makes samples for `model check`. The engine itself renders none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
"""What a template may name besides the messages; keys of tokenizer_config.json."""


def sandbox() -> Any:
    """The environment that a template is compiled in. Importing jinja2 is left to the first use."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(reason: str) -> str:
        raise TemplateError(reason)

    def to_json(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    return environment


def template_source(directory: Path, settings: dict[str, Any]) -> str | None:
    """chat_template.jinja, or `chat_template` of tokenizer_config.json (`settings`): a string, or named ones of which we take the default.
    Raises OSError, UnicodeDecodeError."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    value = settings.get("chat_template")
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def token_text(value: Any) -> str:
    """A special token is written as a string or as {"content": …}."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""
