"""Failures by their fingerprint: what is alike is one line with a count, whatever ids, numbers, paths or quoted text it names."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from functools import lru_cache

import msgspec

from engine.contract.errors import Code, ErrorInfo
from engine.contract.ids import task_id
from engine.contract.records.operations import FailureRow
from engine.store import ops
from engine.store.readers import Readers

KIND = "failure"
SAMPLES = 8
_CACHED = 512
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# In this order: text in quotes may hold anything, a path holds numbers, an id is more than its digits.
_VARIABLE = (
    (re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|“[^”]*”"), "“…”"),
    (re.compile(r"(?<![\w.])(?:~|\.{1,2})?(?:/[^\s/:,;)\]]+)+/?"), "/…"),
    (re.compile(r"\b(?:t|i|op|F|c|ap|p)-[0-9a-z]{1,12}\b"), "#"),
    (
        re.compile(
            r"\b0x[0-9a-fA-F]+\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b"
        ),
        "#",
    ),
    (re.compile(r"-?\d+(?:[.,:]\d+)*(?:[eE][+-]?\d+)?"), "0"),
    (re.compile(r"\s+"), " "),
)
_FIXES = {
    Code.payload_invalid: "aiwm task retry {task} --set KEY=VALUE",
    Code.prompt_too_long: "aiwm task retry {task} --set prompt=…",
    Code.context_full: "aiwm task retry {task} --set prompt=…",
    Code.output_not_json: "aiwm task retry {task} --set max_tokens=…",
    Code.schema_unsupported: "aiwm task retry {task} --set schema=…",
    Code.model_crashed: "aiwm task retry {task}",
    Code.model_unavailable: "aiwm model list",
    Code.model_not_found: "aiwm model list",
    Code.adapter_not_found: "aiwm task retry {task} --adapter NAME",
    Code.adapter_invalid: "aiwm task retry {task} --adapter NAME",
    Code.adapter_unsupported: "aiwm task retry {task} --adapter NAME",
}


def normalised(message: str) -> str:
    """A message without what differs between failures alike: quoted text, paths, ids, numbers."""
    text = message[:2_000]
    for pattern, word in _VARIABLE:
        text = pattern.sub(word, text)
    return text.strip().lower()


@lru_cache(maxsize=4_096)
def fingerprint(code: str, message: str, definition: str | None) -> str:
    """`F-` and six characters: equal for failures of one definition with the same code and, normalised, the same message."""
    digest = hashlib.sha256("\0".join((code, normalised(message), definition or "")).encode()).digest()
    number = int.from_bytes(digest[:4], "big")
    return "F-" + "".join(_ALPHABET[number >> shift & 31] for shift in range(25, -1, -5))


def whole(error: ErrorInfo, seq: int) -> ErrorInfo:
    """The error with a command that helps, if it came without one."""
    if error.fix:
        return error
    known = _FIXES.get(Code(error.code)) if error.code in Code.__members__ else None
    form = known or ("aiwm task retry {task}" if error.retryable else "aiwm task show {task}")
    return msgspec.structs.replace(error, fix=form.format(task=task_id(seq)))


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of failures alike. `tasks` are the last few, the newest first."""

    code: str
    message: str
    first_ms: int
    last_ms: int
    count: int
    tasks: tuple[str, ...]
    definition: str | None = None
    queue: str | None = None
    retryable: bool = False
    fix: str | None = None
    stderr: tuple[str, ...] = ()

    def row(self, identifier: str) -> FailureRow:
        return FailureRow(
            id=identifier,
            code=self.code,
            message=self.message,
            count=self.count,
            first_ms=self.first_ms,
            last_ms=self.last_ms,
            definition=self.definition,
            queue=self.queue,
            task=self.tasks[0] if self.tasks else None,
            retryable=self.retryable,
            fix=f"aiwm task retry --where 'fail:{identifier}' --canary 1",
        )


class Failures:
    """Counts failures as they happen. What is kept is written in the same transaction as the end that it is about."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._recent: OrderedDict[str, Failure] = OrderedDict()

    def note(
        self, seq: int, queue: str, definition: str | None, error: ErrorInfo, now_ms: int
    ) -> tuple[str, tuple[ops.Op, ...]]:
        """A task fails for good: its fingerprint, and what its entry must write with it. The first of its kind is an event of its own."""
        identifier = fingerprint(error.code, error.message, definition)
        before = self._known(identifier)
        task = task_id(seq)
        after = Failure(
            code=error.code,
            message=error.message[:500],
            first_ms=now_ms if before is None else before.first_ms,
            last_ms=now_ms,
            count=1 if before is None else before.count + 1,
            tasks=(task,) if before is None else (task, *(it for it in before.tasks if it != task))[:SAMPLES],
            definition=definition,
            queue=queue,
            retryable=error.retryable,
            fix=error.fix,
            stderr=error.stderr[-20:],
        )
        self._recent[identifier] = after
        self._recent.move_to_end(identifier)
        if len(self._recent) > _CACHED:
            self._recent.popitem(last=False)
        put = ops.PutDocument(KIND, identifier, definition or "", now_ms, msgspec.json.encode(after))
        if before is not None:
            return identifier, (put,)
        text = f"{error.code}: {error.message}"[:300]
        first = ops.AppendEvent(
            at_ms=now_ms, level="warn", type="failure.first", who="engine", about=identifier, text=text, task_seq=seq
        )
        return identifier, (put, first)

    def forget(self) -> None:
        """Storage failed: what was counted last may not be on disk, so it is read again."""
        self._recent.clear()

    def _known(self, identifier: str) -> Failure | None:
        known = self._recent.get(identifier)
        return known if known is not None else self.find(identifier)

    def find(self, identifier: str) -> Failure | None:
        """What is stored of a fingerprint."""
        return kept(self._readers, identifier)

    def rows(self, since_ms: int | None, limit: int) -> list[FailureRow]:
        """Failures that happened since, those that happened last first."""
        return [
            msgspec.json.decode(stored.json, type=Failure).row(stored.key)
            for stored in self._readers.documents(KIND, since_ms=since_ms, limit=limit)
        ]


def kept(readers: Readers, identifier: str) -> Failure | None:
    """What is stored of a fingerprint; None for one that is not known, or no longer."""
    stored = readers.document(KIND, identifier)
    return None if stored is None else msgspec.json.decode(stored.json, type=Failure)
