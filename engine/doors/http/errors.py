"""Errors in OpenAI's shape: an HTTP status and `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from typing import Any

from engine.contract.errors import Code, ErrorInfo

_STATUS: dict[str, int] = {
    Code.bad_request: 400,
    Code.payload_invalid: 400,
    Code.prompt_too_long: 400,
    Code.context_full: 400,
    Code.schema_unsupported: 400,
    Code.adapter_unsupported: 400,
    Code.denied: 401,
    Code.read_only: 403,
    Code.not_active: 403,
    Code.not_found: 404,
    Code.model_not_found: 404,
    Code.adapter_not_found: 404,
    Code.task_cancelled: 409,
    Code.payload_too_large: 413,
    # Clients try a 5xx again by themselves; the queue has done so already.
    Code.output_not_json: 422,
    Code.output_invalid: 422,
    Code.queue_full: 429,
    Code.rate_limited: 429,
    Code.remote_overloaded: 429,
    Code.engine_unreachable: 503,
    Code.engine_stopping: 503,
    Code.connection_lost: 503,
    Code.storage_failed: 503,
    Code.model_unavailable: 503,
    Code.model_refused: 503,
    Code.backend_unavailable: 503,
    Code.timeout: 504,
    Code.deadline_passed: 504,
}
_CODES: dict[str, str] = {
    Code.prompt_too_long: "context_length_exceeded",
    Code.denied: "invalid_api_key",
    Code.rate_limited: "rate_limit_exceeded",
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def status_of(error: ErrorInfo) -> int:
    """500 for what is nobody's fault outside."""
    return _STATUS.get(error.code, 500)


def body_of(error: ErrorInfo) -> dict[str, Any]:
    """The error as clients read it. The fix is part of the message: their shape has no other place."""
    status = status_of(error)
    message = error.message if error.fix is None else f"{error.message} ({error.fix})"
    # A task's payload has the fields that clients sent, under the same names.
    param = None if error.field is None else error.field.removeprefix("payload.")
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": _CODES.get(error.code, error.code)}}
