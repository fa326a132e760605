"""Requests about API keys: which there are, whether they are found, who uses them. None of them carries a key."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from engine.contract.records import Record
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class KeyStatus(StrEnum):
    """Whether a key is there. `unknown`: not looked for yet; `error`: looking for it failed."""

    unknown = "Unknown"
    found = "Found"
    not_found = "Not Found"
    not_configured = "Not Configured"
    error = "Error Resolving"


class KeyRow(Record, frozen=True, kw_only=True):
    """An API key by its name. `workers` are the definitions that name it, `note` says what is wrong, or what to mind."""

    method: str
    status: str
    hosts: tuple[str, ...]
    workers: tuple[str, ...]
    note: str = ""


class KeyList(Request[list[KeyRow]], frozen=True, kw_only=True):
    """The API keys of config.toml and those that definitions name. A vault that was not opened yet is `Unknown`."""

    method: ClassVar[str] = "key.list"
    effect: ClassVar[Effect] = Effect.read


class KeyCheck(Request[KeyRow], frozen=True, kw_only=True):
    """Look for one API key now, in the vault too."""

    method: ClassVar[str] = "key.check"
    effect: ClassVar[Effect] = Effect.read

    name: str
