"""`source sync`: a directory's files into the file store; what is there already stays as it is."""

from __future__ import annotations

import hashlib

from engine.contract.definitions import DataSource, SourceType
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.sources import SyncFailure, SyncResult
from engine.tools.filestore import SCHEME
from engine.tools.paths import parts_of
from engine.tools.sources import Sources

_BATCH_BYTES = 32 * 2**20


def sync(sources: Sources, source: DataSource, max_file_bytes: int) -> SyncResult:
    """Copy what changed, by content. A file that cannot be read fails alone; a full store fails what did not fit. Blocks on the disk."""
    if source.type is not SourceType.local_directory:
        raise AiwmError(
            Code.bad_request, f'"{source.name}" is a file store already; only a directory is synced', field="name"
        )
    folder = "/".join(parts_of((source.target or f"{SCHEME}{source.name}").removeprefix(SCHEME), empty=True))
    found, more = sources.files(source)
    copied: list[str] = []
    skipped: list[str] = []
    failed: list[SyncFailure] = []
    batch: dict[str, tuple[bytes, int]] = {}
    held = 0
    names: list[str] = []

    def flush() -> None:
        try:
            sources.store.put(batch)
            copied.extend(names)
        except AiwmError as error:
            failed.extend(SyncFailure(path=name, error=error.info) for name in names)
        batch.clear()
        names.clear()

    for file in found:
        try:
            data = sources.read(source, file.id, max_file_bytes)
        except AiwmError as error:
            failed.append(SyncFailure(path=file.id, error=error.info))
            continue
        path = f"{folder}/{file.id}" if folder else file.id
        known = sources.store.find(path)
        if known is not None and known.sha256 == hashlib.sha256(data).hexdigest():
            skipped.append(file.id)
            continue
        batch[path] = (data, file.modified_ms)
        names.append(file.id)
        held += len(data)
        if held > _BATCH_BYTES:
            flush()
            held = 0
    if batch:
        flush()
    return SyncResult(
        source=source.name,
        target=f"{SCHEME}{folder}",
        copied=copied,
        skipped=skipped,
        failed=failed,
        incomplete=more,
    )
