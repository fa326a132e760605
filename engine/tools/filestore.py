"""The file store `fm:/…`: files by path, their contents by SHA-256, in the home. Equal contents are kept once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.tools.paths import Beneath, parts_of

SCHEME = "fm:/"
FOLDER = "filestore"
_INDEX = "index.json"
_MAX_INDEX = 256 * 2**20


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the store. `sha256` is the hex digest of its content, `modified_ms` what its origin said."""

    path: str
    sha256: str
    size: int
    modified_ms: int


class _Index(msgspec.Struct, kw_only=True):
    version: int = 1
    files: list[StoredFile] = []


class FileStore:
    """Blobs and an index that is replaced whole. One engine owns it; methods block on the disk and may be called from any thread.

    `quota_bytes` bounds the contents, each counted once."""

    def __init__(self, home: Path, quota_bytes: int) -> None:
        self._folder = home / FOLDER
        self._quota = quota_bytes
        self._lock = threading.Lock()
        self._read_index: dict[str, StoredFile] | None = None

    def files(self, prefix: str = "") -> list[StoredFile]:
        """The files beneath a folder, by path."""
        with self._lock:
            found = [file for path, file in self._index().items() if not prefix or path.startswith(f"{prefix}/")]
        return sorted(found, key=lambda file: file.path)

    def find(self, path: str) -> StoredFile | None:
        with self._lock:
            return self._index().get(path)

    def read(self, path: str, max_bytes: int) -> bytes:
        """A file's content, checked against its digest. Raises `file_not_found`, `file_too_large`, `file_unreadable`."""
        stored = self.find(path)
        if stored is None:
            raise AiwmError(Code.file_not_found, f"the file store has no {path[:80]!a}", field="path")
        try:
            with Beneath.open(self._folder) as root:
                data = root.read(_blob(stored.sha256), max_bytes)
            sound = hashlib.sha256(data).hexdigest() == stored.sha256
        except AiwmError as error:
            if error.code not in (Code.file_not_found, Code.file_unreadable):
                raise
            sound = False
        if not sound:
            self._forget(stored.sha256)
            raise AiwmError(
                Code.file_unreadable,
                f"the content of {SCHEME}{path} is damaged",
                field="path",
                fix="sync its source again",
            )
        return data

    def _forget(self, digest: str) -> None:
        """A content is not what its name says: the files that had it are gone until they are put again."""
        with self._lock:
            self._read_index = {path: file for path, file in self._index().items() if file.sha256 != digest}

    def put(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Add or replace files: path → (content, modified_ms). All of them or, when that passes the quota, none.

        Contents that no file has any more are removed. Raises `quota_exceeded`."""
        with self._lock:
            index = dict(self._index())
            contents: dict[str, bytes] = {}
            for path, (data, modified_ms) in files.items():
                name = "/".join(parts_of(path))
                digest = hashlib.sha256(data).hexdigest()
                contents[digest] = data
                index[name] = StoredFile(path=name, sha256=digest, size=len(data), modified_ms=modified_ms)
            total = sum({file.sha256: file.size for file in index.values()}.values())
            if total > self._quota:
                raise AiwmError(
                    Code.quota_exceeded,
                    f"the file store would have {total} bytes, more than the {self._quota} allowed",
                    fix="files.store_quota_bytes in config.toml",
                )
            self._write(index, contents)

    def _write(self, index: dict[str, StoredFile], contents: Mapping[str, bytes]) -> None:
        """Contents first, then the index that names them, then what nobody names any more: a crash in between loses nothing."""
        old = {file.sha256 for file in self._index().values()}
        used = {file.sha256 for file in index.values()}
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with Beneath.open(self._folder) as root:
            for digest in contents.keys() - old:
                root.write(_blob(digest), contents[digest])
            document = msgspec.json.encode(_Index(files=list(index.values())))
            root.write(_INDEX, document)
            self._read_index = index
            for digest in old - used:
                root.remove(_blob(digest))

    def _index(self) -> dict[str, StoredFile]:
        if self._read_index is None:
            self._read_index = self._load()
        return self._read_index

    def _load(self) -> dict[str, StoredFile]:
        if not self._folder.is_dir():
            return {}
        with Beneath.open(self._folder) as root:
            try:
                document = root.read(_INDEX, _MAX_INDEX)
            except AiwmError as error:
                if error.code == Code.file_not_found:
                    return {}
                raise
        try:
            return {file.path: file for file in msgspec.json.decode(document, type=_Index).files}
        except NOT_JSON as error:
            raise AiwmError(
                Code.file_unreadable,
                f"the file store's index is damaged: {error}",
                fix=f"move {FOLDER}/{_INDEX} in the home away and sync again",
            ) from None


def _blob(digest: str) -> str:
    return f"blobs/{digest[:2]}/{digest}"
