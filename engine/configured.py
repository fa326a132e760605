"""What the configuration says, in the words of the rooms."""

from __future__ import annotations

import os
from collections.abc import Mapping

from engine.config import KeyConfig, KeyMethod, ModelsConfig, NotifyConfig
from engine.contract.errors import AiwmError, Code
from engine.inference.commands.server import ServerSettings
from engine.inference.settings import ProcessSettings
from engine.inference.supervision import Policy
from engine.notify import Tell, by_command, by_webhook


def process_settings(models: ModelsConfig) -> ProcessSettings:
    return ProcessSettings(
        slots=models.slots,
        context=models.context,
        depth=models.depth,
        replicas=min(models.replicas, max(2, os.cpu_count() or 2)),
        idle=models.idle_ms / 1000,
        start_timeout=models.start_timeout_ms / 1000,
        hang_timeout=models.hang_timeout_ms / 1000,
        policy=Policy(models.backoff_ms / 1000, models.max_backoff_ms / 1000, models.max_restarts),
    )


def server_settings(models: ModelsConfig, keys: Mapping[str, KeyConfig]) -> ServerSettings:
    """Programs that are not ours get none of the API keys."""
    return ServerSettings(
        hidden=frozenset(key.value for key in keys.values() if key.method is KeyMethod.env),
        slots=models.slots,
        start_timeout=models.server_timeout_ms / 1000,
        hang_timeout=models.hang_timeout_ms / 1000,
        policy=Policy(models.backoff_ms / 1000, models.max_backoff_ms / 1000, models.max_restarts),
    )


def notify_ways(notify: NotifyConfig) -> list[Tell]:
    """The ways to notify that are configured. Raises `config_invalid` for an address that is none."""
    ways: list[Tell] = []
    if notify.command:
        ways.append(by_command(notify.command))
    if notify.webhook:
        if not notify.webhook.startswith(("http://", "https://")):
            message = "notify.webhook must be an http or https address"
            raise AiwmError(Code.config_invalid, message, field="notify.webhook", fix="https://…")
        ways.append(by_webhook(notify.webhook))
    return ways
