"""A stand-in for the engine's end of the socket, for tests of clients: answers requests with what a test prepared."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from engine import __version__
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.session import Welcome
from engine.home import make_home, socket_path
from engine.wire import rpc

Answer = Callable[[dict[str, Any]], Any]


class Then:
    """An answer followed by notifications: (method, params) pairs, sent right behind it."""

    def __init__(self, result: Any, notes: Iterable[Any]) -> None:
        self.result = result
        self.notes = list(notes)


class Bye:
    """Among the notifications: close the connection here."""


class Hangup(Exception):
    """Raised by an answer: the connection is closed instead."""


class FakeEngine:
    """Serves `socket_path(home)` in a thread. `answers` maps a method to a result or to a function of its params;
    `asked` lists what came: (method, params)."""

    def __init__(self, home: Path, answers: dict[str, Any] | None = None) -> None:
        self.home = home
        # No system has a process of this number: to a client this engine is gone as soon as it hangs up.
        self.pid = 2**30
        self.answers: dict[str, Any] = {"engine.hello": self._hello, **(answers or {})}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        make_home(home)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(socket_path(home)))
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def params(self, method: str) -> dict[str, Any]:
        """The params of the last request of this method."""
        return [params for asked, params in self.asked if asked == method][-1]

    def close(self) -> None:
        self._listener.close()

    def _hello(self, params: dict[str, Any]) -> Welcome:
        return Welcome(
            protocol=1,
            version=__version__,
            home=str(self.home),
            pid=self.pid,
            epoch=1,
            host="test",
            read_only=bool(params.get("read_only")),
        )

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                for line in lines:
                    message = json.loads(line)
                    self.asked.append((message["method"], message["params"]))
                    for out in self._answer(message):
                        if not out:
                            return
                        connection.sendall(out)
            except (OSError, Hangup):
                pass

    def _answer(self, message: dict[str, Any]) -> list[bytes]:
        answer = self.answers.get(message["method"])
        try:
            if answer is None:
                raise AiwmError(Code.unknown_method, f'there is no request "{message["method"]}"')
            result = answer(message["params"]) if callable(answer) else answer
            if isinstance(result, AiwmError):
                raise result
        except AiwmError as error:
            return [rpc.error_line(message["id"], error.info)]
        notes = result.notes if isinstance(result, Then) else []
        result = result.result if isinstance(result, Then) else result
        lines = [rpc.result_line(message["id"], msgspec.json.encode(result))]
        for note in notes:
            lines.append(
                b"" if isinstance(note, Bye) else rpc.notification_line(note.method, msgspec.json.encode(note))
            )
        return lines
