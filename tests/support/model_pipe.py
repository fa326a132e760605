"""A model process's pipe, spoken by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any


class Pipe:
    """`program` replaces the process's own: Python code that ends in `engine.inference.process.main()`."""

    def __init__(self, program: str | None = None) -> None:
        what = ["-m", "engine.inference.process"] if program is None else ["-c", program]
        self.process = subprocess.Popen(
            [sys.executable, "-P", *what, "--parent", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.numbers = 0
        self.notes: list[dict[str, Any]] = []
        self.answers: dict[int, dict[str, Any]] = {}

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def close(self) -> None:
        """Leave it, as an engine that ends does."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        assert self.process.wait(timeout=20) == 0  # the end of its stdin is a clean end
        self.process.stdout.close()

    def ask(self, method: str, **params: Any) -> Any:
        """The result of a request, or its error's data; notes that come before it are kept."""
        return self.answer(self.send(method, **params))

    def send(self, method: str, **params: Any) -> int:
        """Ask without waiting for the answer; the request's number."""
        self.numbers += 1
        line = {"jsonrpc": "2.0", "id": self.numbers, "method": method, "params": params}
        self.write(json.dumps(line).encode() + b"\n")
        return self.numbers

    def answer(self, number: int) -> Any:
        while number not in self.answers:
            line = self.read()
            if "id" in line:
                self.answers[line["id"]] = line
            else:
                self.notes.append(line)
        line = self.answers.pop(number)
        return line["result"] if "result" in line else line["error"]["data"]

    def until(self, method: str, request_id: str) -> dict[str, Any]:
        """The first such note of a request."""
        while True:
            for note in self.notes:
                if note["method"] == method and note["params"].get("id") == request_id:
                    params: dict[str, Any] = note["params"]
                    return params
            line = self.read()
            if "id" in line:
                self.answers[line["id"]] = line
            else:
                self.notes.append(line)

    def told(self, method: str) -> list[dict[str, Any]]:
        """All notes of this sort so far."""
        return [note["params"] for note in self.notes if note["method"] == method]

    def text(self, request_id: str) -> str:
        """What a request that is done wrote."""
        self.until("done", request_id)
        return "".join(note["text"] for note in self.told("delta") if note["id"] == request_id)

    def status(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next status, or the last, that is as wanted."""
        while not (self.told("status") and wanted(self.told("status")[-1])):
            self.notes.append(self.read())
        return self.told("status")[-1]
