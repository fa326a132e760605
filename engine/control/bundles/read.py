"""From bytes to a document: a bundle's text, or the files of a home that the seeds name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code

WORKERS_FILE = "ai_worker_definitions.json"
FILES = {
    "sources": "ai_global_data_source_definitions.json",
    "workers": WORKERS_FILE,
    "pools": "ai_worker_pool_definitions.json",
    "queues": "ai_work_queue_definitions.json",
    "templates": "ai_work_item_definitions.json",
}
"""The list of a bundle that each file of a home holds. The seeds' other two files (performance data, lessons) define nothing."""


def read_text(text: bytes | str, what: str = "the bundle") -> Any:
    """Parsed JSON. Raises `definition_invalid` saying at which line the mistake is."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        return msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except NOT_JSON as error:
        raise AiwmError(
            Code.definition_invalid, f"{what} is not JSON: {error}{_line(data, str(error))}", fix="correct it there"
        ) from None


def read_document(text: bytes | str, what: str = "the bundle") -> dict[str, Any]:
    """A bundle's document. Raises `definition_invalid`."""
    document = read_text(text, what)
    if not isinstance(document, dict):
        raise AiwmError(
            Code.definition_invalid,
            f"{what} must be a JSON object",
            fix='{"workers": […], "pools": […], "queues": […]}',
        )
    return document


def read_list(path: Path, key: str) -> dict[str, Any]:
    """The document of a file that holds definitions of one kind: a bare list, or an object with that list. Raises
    `definition_invalid`."""
    try:
        document = read_text(path.read_bytes(), path.name)
    except OSError as error:
        raise AiwmError(
            Code.definition_invalid, f"{path.name} cannot be read: {error.strerror}", fix="aiwm bundle export"
        ) from None
    if isinstance(document, list):
        return {key: document}
    if not isinstance(document, dict):
        raise AiwmError(
            Code.definition_invalid,
            f'{path.name} must be a list, or an object with a list "{key}"',
            field=key,
            fix=f'{{"{key}": […]}}',
        )
    return document


def read_home(home: Path) -> dict[str, Any]:
    """One document of all files of a home that are there. Raises `definition_invalid`, also when none is."""
    document: dict[str, Any] = {}
    for key, name in FILES.items():
        if (home / name).exists():
            document |= read_list(home / name, key)
    if not document:
        names = ", ".join(FILES.values())
        raise AiwmError(Code.definition_invalid, f"{home} has none of the files {names}", fix="aiwm bundle load FILE")
    return document


def _line(data: bytes, message: str) -> str:
    """Where the byte that a decoder's message names is, as ` (line 3)`."""
    _, found, rest = message.rpartition("byte ")
    number = rest.rstrip(")").strip()
    return f" (line {data[: int(number)].count(10) + 1})" if found and number.isdigit() else ""
