"""Requests about what data sources hold: their files, one file, and the sync into the file store."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.errors import ErrorInfo
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a source shows. `id` is its path in the source, `digest` its SHA-256 where the store knows it."""

    id: str
    size_bytes: int
    modified_ms: int
    digest: str = ""


class SourceListing(msgspec.Struct, frozen=True, kw_only=True):
    """`more`: there are further files. `problem` says why a source cannot be used ("" when it can)."""

    source: str
    files: list[SourceFile]
    more: bool = False
    problem: str = ""


class SourceFiles(Request[SourceListing], frozen=True, kw_only=True):
    """The files that a data source shows, by path: its globs and its depth applied."""

    method: ClassVar[str] = "source.files"
    effect: ClassVar[Effect] = Effect.read

    name: str
    limit: int = 1000


class FileContent(msgspec.Struct, frozen=True, kw_only=True):
    """A file's content as text; bytes that are no UTF-8 are replaced, and `binary` says so."""

    source: str
    path: str
    size_bytes: int
    text: str
    binary: bool = False


class SourceRead(Request[FileContent], frozen=True, kw_only=True):
    """Read one file of a data source."""

    method: ClassVar[str] = "source.read"
    effect: ClassVar[Effect] = Effect.read

    name: str
    path: str


class SyncFailure(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    error: ErrorInfo


class SyncResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a sync did, file by file. `incomplete`: the source has more files than one sync looks at."""

    source: str
    target: str
    copied: list[str]
    skipped: list[str]
    failed: list[SyncFailure]
    incomplete: bool = False


class SourceSync(Request[SyncResult], frozen=True, kw_only=True):
    """Copy a local directory's new and changed files into the file store, to the source's target or to `fm:/NAME`."""

    method: ClassVar[str] = "source.sync"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("syncDataSource", "aiWorkerGlobalDataSource.sync")

    name: str
