"""llama-swap's configuration as models of ours: its commands, with its macros filled in, are run by aiwm instead.

Format: https://github.com/mostlygeek/llama-swap (config.example.yaml): `models: NAME: {cmd, proxy, ttl, checkEndpoint, useModelName,
aliases, env, macros}`, `macros: {NAME: text}`. `${PORT}` is a port that is chosen for each start, as `{port}` is here."""

from __future__ import annotations

import re
import shlex
from typing import Any

import msgspec

from engine.contract.definitions import NAME_PATTERN, Backend, ModelDefinition
from engine.contract.errors import AiwmError, Code

_MACRO = re.compile(r"\$\{([A-Za-z0-9_.-]+)\}")
_DEPTH = 10
_DEEPEST = 20
_MOST_CHARS = 200_000


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """`definitions` are right; `refused` are those that cannot be taken over, each as (name, why)."""

    definitions: tuple[ModelDefinition, ...]
    refused: tuple[tuple[str, str], ...] = ()


def read_llama_swap(text: str) -> Imported:
    """The models of a configuration. Raises definition_invalid for a text that is none."""
    import yaml

    if len(text) > _MOST_CHARS:
        raise _invalid(f"has more than {_MOST_CHARS:,} characters")
    try:
        config = yaml.load(text, Loader=_loader())
    except (yaml.YAMLError, RecursionError) as error:
        raise _invalid(f"is not YAML: {str(error).splitlines()[0] if str(error) else 'nested too deeply'}") from None
    models = config.get("models") if isinstance(config, dict) else None
    if not isinstance(models, dict) or not models:
        raise _invalid("has no models")
    macros = _macros(config.get("macros"))
    definitions: list[ModelDefinition] = []
    refused: list[tuple[str, str]] = []
    for key, entry in models.items():
        try:
            definitions.append(_model(str(key), entry, macros))
        except ValueError as error:
            refused.append((str(key)[:80], str(error)))
    return Imported(definitions=tuple(definitions), refused=tuple(refused))


def _loader() -> Any:
    """YAML without aliases, a few of which can stand for gigabytes, and not nested deeply."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("it uses aliases (*name), which are not read")
            self.depth += 1
            if self.depth > _DEEPEST:
                raise yaml.YAMLError("it is nested too deeply")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    return Loader


def _macros(found: Any) -> dict[str, str]:
    if isinstance(found, list):  # an older form: a list of one-entry maps
        found = {key: value for entry in found if isinstance(entry, dict) for key, value in entry.items()}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _model(name: str, entry: Any, macros: dict[str, str]) -> ModelDefinition:
    """One model. Raises ValueError saying why it cannot be taken over."""
    if not isinstance(entry, dict) or not isinstance(entry.get("cmd"), str):
        raise ValueError("it has no cmd")
    ours = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64]
    if not re.fullmatch(NAME_PATTERN, ours):
        raise ValueError("its name has no letter")
    known = {**macros, **_macros(entry.get("macros")), "MODEL_ID": name, "PORT": "{port}"}
    words = _words(_filled(entry["cmd"], known))
    if entry.get("env"):
        words = ["env", *(_filled(str(pair), known) for pair in entry["env"]), *words]
    if not any("{port}" in word for word in words):
        raise ValueError("its cmd has no ${PORT}: aiwm chooses the port")
    ttl, check = entry.get("ttl"), entry.get("checkEndpoint")
    return ModelDefinition(
        name=ours,
        backend=Backend.command,
        command=tuple(words),
        health="/v1/models"
        if check == "none"
        else check
        if isinstance(check, str) and check.startswith("/")
        else "/health",
        remote=str(entry.get("useModelName") or name)[:200],
        idle_ms=ttl * 1000 if isinstance(ttl, int) and ttl > 0 else 0,
        description=str(entry.get("description") or entry.get("name") or "from llama-swap")[:200],
    )


def _words(text: str) -> list[str]:
    """A command as llama-swap splits it: by lines and words, comment lines and line continuations left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    try:
        return shlex.split(" ".join(line.rstrip().removesuffix("\\") for line in lines))
    except ValueError as error:
        raise ValueError(f"its cmd cannot be split: {error}") from None


def _filled(text: str, macros: dict[str, str]) -> str:
    """With macros, which may name each other, filled in."""
    for _ in range(_DEPTH):
        before, text = text, _MACRO.sub(lambda found: macros.get(found[1], found[0]), text)
        if text == before:
            break
        if len(text) > _MOST_CHARS:
            raise ValueError("its macros never end")
    left = _MACRO.search(text)
    if left:
        raise ValueError(f"the macro ${{{left[1][:40]}}} is not defined")
    return text


def _invalid(why: str) -> AiwmError:
    return AiwmError(Code.definition_invalid, f"the configuration of llama-swap {why}", field="text")
