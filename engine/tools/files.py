"""The file tools: reading, listing and searching what a task may see, writing into its own area. All of it blocks on the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.tools.catalogue import ListFiles, ReadFile, SearchFiles, WriteFile
from engine.tools.paths import Beneath, parts_of, parts_of_file
from engine.tools.sources import URI, Sources, parse_uri

AREAS = ("tasks", "workers")
"""Folders of the home's files/ in which areas lie: one a task, one a definition (for what it does without a task)."""

_MOST_SEARCHED = 2_000
_MOST_HITS = 100
_LINE = 300


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What one caller may see: data sources by name, in the order in which a bare path is looked for, and its area beneath files/."""

    sources: tuple[str, ...]
    area: str


class FileTools:
    """Performs the file tools. `quota_bytes` bounds what lies in all areas together, `max_file_bytes` one file."""

    def __init__(self, home: Path, sources: Sources, *, max_file_bytes: int, quota_bytes: int) -> None:
        self._files = home / "files"
        self._sources = sources
        self._max_file_bytes = max_file_bytes
        self._quota = quota_bytes
        self._lock = threading.Lock()
        self._used: int | None = None

    def perform(self, view: View, arguments: msgspec.Struct) -> str:
        """Do what the arguments' class says; the answer as text. Raises AiwmError."""
        match arguments:
            case ReadFile():
                return self.read(view, arguments.path)
            case ListFiles():
                return "\n".join(self._listed(view, arguments.path)) or "no files"
            case SearchFiles():
                return self.search(view, arguments.query, arguments.path)
            case WriteFile():
                return self.write(view, arguments.path, arguments.content)
        raise TypeError(type(arguments).__name__)

    def read(self, view: View, path: str) -> str:
        return _text(path, self._bytes(view, path))

    def _bytes(self, view: View, path: str) -> bytes:
        if path.startswith(URI):
            name, rest = parse_uri(path)
            return self._read_source(_permitted(view, name), rest)
        parts_of(path)
        for name in ("", *view.sources):
            try:
                return self._read_source(name, path) if name else self._read_area(view, path)
            except AiwmError as error:
                if error.code not in (Code.file_not_found, Code.source_unusable, Code.not_found):
                    raise
        raise AiwmError(Code.file_not_found, f"there is no file {path[:80]!a}", field="path", fix="list_files")

    def _read_source(self, name: str, path: str) -> bytes:
        return self._sources.read(self._sources.find(name), path, self._max_file_bytes)

    def _read_area(self, view: View, path: str) -> bytes:
        with self._area(view) as area:
            if area is None:
                raise AiwmError(Code.file_not_found, "nothing was written yet", field="path")
            return area.read(path, self._max_file_bytes)

    def _listed(self, view: View, path: str, most: int = 500) -> list[str]:
        """Addresses that `read` takes, own files first."""
        found: list[str] = []
        for address in self._addresses(view, path):
            if len(found) == most:
                return [*found, f"… and more: only the first {most} are listed"]
            found.append(address)
        return found

    def _addresses(self, view: View, path: str) -> Iterator[str]:
        names, folder = view.sources, path
        if path.startswith(URI):
            name, folder = parse_uri(path if "/" in path.removeprefix(URI) else f"{path}/")
            names = (_permitted(view, name),)
        prefix = "/".join(parts_of(folder, empty=True))
        if not path.startswith(URI):
            with self._area(view) as area:
                own = [] if area is None else list(area.walk(recursive=True))
            yield from (entry.path for entry in own if _beneath(entry.path, prefix))
        for name in names:
            try:
                files, _ = self._sources.files(self._sources.find(name))
            except AiwmError:
                if path.startswith(URI):
                    raise
                continue
            yield from (f"{URI}{name}/{file.id}" for file in files if _beneath(file.id, prefix))

    def search(self, view: View, query: str, path: str) -> str:
        """`address:line: text` of each line that contains the query. Files that are no text, or too large, are passed over."""
        if not query.strip():
            raise AiwmError(Code.tool_arguments, "query is empty", field="query")
        wanted = query.casefold()
        hits: list[str] = []
        for count, address in enumerate(self._addresses(view, path)):
            if count == _MOST_SEARCHED:
                return "\n".join([*hits, f"… only the first {_MOST_SEARCHED} files were searched"])
            try:
                text = self.read(view, address)
            except AiwmError:
                continue
            for number, line in enumerate(text.splitlines(), 1):
                if wanted in line.casefold():
                    hits.append(f"{address}:{number}: {line.strip()[:_LINE]}")
                    if len(hits) == _MOST_HITS:
                        return "\n".join([*hits, f"… only the first {_MOST_HITS} lines"])
        return "\n".join(hits) or f"no line contains {query[:80]!a}"

    def write(self, view: View, path: str, content: str) -> str:
        if ":" in path.split("/", 1)[0]:
            raise AiwmError(
                Code.path_violation,
                f"{path[:80]!a}: only a task's own files are written, never a data source or an address",
                field="path",
                fix="a relative path, such as report.txt",
            )
        try:
            data = content.encode()
        except UnicodeEncodeError:
            raise AiwmError(Code.tool_arguments, "content is not valid Unicode", field="content") from None
        if len(data) > self._max_file_bytes:
            raise AiwmError(
                Code.file_too_large,
                f"content has {len(data)} bytes, more than the {self._max_file_bytes} allowed",
                field="content",
            )
        parts_of_file(path)
        with self._lock:
            self._make_room(len(data))
            with Beneath.open(self._files) as files, files.beneath(view.area, make=True) as area:
                area.write(path, data)
            self._used = (self._used or 0) + len(data)
        return f"wrote {len(data)} bytes to {path}"

    def _make_room(self, more: int) -> None:
        """Refuse what would pass the quota. What was written is added up; only near the limit is it counted again on the disk, because
        files were replaced, or removed by someone else."""
        if self._used is None or self._used + more > self._quota:
            self._used = self._counted()
        if self._used + more > self._quota:
            raise AiwmError(
                Code.quota_exceeded,
                f"tasks have written {self._used} bytes, and may write {self._quota} in all",
                fix="remove what is not needed beneath files/ in the home, or raise files.area_quota_bytes",
            )

    def _counted(self) -> int:
        total = 0
        with Beneath.open(self._files) as files:
            for folder in AREAS:
                try:
                    with files.beneath(folder) as root:
                        total += sum(entry.size for entry in root.walk(recursive=True, most=1_000_000))
                except AiwmError:
                    continue
        return total

    @contextmanager
    def _area(self, view: View) -> Iterator[Beneath | None]:
        """The caller's area, for reading; None while nothing was written there."""
        with Beneath.open(self._files) as files:
            try:
                area = files.beneath(view.area)
            except AiwmError as error:
                if error.code != Code.file_not_found:
                    raise
                yield None
                return
        with area:
            yield area


def _permitted(view: View, name: str) -> str:
    if name not in view.sources:
        raise AiwmError(
            Code.denied,
            f"the data source {name[:64]!a} is not among those of this task",
            field="path",
            fix=f"its sources: {', '.join(view.sources)}" if view.sources else "it has no sources",
        )
    return name


def _beneath(path: str, prefix: str) -> bool:
    return not prefix or path == prefix or path.startswith(f"{prefix}/")


def _text(path: str, data: bytes) -> str:
    if b"\0" in data[:8192]:
        raise AiwmError(
            Code.file_unreadable, f"{path[:80]!a} is no text: {len(data)} bytes of something else", field="path"
        )
    return data.decode("utf-8", "replace")
