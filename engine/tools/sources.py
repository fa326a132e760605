"""Data sources: named, guarded places to read from. What they show is decided here: their root, their globs, their recursion."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from engine.contract.definitions import DataSource, SourceType
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.sources import SourceFile
from engine.contract.suggest import nearest
from engine.tools.filestore import SCHEME, FileStore
from engine.tools.paths import Beneath, parts_of

URI = "datasource://"
MAX_LISTED = 10_000


def check_source(source: DataSource, home: Path, external_roots: Sequence[str]) -> None:
    """Refuse a source that could never be used: `definition_invalid` for its structure, `path_violation` where it leaves the home
    without leave. Looks at no disk, but for where the home really lies."""
    if source.type is SourceType.file_store:
        if not source.path.startswith(SCHEME):
            raise _invalid(f'a file store lies at fm:/…, not at "{source.path[:80]}"', "path", 'path = "fm:/reports"')
        parts_of(source.path.removeprefix(SCHEME), empty=True)
    else:
        _place(source, home, external_roots)
    if source.target:
        if not source.target.startswith(SCHEME):
            raise _invalid(f'a sync fills a folder fm:/…, not "{source.target[:80]}"', "target", f'"fm:/{source.name}"')
        parts_of(source.target.removeprefix(SCHEME), empty=True)
    for pattern in source.filters:
        if not pattern or pattern.startswith("/") or ".." in pattern.split("/"):
            raise _invalid(f'"{pattern[:80]}" is no glob of file names', "filters", '"*.md"')


def problem_of(source: DataSource, home: Path, external_roots: Sequence[str]) -> str:
    """Why a source cannot be used now, as one sentence; "" when it can. For screens: nothing is raised."""
    try:
        check_source(source, home, external_roots)
        if source.type is SourceType.local_directory:
            root, rest = _place(source, home, external_roots)
            with Beneath.open(root) as held, held.beneath(rest):
                pass
    except AiwmError as error:
        return error.info.message
    return ""


def parse_uri(uri: str) -> tuple[str, str]:
    """`datasource://name/path` as (name, path). Raises `path_violation`."""
    name, _, path = uri.removeprefix(URI).partition("/")
    if not uri.startswith(URI) or not name:
        raise AiwmError(
            Code.path_violation, f"{uri[:80]!a} is no datasource:// address", field="path", fix=f"{URI}NAME/PATH"
        )
    return name, path


class Sources:
    """Reads data sources. `definitions` gives those in force; roots outside the home come from config.toml alone.

    All methods read the disk: call them in a thread."""

    def __init__(
        self,
        home: Path,
        external_roots: Sequence[str],
        store: FileStore,
        definitions: Callable[[], Mapping[str, DataSource]],
    ) -> None:
        self._home = home
        self._roots = tuple(external_roots)
        self.store = store
        self._definitions = definitions

    def find(self, name: str) -> DataSource:
        """A source by name; `not_found` with the nearest one."""
        known = self._definitions()
        source = known.get(name)
        if source is None:
            raise AiwmError(
                Code.not_found,
                f'data source "{name[:80]}" does not exist',
                field="name",
                fix=nearest(name, known) or "aiwm source list",
            )
        return source

    def problem(self, source: DataSource) -> str:
        """Why it cannot be used now; "" when it can."""
        return problem_of(source, self._home, self._roots)

    def files(self, source: DataSource, most: int = MAX_LISTED) -> tuple[list[SourceFile], bool]:
        """The files that it shows, by path, and whether there are more than `most`."""
        found: list[SourceFile] = []
        for file in self._all_files(source):
            if len(found) == most:
                return found, True
            found.append(file)
        return found, False

    def read(self, source: DataSource, path: str, max_bytes: int) -> bytes:
        """One file's bytes. A file that the source's globs or depth hide is `file_not_found`, as if it were not there."""
        parts = parts_of(path)
        name = "/".join(parts)
        if not self._shows(source, name):
            raise AiwmError(
                Code.file_not_found,
                f'data source "{source.name}" has no {name[:80]!a}',
                field="path",
                fix=f"aiwm source files {source.name}",
            )
        if source.type is SourceType.file_store:
            return self.store.read(_joined(source.path, name), max_bytes)
        with self._opened(source) as root:
            return root.read(path, max_bytes)

    def _opened(self, source: DataSource) -> Beneath:
        """Its directory, held open. The way from the trusted root to it is as guarded as the way beneath it."""
        try:
            check_source(source, self._home, self._roots)
            root, rest = _place(source, self._home, self._roots)
            with Beneath.open(root) as held:
                return held.beneath(rest)
        except AiwmError as error:
            raise AiwmError(
                Code.source_unusable,
                f'data source "{source.name}" cannot be used: {error.info.message}',
                field="source",
                fix=error.info.fix,
            ) from None

    def _all_files(self, source: DataSource) -> Iterator[SourceFile]:
        if source.type is SourceType.file_store:
            prefix = "/".join(parts_of(source.path.removeprefix(SCHEME), empty=True))
            for stored in self.store.files(prefix):
                path = stored.path.removeprefix(prefix).lstrip("/")
                if self._shows(source, path):
                    yield SourceFile(
                        id=path, size_bytes=stored.size, modified_ms=stored.modified_ms, digest=stored.sha256
                    )
            return
        with self._opened(source) as root:
            for entry in root.walk(recursive=source.recursive):
                if self._shows(source, entry.path):
                    yield SourceFile(id=entry.path, size_bytes=entry.size, modified_ms=entry.modified_ms)

    def _shows(self, source: DataSource, path: str) -> bool:
        if "/" in path and not source.recursive:
            return False
        name = path.rpartition("/")[2]
        return not source.filters or any(
            fnmatchcase(path if "/" in pattern else name, pattern) for pattern in source.filters
        )


def _place(source: DataSource, home: Path, external_roots: Sequence[str]) -> tuple[Path, str]:
    """The trusted directory to begin at and the way from there: the home's files/, or a root that config.toml lists."""
    files = home / "files"
    path = source.path
    if not path or "\0" in path:
        raise _invalid("a local directory needs a path", "path", 'path = "reports"')
    if not path.startswith("/"):
        parts_of(path, empty=True)
        return files, path
    lexical = PurePosixPath(path)
    if ".." in lexical.parts:
        raise AiwmError(Code.path_violation, f"the path {path[:80]!a} contains `..`", field="path")
    homes = {home, Path(os.path.realpath(home))}
    for each in homes:
        if lexical.is_relative_to(each / "files"):
            return files, _rest(lexical, each / "files")
    if any(lexical.is_relative_to(each) or each.is_relative_to(lexical) for each in homes):
        # Whatever the configuration lists: the database, the vault and the logs are no data.
        raise AiwmError(
            Code.path_violation,
            f"{path[:80]!a} would show the home itself",
            field="path",
            fix="a directory beneath its files/",
        )
    for root in external_roots:
        if lexical.is_relative_to(root):
            if source.external:
                return Path(root), _rest(lexical, Path(root))
            raise AiwmError(
                Code.path_violation,
                f"{path[:80]!a} lies outside the home and the source is not marked as external",
                field="path",
                fix="external = true",
            )
    raise AiwmError(
        Code.path_violation,
        f"{path[:80]!a} lies outside the home and beneath no directory that config.toml lists",
        field="path",
        fix="[security] external_roots in config.toml, then restart the engine",
    )


def _rest(path: PurePosixPath, root: Path) -> str:
    return "/".join(path.relative_to(root).parts)


def _joined(folder: str, name: str) -> str:
    prefix = "/".join(parts_of(folder.removeprefix(SCHEME), empty=True))
    return f"{prefix}/{name}" if prefix else name


def _invalid(message: str, field: str, fix: str | None = None) -> AiwmError:
    return AiwmError(Code.definition_invalid, message, field=field, fix=fix)
