"""The one error type, its codes, and what crosses the pipe when something fails."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

# What decoding JSON of foreign origin may raise: of text that is not UTF-8 msgspec says by UnicodeDecodeError.
NOT_JSON: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


class Code(StrEnum):
    """Stable error codes. A code says what kind of thing failed; the message says which one and why."""

    # usage: the request itself is wrong
    bad_request = "bad_request"
    unknown_method = "unknown_method"
    not_found = "not_found"
    conflict = "conflict"
    queue_full = "queue_full"
    payload_too_large = "payload_too_large"
    bad_location = "bad_location"
    config_invalid = "config_invalid"
    definition_invalid = "definition_invalid"
    # refused: understood, and not allowed or not now
    read_only = "read_only"
    needs_confirmation = "needs_confirmation"
    rate_limited = "rate_limited"
    not_active = "not_active"
    busy = "busy"
    denied = "denied"
    too_many_rows = "too_many_rows"
    path_violation = "path_violation"
    file_not_found = "file_not_found"
    file_unreadable = "file_unreadable"
    file_too_large = "file_too_large"
    quota_exceeded = "quota_exceeded"
    source_unusable = "source_unusable"
    tool_denied = "tool_denied"
    tool_not_allowed = "tool_not_allowed"
    tool_blocked = "tool_blocked"
    tool_unknown = "tool_unknown"
    tool_arguments = "tool_arguments"
    key_not_found = "key_not_found"
    key_refused = "key_refused"
    # the engine and its pipe
    engine_unreachable = "engine_unreachable"
    engine_running = "engine_running"
    engine_stopping = "engine_stopping"
    protocol_mismatch = "protocol_mismatch"
    bad_line = "bad_line"
    line_too_long = "line_too_long"
    connection_lost = "connection_lost"
    timeout = "timeout"
    internal = "internal"
    # storage
    storage_failed = "storage_failed"
    schema_newer = "schema_newer"
    recording_invalid = "recording_invalid"
    not_recorded = "not_recorded"
    # models
    model_not_found = "model_not_found"
    model_invalid = "model_invalid"
    model_too_big = "model_too_big"
    model_crashed = "model_crashed"
    model_unavailable = "model_unavailable"
    model_refused = "model_refused"
    backend_unavailable = "backend_unavailable"
    remote_failed = "remote_failed"
    remote_overloaded = "remote_overloaded"
    schema_unsupported = "schema_unsupported"
    adapter_not_found = "adapter_not_found"
    adapter_invalid = "adapter_invalid"
    adapter_unsupported = "adapter_unsupported"
    prompt_too_long = "prompt_too_long"
    context_full = "context_full"
    # tasks
    task_failed = "task_failed"
    output_not_json = "output_not_json"
    output_invalid = "output_invalid"
    step_limit = "step_limit"
    task_cancelled = "task_cancelled"
    deadline_passed = "deadline_passed"
    worker_crashed = "worker_crashed"
    engine_crashed = "engine_crashed"
    payload_invalid = "payload_invalid"
    dependency_failed = "dependency_failed"


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as data: on the pipe, in a task's row, in `--json`.

    `field` names what was wrong in the request, `fix` what to do (a command where there is one), `retryable` whether the
    same request may succeed later, `retry_after_ms` that it will not before (from now, ms; None: nobody said), `stderr` the last
    lines of the process it happened in."""

    code: str
    message: str
    field: str | None = None
    fix: str | None = None
    retryable: bool = False
    retry_after_ms: int | None = None
    stderr: tuple[str, ...] = ()


class AiwmError(Exception):
    """Every failure that a person or a program is told about. Codes survive the pipe: the client raises the same error.

    `spent` is what a failed model call is known to have taken, tokens in and out; it stays in its process."""

    def __init__(
        self,
        code: Code | str,
        message: str,
        *,
        field: str | None = None,
        fix: str | None = None,
        retryable: bool = False,
        retry_after_ms: int | None = None,
        stderr: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.info = ErrorInfo(
            code=str(code),
            message=message,
            field=field,
            fix=fix,
            retryable=retryable,
            retry_after_ms=retry_after_ms,
            stderr=stderr,
        )
        self.spent: tuple[int, int] | None = None

    @property
    def code(self) -> str:
        return self.info.code

    @classmethod
    def of(cls, info: ErrorInfo) -> AiwmError:
        return cls(
            info.code,
            info.message,
            field=info.field,
            fix=info.fix,
            retryable=info.retryable,
            retry_after_ms=info.retry_after_ms,
            stderr=info.stderr,
        )

    def __str__(self) -> str:
        fix = f" ({self.info.fix})" if self.info.fix else ""
        return f"{self.info.message}{fix}"
