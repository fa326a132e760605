"""A server program as a user might have one: OpenAI's protocol on --port, without a model. Run as a program of its own.

It answers a chat with the words of the last message. --gate FILE: not healthy (503) while the file does not exist; --trouble FILE: ends
at the start if the file exists; --health PATH: where its health is asked (nothing else answers there)."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    options: argparse.Namespace

    def do_GET(self) -> None:
        if self.path == self.options.health:
            gate = self.options.gate
            self._json(200 if gate is None or Path(gate).exists() else 503, {"status": "ok"})
        elif self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": name} for name in self.options.name.split(",")]})
        else:
            self._json(404, {"error": {"message": "not found"}})

    def do_POST(self) -> None:
        asked: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        words = str(asked["messages"][-1]["content"]).split()
        if asked["model"] == "die":
            os._exit(9)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for word in words:
            self._event({"choices": [{"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}]})
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event({"choices": [], "usage": {"prompt_tokens": len(words), "completion_tokens": len(words)}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, value: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps({'model': self.options.name, **value})}\n\n".encode())

    def _json(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="m")
    parser.add_argument("--health", default="/health")
    parser.add_argument("--gate")
    parser.add_argument("--trouble")
    parser.add_argument("--child", help="start a child that would outlive it, and write its pid here")
    Handler.options = options = parser.parse_args()
    if options.trouble and Path(options.trouble).exists():
        sys.exit("no room for the model")
    if options.child:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(options.child).write_text(str(child.pid))
    print(f"listening on {options.port}", flush=True)
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
