"""What lies on disk: adapters' directories, read as far as they changed since they were last looked at. Everything here may block."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.inference.adapter_files import CONFIG_FILE, WEIGHTS_FILE, adapter_digest
from engine.inference.adapters.facts import MANIFEST_FILE, read_facts
from engine.inference.adapters.spelling import spelled
from engine.inference.adapters.versions import Found, Source

_FILES = (CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE)


class Place(msgspec.Struct, frozen=True):
    """A directory that is, or is meant to be, an adapter. `number` is None for one whose name has none."""

    path: str
    name: str
    source: Source
    number: int | None = None


def marks_of(path: str) -> tuple[int, ...]:
    """What changes when an adapter's files change: their times, sizes and inodes. Empty when there are none."""
    marks: list[int] = []
    for name in _FILES:
        try:
            stat = os.stat(f"{path}/{name}")
            marks += (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            marks += (0, 0, 0)
    return tuple(marks) if any(marks) else ()


def places_in(folder: Path, source: Source) -> list[Place]:
    """The directories of a folder that are named like adapters."""
    try:
        entries = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return []
    found = []
    for entry in entries:
        spelling = spelled(entry)
        if spelling is not None:
            found.append(Place(str(folder / entry), spelling.name, source, spelling.version))
    # Numbers that are written down are taken before others are given.
    return sorted(found, key=lambda it: (it.number is None, it.number or 0))


Digests = Mapping[str, tuple[tuple[int, ...], str]]
"""By path: the marks of files, and the digest that they had then."""


def look(places: Iterable[Place], known: Mapping[str, Found], digests: Digests) -> list[Found]:
    """What lies in each place now. One that has not changed since `known` (by path) is not read again; of one that an earlier engine has
    read only the header is, for reading a library of many gigabytes at each start would take a minute."""
    found = []
    for place in places:
        before, marks = known.get(place.path), marks_of(place.path)
        if before is None or before.marks != marks:
            kept_marks, kept = digests.get(place.path, ((), ""))
            before = read(place, marks, kept if kept_marks == marks else "")
        found.append(before)
    return found


def read(place: Place, marks: tuple[int, ...], digest: str = "") -> Found:
    """One directory whole: its facts and the digest of its content (unless that is known), or its problem. Never raises: whoever may
    write there must not be able to stop the looking."""
    it = Found(path=place.path, name=place.name, source=place.source, number=place.number, marks=marks)
    directory = Path(place.path)
    try:
        facts = read_facts(directory)
        return msgspec.structs.replace(it, digest=digest or adapter_digest(directory), facts=facts)
    except AiwmError as error:
        return msgspec.structs.replace(it, digest=_digest_of_refused(directory), problem=error.info)
    except (OSError, RecursionError) as error:
        why = "its JSON is nested too deeply" if isinstance(error, RecursionError) else error.strerror or str(error)
        message = f"adapter {directory} cannot be read: {why}"
        return msgspec.structs.replace(it, problem=ErrorInfo(code=Code.adapter_invalid, message=message))


def _digest_of_refused(directory: Path) -> str:
    """The digest of what is refused for what it asks for, so that it can be told apart; empty where its files are no files."""
    try:
        whole = all((directory / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE))
        return adapter_digest(directory) if whole else ""
    except (AiwmError, OSError):
        return ""
