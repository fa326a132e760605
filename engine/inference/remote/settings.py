"""The [remote] section of config.toml, in the units that this room uses."""

from __future__ import annotations

import msgspec

from engine.config import RemoteConfig
from engine.inference.remote.connection import Timeouts


class RemoteSettings(msgspec.Struct, frozen=True):
    """`backoff_ms` to `max_backoff_ms` are the rests after trouble, `most_wait_ms` bounds what a server may ask for; `hybrid_wait` s
    without a word send a hybrid model on."""

    timeouts: Timeouts
    backoff_ms: int
    max_backoff_ms: int
    most_wait_ms: int
    hybrid_wait: float

    @classmethod
    def of(cls, config: RemoteConfig) -> RemoteSettings:
        return cls(
            Timeouts(
                config.connect_timeout_ms / 1000, config.first_byte_timeout_ms / 1000, config.idle_timeout_ms / 1000
            ),
            config.backoff_ms,
            config.max_backoff_ms,
            config.max_retry_after_ms,
            config.hybrid_wait_ms / 1000,
        )
