"""Safe paths: whoever gets a path from a task, a model or a stranger opens it here, beneath a directory that is held open.

A path is never checked and then opened: each step is opened relative to the one before, without following symbolic links, and what
was opened is looked at. Linux does it in one call (openat2 with RESOLVE_BENEATH); elsewhere, and in containers that forbid that call,
the same is done component by component. Symbolic links beneath a root are refused, not followed: both ways then agree."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn, Self

from engine.contract.errors import AiwmError, Code
from engine.tools.openat2 import openat2, openat2_works

MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_DEPTH = 64
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


class Entry(NamedTuple):
    """What lies in a directory. `kind` is file, directory, or other (links, devices, pipes: there, but not to be opened)."""

    path: str
    kind: str
    size: int
    modified_ms: int


def parts_of(path: str, *, empty: bool = False) -> tuple[str, ...]:
    """The components of a relative path as it may come from anyone. Raises `path_violation` for whatever could lead out of a root or
    deceive a reader: absolute paths, `..`, control characters, characters that normalise to dots or slashes, too long ones.

    `empty` allows a path without components: the root itself."""
    if path.startswith("/"):
        _refuse(path, "is absolute", "give a path relative to the source")
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        _refuse(path, "is not valid Unicode")
    if len(encoded) > MAX_PATH_BYTES:
        _refuse(path, f"has {len(encoded)} bytes, more than {MAX_PATH_BYTES}")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if len(parts) > MAX_DEPTH:
        _refuse(path, f"is more than {MAX_DEPTH} directories deep")
    for part in parts:
        _check_part(path, part)
    if not parts and not empty:
        _refuse(path, "names no file")
    return parts


def parts_of_file(path: str) -> tuple[str, ...]:
    """The same for a path that must name a file."""
    if path.endswith("/"):
        _refuse(path, "ends with a slash, so it is no file")
    return parts_of(path)


def _check_part(path: str, part: str) -> None:
    if part == "..":
        _refuse(path, "contains `..`")
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in part):
        _refuse(path, "contains a control or invisible character")
    # File systems and programs that normalise names would read these as the characters that they look like.
    plain = unicodedata.normalize("NFKC", part)
    if "/" in plain or "\\" in part or "\\" in plain or plain.strip() in ("", ".", ".."):
        _refuse(path, "contains a character that stands for a dot or a slash")
    if len(part.encode()) > MAX_NAME_BYTES:
        _refuse(path, f"has a name of more than {MAX_NAME_BYTES} bytes")


class Beneath:
    """A directory held open, and the only way to what lies beneath it. Closing it ends all access. May be used from any thread.

    `kernel` chooses the way: openat2, or component by component. All methods raise AiwmErrors and never block on a pipe or device."""

    def __init__(self, fd: int, *, kernel: bool | None = None) -> None:
        self._fd = fd
        self._kernel = openat2_works() if kernel is None else kernel

    @classmethod
    def open(cls, root: Path, *, kernel: bool | None = None) -> Self:
        """Hold a directory whose path is trusted (the home, a root from config.toml). Raises `file_not_found`."""
        try:
            return cls(os.open(root, _DIRECTORY | os.O_CLOEXEC), kernel=kernel)
        except OSError as error:
            raise AiwmError(Code.file_not_found, f"{root} cannot be opened: {error.strerror}", field="path") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def beneath(self, path: str, *, make: bool = False) -> Beneath:
        """A directory beneath this one as a root of its own; `make` creates what is missing (mode 0700)."""
        parts = parts_of(path, empty=True)
        if make:
            return Beneath(self._make(path, parts), kernel=self._kernel)
        return Beneath(self._open(path, parts, _DIRECTORY), kernel=self._kernel)

    def read(self, path: str, max_bytes: int) -> bytes:
        """A regular file's bytes. Raises `file_too_large`, `file_not_found`, `path_violation`, `file_unreadable`."""
        fd = self.open_file(path)
        try:
            size = os.fstat(fd).st_size
            data = bytearray()
            while size <= max_bytes and len(data) <= max_bytes:
                piece = os.read(fd, min(1 << 20, max_bytes + 1 - len(data)))
                if not piece:
                    return bytes(data)
                data += piece
        except OSError as error:
            _failed(path, error)
        finally:
            os.close(fd)
        raise AiwmError(
            Code.file_too_large, f"{_quoted(path)} has more than the {max_bytes} bytes allowed", field="path"
        )

    def open_file(self, path: str) -> int:
        """A descriptor of a regular file, for reading; the caller closes it."""
        fd = self._open(path, parts_of_file(path), _READ)
        # Only now is it known what was opened. Non-blocking, so a pipe without a writer has not held us up.
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise AiwmError(Code.file_unreadable, f"{_quoted(path)} is not a regular file", field="path")
        return fd

    def entries(self, path: str = "") -> list[Entry]:
        """What lies in a directory, by name. Names that no request could spell are left out."""
        fd = self._open(path, parts_of(path, empty=True), _DIRECTORY)
        prefix = "/".join(parts_of(path, empty=True))
        try:
            return _entries(fd, prefix)
        finally:
            os.close(fd)

    def walk(self, *, recursive: bool, most: int = 100_000) -> Iterator[Entry]:
        """The files (only regular ones) of the root, and with `recursive` those of all directories beneath it, in order.

        Ends after `most` entries were looked at. Directories that vanish or cannot be read meanwhile are left out."""
        waiting = [""]
        seen = 0
        while waiting:
            try:
                found = self.entries(waiting.pop())
            except AiwmError:
                continue
            deeper = []
            for entry in found:
                seen += 1
                if seen > most:
                    return
                if entry.kind == "file":
                    yield entry
                elif entry.kind == "directory" and recursive and entry.path.count("/") < MAX_DEPTH - 1:
                    deeper.append(entry.path)
            waiting += reversed(deeper)

    def write(self, path: str, data: bytes) -> None:
        """Write a whole file, all or nothing: directories are made, an old file is replaced, never written through (so neither a link
        nor a second name of a file outside is ever followed)."""
        *folder, name = parts_of_file(path)
        directory = self._make(path, tuple(folder))
        temporary = f".aiwm-{os.getpid()}-{os.urandom(6).hex()}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
            try:
                _write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            _unlink(temporary, directory)
            _failed(path, error)
        finally:
            os.close(directory)

    def remove(self, path: str) -> None:
        """Remove a file; nothing happens when there is none."""
        *folder, name = parts_of(path)
        try:
            directory = self._open(path, tuple(folder), _DIRECTORY)
        except AiwmError as error:
            if error.code == Code.file_not_found:
                return
            raise
        try:
            _unlink(name, directory)
        finally:
            os.close(directory)

    # -- opening -----------------------------------------------------------------------------------------------------

    def _open(self, path: str, parts: tuple[str, ...], flags: int) -> int:
        if self._fd < 0:
            raise AiwmError(Code.internal, "this directory has been closed")
        try:
            if not parts:
                return os.open(".", flags | os.O_CLOEXEC, dir_fd=self._fd)
            if self._kernel:
                return openat2("/".join(parts), flags, self._fd)
            return self._open_stepwise(parts, flags)
        except OSError as error:
            _failed(path, error)

    def _open_stepwise(self, parts: tuple[str, ...], flags: int) -> int:
        here = self._fd
        try:
            for part in parts[:-1]:
                deeper = _step(part, here)
                if here != self._fd:
                    os.close(here)
                here = deeper
            if flags & os.O_DIRECTORY:
                return _step(parts[-1], here)
            return os.open(parts[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        finally:
            if here != self._fd:
                os.close(here)

    def _make(self, path: str, parts: tuple[str, ...]) -> int:
        """A descriptor of a directory, made where it is missing, one step at a time."""
        here = self._open(path, (), _DIRECTORY)
        try:
            for part in parts:
                try:
                    os.mkdir(part, 0o700, dir_fd=here)
                except FileExistsError:
                    pass
                deeper = _step(part, here)
                os.close(here)
                here = deeper
        except OSError as error:
            os.close(here)
            _failed(path, error)
        return here


def _step(name: str, directory: int) -> int:
    """One directory further. The system calls a link that it does not follow no directory; we call it what it is."""
    try:
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
        raise


def _entries(fd: int, prefix: str) -> list[Entry]:
    found = []
    with os.scandir(fd) as listing:
        for item in listing:
            path = f"{prefix}/{item.name}" if prefix else item.name
            try:
                parts_of(path)
                status = item.stat(follow_symlinks=False)
            except (AiwmError, OSError):
                continue
            is_file, is_directory = stat.S_ISREG(status.st_mode), stat.S_ISDIR(status.st_mode)
            kind = "file" if is_file else "directory" if is_directory else "other"
            found.append(Entry(path, kind, status.st_size if is_file else 0, status.st_mtime_ns // 1_000_000))
    return sorted(found)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        pass


_OUTSIDE = frozenset({errno.EXDEV, errno.ELOOP, errno.EMLINK})


def _failed(path: str, error: OSError) -> NoReturn:
    """The system's refusal in our words."""
    if error.errno in _OUTSIDE:
        _refuse(path, "leads through a symbolic link or out of its directory")
    if error.errno == errno.ENOENT:
        raise AiwmError(Code.file_not_found, f"there is no {_quoted(path)}", field="path") from None
    if error.errno == errno.ENAMETOOLONG:
        _refuse(path, "is too long")
    raise AiwmError(Code.file_unreadable, f"{_quoted(path)}: {error.strerror}", field="path") from None


def _refuse(path: str, why: str, fix: str | None = None) -> NoReturn:
    raise AiwmError(
        Code.path_violation,
        f"the path {_quoted(path)} {why}",
        field="path",
        fix=fix or "name a file beneath the directory",
    )


def _quoted(path: str) -> str:
    return ascii(path[:80])
