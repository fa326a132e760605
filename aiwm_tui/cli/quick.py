"""`aiwm engine status` without typer, msgspec or asyncio: one line to the socket, one line back, rendered by the engine."""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False  # as type checkers read it; typing itself takes too long to import
if TYPE_CHECKING:
    from _socket import socket

_TIMEOUT_S = 10.0
_MAX_SOCKET_BYTES = 100


def status_options(arguments: list[str]) -> tuple[str, bool] | None:
    """(home, json) if the arguments are `engine status` with nothing but --home and --json; None leaves them to typer."""
    home, as_json, words = None, False, []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--home":
            home = next(rest, None)
            if home is None:
                return None
        elif argument.startswith("--home="):
            home = argument[7:]
        elif argument in ("--json", "--jsonl"):
            as_json = True
        else:
            words.append(argument)
    return (home_path(home), as_json) if words == ["engine", "status"] else None


def home_path(given: str | None) -> str:
    """--home, else AIWM_HOME, else `aiwm` in the XDG data directory; absolute. The same rule as `engine.home`, without pathlib."""
    named = given or os.environ.get("AIWM_HOME")
    if named:
        return os.path.join(os.getcwd(), os.path.expanduser(named)).rstrip("/")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "aiwm")


def _socket_path(home: str) -> str:
    path = os.path.join(home, "engine.sock")
    if len(os.fsencode(path)) <= _MAX_SOCKET_BYTES:
        return path
    from pathlib import Path

    from engine.home import socket_path

    return str(socket_path(Path(home)))


def engine_status(options: tuple[str, bool]) -> int:
    """Print how the engine of a home is; 0, or 3 when none serves it."""
    home, as_json = options
    try:
        line = ask(home, [("engine.status", {})], _TIMEOUT_S)
    except TimeoutError:
        return _fail(4, "timeout", f"the engine of {home} did not answer in {_TIMEOUT_S:g} s", None, as_json)
    except OSError:
        return _fail(3, "engine_unreachable", f"no engine serves {home}", "aiwm engine run", as_json)
    try:
        answer = json.loads(line)
        if "error" in answer:
            error = answer["error"].get("data") or {"code": "internal", "message": answer["error"]["message"]}
            return _fail(1, error["code"], error["message"], error.get("fix"), as_json)
        result = answer["result"]
        text = json.dumps({"v": 1, "kind": "engine", "data": result}, ensure_ascii=False) if as_json else result["text"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return _fail(3, "protocol_mismatch", f"what listens at {home} is not an engine", "aiwm doctor", as_json)
    sys.stdout.write(text.rstrip("\n") + "\n")
    return 0


def ask(home: str, requests: list[tuple[str, dict[str, object]]], timeout_s: float) -> bytes:
    """Send requests to the engine of a home, one after the other; the line that answers the last one. OSError when none serves it."""
    # The C module alone: `socket` would import selectors and enum for 6 ms.
    from _socket import AF_UNIX, SOCK_STREAM, socket

    connection = socket(AF_UNIX, SOCK_STREAM)
    connection.settimeout(timeout_s)
    connection.connect(_socket_path(home))
    line = received = b""
    for number, (method, params) in enumerate(requests, 1):
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        connection.sendall(json.dumps(request).encode() + b"\n")
        line, received = _answer(connection, received)
    return line


def _answer(connection: socket, received: bytes) -> tuple[bytes, bytes]:
    """The next line that answers, and what came behind it."""
    while True:
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            if b'"method"' not in line[:200]:
                return line, received
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError
        received += part


def _fail(exit_code: int, code: str, message: str, fix: str | None, as_json: bool) -> int:
    if as_json:
        error = {"v": 1, "kind": "error", "code": code, "message": message, "field": None, "fix": fix}
        sys.stderr.write(json.dumps(error, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"aiwm: {message}" + (f" ({fix})" if fix else "") + "\n")
    return exit_code
