"""Configuration: the shipped defaults, the user's file, `AIWM_SECTION__KEY` variables, flags; each value knows its origin."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.requests.session import Setting
from engine.contract.suggest import nearest
from engine.resources import default_config


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the sections. Every key of config.toml is a field here, so the two cannot drift apart."""


class EngineConfig(_Section, frozen=True, kw_only=True):
    linger_ms: int
    status_interval_ms: int


class QueuesConfig(_Section, frozen=True, kw_only=True):
    max_payload_bytes: int
    max_result_bytes: int


class SchedulingConfig(_Section, frozen=True, kw_only=True):
    page_size: int
    max_classes: int
    max_crashes: int


class ModelsConfig(_Section, frozen=True, kw_only=True):
    slots: int
    context: int
    start_timeout_ms: int
    hang_timeout_ms: int
    backoff_ms: int
    max_backoff_ms: int
    max_restarts: int


class ConsoleConfig(_Section, frozen=True, kw_only=True):
    theme: str


class Config(_Section, frozen=True, kw_only=True):
    """All settings, immutable. `settings` lists them with their origins."""

    engine: EngineConfig
    queues: QueuesConfig
    scheduling: SchedulingConfig
    models: ModelsConfig
    console: ConsoleConfig


class LoadedConfig(msgspec.Struct, frozen=True):
    """A configuration and where each of its values comes from."""

    config: Config
    settings: tuple[Setting, ...]


def user_config_path() -> Path:
    """The user's file: `AIWM_CONFIG`, else `aiwm/config.toml` in the XDG configuration directory. It need not exist."""
    named = os.environ.get("AIWM_CONFIG")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "aiwm" / "config.toml"


def load_config(environ: Mapping[str, str] | None = None, user_file: Path | None = None) -> LoadedConfig:
    """Read all layers. Raises `config_invalid` naming the file, the key and, for a misspelt key, the nearest one."""
    environ = os.environ if environ is None else environ
    path = user_file or user_config_path()
    values: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    defaults = _read(default_config())
    _merge(values, origins, defaults, "default", defaults)
    if path.is_file():
        _merge(values, origins, _read(path), str(path), defaults)
    _merge(values, origins, _from_environment(environ, defaults), "environment", defaults)
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        key = where.rstrip("`")
        origin = origins.get(key, "the configuration")
        raise AiwmError(
            Code.config_invalid,
            f"{key}: {text[0].lower() + text[1:]} (from {origin})",
            field=key,
            fix="aiwm config show --origin",
        ) from None
    _check_ranges(values, origins)
    settings = tuple(
        Setting(key=f"{section}.{key}", value=value, origin=origins[f"{section}.{key}"])
        for section, keys in values.items()
        for key, value in keys.items()
    )
    return LoadedConfig(config, settings)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AiwmError(
            Code.config_invalid, f"{path} is not TOML: {error}", field="config", fix="correct the line it names"
        ) from None
    except OSError as error:
        raise AiwmError(Code.config_invalid, f"{path} cannot be read: {error.strerror}", field="config") from None


def _merge(
    values: dict[str, dict[str, Any]],
    origins: dict[str, str],
    layer: dict[str, Any],
    origin: str,
    defaults: dict[str, Any],
) -> None:
    for section, keys in layer.items():
        if section not in defaults:
            raise _unknown(section, origin, defaults)
        if not isinstance(keys, dict):
            raise AiwmError(
                Code.config_invalid,
                f"{section} is a section, not a value (in {origin})",
                field=section,
                fix=f"[{section}]",
            )
        for key, value in keys.items():
            if key not in defaults[section]:
                raise _unknown(f"{section}.{key}", origin, (f"{section}.{known}" for known in defaults[section]))
            values.setdefault(section, {})[key] = value
            origins[f"{section}.{key}"] = origin


def _unknown(key: str, origin: str, known: Any) -> AiwmError:
    return AiwmError(
        Code.config_invalid,
        f'unknown key "{key}" in {origin}',
        field=key,
        fix=nearest(key, known) or "aiwm config show",
    )


def _from_environment(environ: Mapping[str, str], defaults: dict[str, Any]) -> dict[str, Any]:
    """`AIWM_MODELS__SLOTS=4`. A value is read as TOML where the default is not text."""
    layer: dict[str, dict[str, Any]] = {}
    for name, text in environ.items():
        section, separator, key = name.removeprefix("AIWM_").lower().partition("__")
        if not name.startswith("AIWM_") or not separator:
            continue
        value: Any = text
        if not isinstance(defaults.get(section, {}).get(key), str):
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                value = text
        layer.setdefault(section, {})[key] = value
    return layer


def _check_ranges(values: dict[str, dict[str, Any]], origins: dict[str, str]) -> None:
    for section, keys in values.items():
        for key, value in keys.items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                name = f"{section}.{key}"
                raise AiwmError(
                    Code.config_invalid,
                    f"{name} is {value}, but must be at least 1 (from {origins[name]})",
                    field=name,
                    fix="a positive number",
                )
