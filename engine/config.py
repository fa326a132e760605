"""Configuration: the shipped defaults, the user's file, `AIWM_SECTION__KEY` variables, flags; each value knows its origin."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.contract.definitions import NAME_PATTERN
from engine.contract.errors import AiwmError, Code
from engine.contract.invalid import invalid
from engine.contract.requests.session import Setting
from engine.contract.suggest import nearest
from engine.resources import default_config
from engine.secret import Secret


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
    affinity_wait_ms: int
    max_crashes: int
    max_total_instances: int


class ModelsConfig(_Section, frozen=True, kw_only=True):
    slots: int
    context: int
    depth: int
    replicas: int
    idle_ms: int
    memory_gb: float
    start_timeout_ms: int
    server_timeout_ms: int
    hang_timeout_ms: int
    backoff_ms: int
    max_backoff_ms: int
    max_restarts: int
    keep_prompt_chars: int


class RemoteConfig(_Section, frozen=True, kw_only=True):
    connect_timeout_ms: int
    first_byte_timeout_ms: int
    idle_timeout_ms: int
    backoff_ms: int
    max_backoff_ms: int
    max_retry_after_ms: int
    hybrid_wait_ms: int


class RetentionConfig(_Section, frozen=True, kw_only=True):
    events_days: int
    records_days: int
    tasks_days: int
    max_rows: int


class NotifyConfig(_Section, frozen=True, kw_only=True):
    """Read from the files only: no environment variable, flag or request says what is run or where notices go."""

    command: tuple[str, ...]
    webhook: str
    repeat_ms: int
    per_minute: int


class HttpConfig(_Section, frozen=True, kw_only=True):
    host: str
    port: int


class ConsoleConfig(_Section, frozen=True, kw_only=True):
    theme: str
    mouse: bool
    bandwidth: Literal["auto", "full", "small"]
    read_only: bool
    notify: tuple[Literal["ask", "error", "warn", "audit", "info"], ...]
    notify_by: tuple[Literal["toast", "bell", "terminal"], ...]
    notify_per_minute: int


class FilesConfig(_Section, frozen=True, kw_only=True):
    max_file_bytes: int
    area_quota_bytes: int
    store_quota_bytes: int


class ToolsConfig(_Section, frozen=True, kw_only=True):
    max_result_chars: int
    timeout_ms: int
    approval_ms: int


class SecurityConfig(_Section, frozen=True, kw_only=True):
    """`external_roots`: absolute directories outside the home that data sources may lie in. `vault_passphrase_file` opens the vault."""

    external_roots: tuple[str, ...]
    vault_passphrase_file: str


class KeyMethod(StrEnum):
    """Where an API key comes from: an environment variable, config.toml itself, a file, a systemd credential, the home's encrypted
    vault; `none` for a provider that wants none."""

    env = "env"
    inline = "inline"
    file = "file"
    systemd = "systemd"
    vault = "vault"
    none = "none"


class KeyConfig(_Section, frozen=True, kw_only=True):
    """One API key. `value` names the variable (env) or the credential (systemd), `secret` is the key of an inline one; `path` is the
    file. It may be sent to `hosts` and nowhere else."""

    method: KeyMethod
    value: str = ""
    secret: Secret | None = None
    path: str = ""
    hosts: tuple[str, ...] = ()


class Config(_Section, frozen=True, kw_only=True):
    """All settings, immutable. `settings` lists them with their origins. `keys` are the API keys by name, `keymap` the operator's own
    keys of the console by the id of an action, which only the console knows."""

    engine: EngineConfig
    queues: QueuesConfig
    scheduling: SchedulingConfig
    models: ModelsConfig
    remote: RemoteConfig
    retention: RetentionConfig
    notify: NotifyConfig
    http: HttpConfig
    console: ConsoleConfig
    files: FilesConfig
    tools: ToolsConfig
    security: SecurityConfig
    keys: dict[str, KeyConfig] = {}
    keymap: dict[str, str] = {}


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
    keys: dict[str, KeyConfig] = {}
    keymap: dict[str, str] = {}
    if path.is_file():
        layer = _read(path)
        keys = _read_keys(layer.pop("keys", {}), str(path))
        keymap = _read_keymap(layer.pop("keymap", {}), str(path))
        _merge(values, origins, layer, str(path), defaults)
    _merge(values, origins, _from_environment(environ, defaults), "environment", defaults)
    try:
        config = msgspec.structs.replace(msgspec.convert(values, Config), keys=keys, keymap=keymap)
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
    _check_roots(config.security, origins["security.external_roots"])
    own_keys = tuple(Setting(key=f"keymap.{name}", value=text, origin=str(path)) for name, text in keymap.items())
    return LoadedConfig(config, settings + own_keys + _key_settings(keys, str(path)))


def _read_keymap(section: Any, origin: str) -> dict[str, str]:
    """`[keymap]`: ids of actions, each with its keys as text. Whether there is such an action, the console says."""
    if not isinstance(section, dict):
        raise AiwmError(Code.config_invalid, f"keymap is a section, not a value (in {origin})", field="keymap")
    for name, text in section.items():
        if not isinstance(text, str):
            wrong = f'keymap.{name} must be text such as "f5,ctrl+r" (in {origin})'
            raise AiwmError(Code.config_invalid, wrong, field=f"keymap.{name}", fix=f'{name} = "f5"')
    return dict(section)


def _read_keys(section: Any, origin: str) -> dict[str, KeyConfig]:
    """`[keys.NAME]`: sections with free names. The text of an inline key becomes a secret before anything else sees it."""
    if not isinstance(section, dict):
        raise AiwmError(Code.config_invalid, f"keys is a section, not a value (in {origin})", field="keys")
    found: dict[str, KeyConfig] = {}
    for name, entry in section.items():
        field = f"keys.{name}"
        if not re.fullmatch(NAME_PATTERN, name) or not isinstance(entry, dict):
            raise AiwmError(
                Code.config_invalid, f"{field} is no key (in {origin})", field=field, fix='[keys.openai] method = "env"'
            )
        values: dict[str, Any] = dict(entry)
        if "secret" in values:
            raise _unknown(
                f"{field}.secret", origin, (f"{field}.{known}" for known in ("method", "value", "path", "hosts"))
            )
        text = values.pop("value", "") if values.get("method") == KeyMethod.inline else ""
        try:
            key = msgspec.convert(values, KeyConfig)
        except msgspec.ValidationError as error:
            raise invalid(error, KeyConfig, Code.config_invalid, field) from None
        if not isinstance(text, str):
            raise AiwmError(Code.config_invalid, f"{field}.value must be text (in {origin})", field=f"{field}.value")
        found[name] = msgspec.structs.replace(key, secret=Secret(text)) if text else key
    return found


def _key_settings(keys: dict[str, KeyConfig], origin: str) -> tuple[Setting, ...]:
    return tuple(
        Setting(key=f"keys.{name}.{field}", value=value, origin=origin)
        for name, key in keys.items()
        for field, value in (
            ("method", key.method.value),
            ("value", "(hidden)" if key.secret is not None else key.value),
            ("path", key.path),
            ("hosts", list(key.hosts)),
        )
        if value
    )


def _check_roots(security: SecurityConfig, origin: str) -> None:
    for root in security.external_roots:
        if not root.startswith("/") or ".." in root.split("/") or not root.strip("/"):
            raise AiwmError(
                Code.config_invalid,
                f'security.external_roots: "{root}" must be an absolute directory and not the whole disk (from {origin})',
                field="security.external_roots",
                fix='["/srv/data"]',
            )


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
        if section in _FROM_FILES_ONLY:
            raise AiwmError(
                Code.config_invalid,
                f"{name} is not heard: {section} is read from files only",
                field=f"{section}.{key}",
                fix=f"[{section}] in config.toml",
            )
        layer.setdefault(section, {})[key] = value
    return layer


_FROM_FILES_ONLY = frozenset({"security", "keys", "notify"})
"""What an environment variable (which a stranger's process may inherit to us) must not be able to loosen."""


_MAY_BE_ZERO = frozenset(
    {
        "scheduling.affinity_wait_ms",
        "retention.events_days",
        "retention.records_days",
        "retention.tasks_days",
        "retention.max_rows",
    }
)
"""Numbers for which 0 means never, or for ever."""


def _check_ranges(values: dict[str, dict[str, Any]], origins: dict[str, str]) -> None:
    for section, keys in values.items():
        for key, value in keys.items():
            name = f"{section}.{key}"
            least = 0 if name in _MAY_BE_ZERO else 1
            if isinstance(value, int) and not isinstance(value, bool) and value < least:
                raise AiwmError(
                    Code.config_invalid,
                    f"{name} is {value}, but must be at least {least} (from {origins[name]})",
                    field=name,
                    fix="a positive number",
                )
