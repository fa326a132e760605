"""JSON-RPC 2.0 messages as bytes, without I/O. One object a line; errors carry our ErrorInfo as `data`."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code, ErrorInfo
from engine.contract.invalid import invalid

_RAW_NULL = msgspec.Raw(b"null")


class RpcError(msgspec.Struct, frozen=True):
    code: int
    message: str
    data: ErrorInfo | None = None


class Incoming(msgspec.Struct, frozen=True):
    """Any message: a request has method and id, a notification a method, an answer an id and result or error."""

    jsonrpc: str = "2.0"
    id: int | str | None = None
    method: str | None = None
    params: msgspec.Raw = _RAW_NULL
    result: msgspec.Raw = _RAW_NULL
    error: RpcError | None = None


# The numbers that JSON-RPC 2.0 fixes; everything else is a server error.
_NUMBERS = {
    Code.bad_line: -32700,
    Code.line_too_long: -32600,
    Code.unknown_method: -32601,
    Code.bad_request: -32602,
    Code.internal: -32603,
}
_SERVER_ERROR = -32000

_decoder = msgspec.json.Decoder(Incoming)
_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def decode(line: bytes) -> Incoming:
    """One message. Raises `bad_line` for anything that is not a JSON-RPC 2.0 object; it quotes no more than the position."""
    try:
        return _decoder.decode(line)
    except NOT_JSON as error:
        raise AiwmError(
            Code.bad_line, f"a line is not a JSON-RPC 2.0 message: {error}", fix="send one JSON object a line, UTF-8"
        ) from None


def request_line(identifier: int, method: str, params: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"method":"%s","params":%s}\n' % (identifier, method.encode(), params)


def notification_line(method: str, params: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","method":"%s","params":%s}\n' % (method.encode(), params)


def result_line(identifier: int | str | None, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%s,"result":%s}\n' % (encode(identifier), result)


def error_line(identifier: int | str | None, info: ErrorInfo) -> bytes:
    number = _NUMBERS.get(info.code, _SERVER_ERROR)  # type: ignore[call-overload]
    try:
        body = encode({"code": number, "message": info.message, "data": info})
    except UnicodeEncodeError:
        # A message may quote a file name that is no Unicode; whoever asked must be answered all the same.
        plain = ErrorInfo(
            code=info.code, message=info.message.encode("utf-8", "replace").decode(), retryable=info.retryable
        )
        body = encode({"code": number, "message": plain.message, "data": plain})
    return b'{"jsonrpc":"2.0","id":%s,"error":%s}\n' % (encode(identifier), body)


def error_of(error: RpcError) -> AiwmError:
    """The error an answer carries, ours or (from another server) one with its message only."""
    return AiwmError.of(error.data or ErrorInfo(code=Code.internal, message=error.message))


def undecodable(error: Exception, kind: type[Any]) -> AiwmError:
    """What could not be decoded as `kind`: a wrong field by its name, anything worse by its reason."""
    if isinstance(error, msgspec.ValidationError):
        return invalid(error, kind)
    return AiwmError(Code.bad_request, f"the parameters cannot be read: {error}"[:300], field="params")


def params_of(message: Incoming, kind: type[Any]) -> Any:
    """Decode the params as a struct. Raises `bad_request` naming the field; absent params are an empty object."""
    raw = bytes(message.params)
    try:
        return msgspec.json.decode(b"{}" if raw == b"null" else raw, type=kind)
    except NOT_JSON as error:
        raise undecodable(error, kind) from None
