"""What a server's refusal means: statuses, headers and error bodies become AiwmErrors. Its words are data: cut, cleaned, never obeyed."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.secret import Secret

MAX_BODY = 64 * 1024
"""How much of a refusal's body is read, bytes."""

_SHOWN = 300
_OVERLOADED = frozenset({429, 503, 529})
"""429 too many requests (RFC 6585), 503 unavailable (RFC 9110), 529 overloaded (Anthropic's API reference, "Errors")."""

_RETRYABLE = frozenset({408, 409, 425, 500, 502, 504})
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error", "request_too_large")
"""Codes and types of OpenAI, llama.cpp's server and Anthropic."""

_TOO_LONG_WORDS = ("maximum context length", "prompt is too long", "exceeds the available context", "context size")
_NO_MONEY = ("insufficient_quota", "billing_error", "billing_hard_limit_reached", "credit balance is too low")
_OVERLOADED_TYPES = frozenset({"overloaded_error", "rate_limit_error", "rate_limit_exceeded", "server_overloaded"})


class Server(msgspec.Struct, frozen=True):
    """Whom an error is about: the model's name here, the server's host, the name of the key that is sent (empty: none)."""

    model: str
    host: str
    key: str = ""


def clean(text: str, secret: Secret | None = None, most: int = _SHOWN) -> str:
    """A server's words for a person's eyes: one line, printable, at most so many characters, the key not among them."""
    if secret is not None:
        text = text.replace(secret.reveal(), "[key]")
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: most * 4]).split())
    return text if len(text) <= most else f"{text[:most]}…"


def retry_after_ms(headers: Mapping[str, str], wall_ms: int, most_ms: int) -> int | None:
    """How long the server wants to be left alone; None if it does not say so understandably, never more than `most_ms`.

    `retry-after-ms` (OpenAI, ms), else `retry-after`: seconds, or an HTTP date (RFC 9110, 10.2.3). Names are lower case."""
    found: float | None = None
    try:
        if "retry-after-ms" in headers:
            found = float(headers["retry-after-ms"])
        elif "retry-after" in headers:
            text = headers["retry-after"].strip()
            found = (
                float(text) * 1000 if text[:1].isdigit() else parsedate_to_datetime(text).timestamp() * 1000 - wall_ms
            )
    except (ValueError, TypeError, OverflowError):
        return None
    # NaN compares false with everything.
    return None if found is None or not found >= 0 else round(min(found, most_ms))


def refused(
    server: Server, status: int, body: bytes, wait_ms: int | None = None, secret: Secret | None = None
) -> AiwmError:
    """The error for a status other than 200."""
    kind, message = _said(body)
    return _error(server, f"answered {status}", status, kind, message, wait_ms, secret)


def failed(server: Server, error: Any, secret: Secret | None = None) -> AiwmError:
    """The error that a server told of in the midst of its answer: the protocols' `error` object."""
    kind, message = _of(error)
    status = 429 if kind in _OVERLOADED_TYPES else 400 if kind.startswith("invalid_request") else 500
    return _error(server, "broke off its answer", status, kind, message, None, secret)


def cut(server: Server, why: str) -> AiwmError:
    """The connection or the protocol broke: another attempt may do better."""
    return AiwmError(
        Code.remote_failed, f"{server.model}: {server.host} {why}", field="model", fix="aiwm model list", retryable=True
    )


def unreachable(server: Server, why: str) -> AiwmError:
    return AiwmError(
        Code.model_unavailable,
        f"{server.model}: {server.host} is unreachable: {why}",
        field="model",
        fix="see that the server runs and its address is right; it is tried again by itself",
        retryable=True,
    )


def _error(
    server: Server, what: str, status: int, kind: str, message: str, wait_ms: int | None, secret: Secret | None
) -> AiwmError:
    said = clean(f"{kind}: {message}" if kind and message else kind or message, secret)
    text = f"{server.model}: {server.host} {what}" + (f": {said}" if said else "")
    everything = f"{kind} {message}".lower()
    if any(word in everything for word in _NO_MONEY):
        return AiwmError(Code.remote_failed, text, field="key", fix="see to the account that the key belongs to")
    if status in _OVERLOADED or kind in _OVERLOADED_TYPES:
        return AiwmError(Code.remote_overloaded, text, field="model", retryable=True, retry_after_ms=wait_ms)
    if status in (401, 403):
        fix = f"aiwm key check {server.key}" if server.key else "name a key in its definition"
        return AiwmError(Code.remote_failed, text, field="key", fix=fix)
    if status == 413 or any(word in everything for word in (*_TOO_LONG, *_TOO_LONG_WORDS)):
        return AiwmError(Code.prompt_too_long, text, field="prompt", fix="a shorter prompt, or fewer max_tokens")
    if status == 404:
        return AiwmError(Code.remote_failed, text, field="model", fix="see the model's name and the server's address")
    retryable = status in _RETRYABLE or status >= 500
    return AiwmError(Code.remote_failed, text, field="model", retryable=retryable, retry_after_ms=wait_ms)


def _said(body: bytes) -> tuple[str, str]:
    """(type or code, message) of an error body; text that is no such object is the message."""
    try:
        document = msgspec.json.decode(body)
    except NOT_JSON:
        return "", body.decode("utf-8", "replace")
    error = document.get("error", document) if isinstance(document, dict) else document
    return _of(error)


def _of(error: Any) -> tuple[str, str]:
    if isinstance(error, str):
        return "", error
    if not isinstance(error, dict):
        return "", ""
    words = [error[name] for name in ("code", "type") if isinstance(error.get(name), str)]
    message = error.get("message", error.get("detail", ""))
    return (words[0] if words else ""), message if isinstance(message, str) else ""
