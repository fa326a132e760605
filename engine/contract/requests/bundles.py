"""Requests about bundles: definitions of all kinds as one document."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from engine.contract.errors import Code, ErrorInfo
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class LoadPolicy(StrEnum):
    """What becomes of a bundle in which something is wrong: nothing of it, or what is right in it. The seeds' words are understood."""

    fail_fast = "fail-fast"
    load_valid = "load-valid"

    @classmethod
    def _missing_(cls, value: object) -> LoadPolicy | None:
        return {"FailFastOnError": cls.fail_fast, "LoadValidAndReportErrors": cls.load_valid}.get(str(value))


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something in a bundle that is wrong, or that one should know. `field` is its place in the document, such as `pools[2].max_total`;
    kind and name are those of the definition, empty when it is about the document."""

    kind: str
    name: str
    field: str
    message: str
    fix: str | None = None

    def info(self) -> ErrorInfo:
        text = f"{self.field}: {self.message}" if self.field else self.message
        return ErrorInfo(code=Code.definition_invalid, message=text, field=self.field or None, fix=self.fix)


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a definition that changes; `retry.delay_ms` is one inside another."""

    field: str
    before: Any
    after: Any


class ChangedItem(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    fields: list[FieldChange]


class KindDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What changes among the definitions of one kind."""

    kind: str
    added: list[str]
    changed: list[ChangedItem]
    removed: list[str]
    unchanged: int


class BundleReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle changes, or would: one entry a kind. `loaded` says whether it is in force; with errors it is only under load-valid.
    `counts` are the definitions in force after it."""

    policy: str
    loaded: bool
    changes: list[KindDiff]
    counts: dict[str, int]
    errors: list[Problem] = []
    warnings: list[Problem] = []


class BundleLoad(Request[BundleReport], frozen=True, kw_only=True):
    """Put the definitions of a bundle in force: all at once, or nothing. Worker definitions replace the whole set, the others are added
    or replaced by name; a `complete` bundle (an export) replaces every kind, unless `keep_others` keeps what it does not have.

    `bundle` is the JSON document; without one the seven files in the home are read. `policy` goes before the one that is set."""

    method: ClassVar[str] = "bundle.load"
    effect: ClassVar[Effect] = Effect.destructive
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerManager.loadConfigBundleFromString",)
    unlogged: ClassVar[tuple[str, ...]] = ("bundle",)

    bundle: str | None = None
    policy: str | None = None
    keep_others: bool = False


class BundleDiff(Request[BundleReport], frozen=True, kw_only=True):
    """What a load of this bundle would change, before it does: per kind what is added, changed field by field, removed, unchanged."""

    method: ClassVar[str] = "bundle.diff"
    effect: ClassVar[Effect] = Effect.read

    bundle: str | None = None
    policy: str | None = None
    keep_others: bool = False


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in force as one document, and how many definitions of each kind it has."""

    bundle: dict[str, Any]
    counts: dict[str, int]


class BundleExport(Request[Exported], frozen=True, kw_only=True):
    """All definitions in force as one bundle. Loaded into an empty home it gives the same state."""

    method: ClassVar[str] = "bundle.export"
    effect: ClassVar[Effect] = Effect.read


class BundleSchema(Request[dict[str, Any]], frozen=True, kw_only=True):
    """The JSON Schema of a bundle, in all the spellings that are understood: for editors and generators."""

    method: ClassVar[str] = "bundle.schema"
    effect: ClassVar[Effect] = Effect.read


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    policy: str


class BundlePolicy(Request[Policy], frozen=True, kw_only=True):
    """What becomes of a bundle with mistakes when a load does not say: fail-fast or load-valid."""

    method: ClassVar[str] = "bundle.policy"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerManager.getConfigLoadPolicy",)


class BundleSetPolicy(Request[Policy], frozen=True, kw_only=True):
    """Set what becomes of bundles with mistakes; kept over restarts."""

    method: ClassVar[str] = "bundle.setpolicy"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerManager.setConfigLoadPolicy",)

    policy: str
