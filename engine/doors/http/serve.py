"""`engine http`: the process. It listens on the loopback address and wants a token, unless it is told otherwise."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import secrets
import socket
import sys
from pathlib import Path

import msgspec

from engine.config import load_config
from engine.contract.errors import AiwmError, Code
from engine.home import default_home, make_home

LOOPBACK = ("localhost", "127.0.0.1", "::1")
TOKEN_FILE = "http.token"
_OVERHEAD_BYTES = 65_536  # what a request may have around the payload that it becomes
_GRACE_S = 2  # what answers under way have to end when the server is stopped; then their tasks are cancelled


def token_of(home: Path) -> str:
    """The home's token, made when there is none (0600). Raises `config_invalid` for an empty file or one that others may read."""
    path = home / TOKEN_FILE
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            raise AiwmError(
                Code.config_invalid, f"others may read {path}", field=TOKEN_FILE, fix=f"chmod 600 {path}"
            ) from None
        token = path.read_text(encoding="ascii").strip()
        if not token:
            raise AiwmError(Code.config_invalid, f"{path} is empty", field=TOKEN_FILE, fix=f"rm {path}") from None
        return token
    token = secrets.token_urlsafe(32)
    with os.fdopen(file, "w", encoding="ascii") as writing:
        writing.write(token + "\n")
    return token


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `config_invalid` for an address that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        text = f"cannot listen on {host}:{port}: {error}"
        raise AiwmError(Code.config_invalid, text, field="http.port", fix="choose another --port") from None
    sock.listen(128)
    return sock


def main(arguments: list[str]) -> int:
    """Serve until stopped. Exit codes: 0 stopped, 2 configuration."""
    parser = argparse.ArgumentParser(
        prog="aiwm http", description="OpenAI's HTTP protocol in front of this home's queues."
    )
    parser.add_argument("--home", type=Path, default=None, help="the home to serve")
    parser.add_argument("--host", default=None, help="the address to listen on (http.host of config.toml)")
    parser.add_argument("--port", type=int, default=None, help="the port, 0 for any free one (http.port)")
    parser.add_argument("--read-only", action="store_true", help="say which models there are; refuse every chat")
    parser.add_argument("--no-token", action="store_true", help="let everybody on this machine in")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a further name of this server"
    )
    parsed = parser.parse_args(arguments)
    home = (parsed.home or default_home()).expanduser().absolute()
    try:
        return _serve(home, parsed)
    except AiwmError as error:
        return _refused(error)
    except OSError as error:
        text = f"{error.filename or home}: {error.strerror}"
        return _refused(AiwmError(Code.config_invalid, text, field="home", fix="choose another --home"))


def _refused(error: AiwmError) -> int:
    if sys.stderr.isatty():
        print(f"aiwm: {error}", file=sys.stderr)
    else:
        line = {"v": 1, "kind": "error", **msgspec.to_builtins(error.info)}
        print(msgspec.json.encode(line).decode(), file=sys.stderr)
    return 2


def _serve(home: Path, parsed: argparse.Namespace) -> int:
    config = load_config().config
    try:
        import uvicorn

        from engine.doors.http.app import build
    except ModuleNotFoundError as error:
        text = f"the HTTP door needs the package {error.name}"
        raise AiwmError(Code.config_invalid, text, fix="pipx install --force 'aiwm-console[http]'") from None
    from engine.doors.http.gateway import Gateway
    from engine.doors.http.guard import Guard

    host = parsed.host or config.http.host
    if parsed.no_token and not is_loopback(host):
        text = f"{host} can be reached from other machines; without a token anybody there could use this one"
        raise AiwmError(
            Code.config_invalid, text, field="--no-token", fix="leave --no-token out, or listen on 127.0.0.1"
        )
    make_home(home)
    token = None if parsed.no_token else token_of(home)
    sock = listen(host, config.http.port if parsed.port is None else parsed.port)
    max_bytes = config.queues.max_payload_bytes + _OVERHEAD_BYTES
    hosts = {name.lower() for name in (*LOOPBACK, host, *parsed.allow_host)}

    async def serve() -> None:
        gateway = Gateway(home, read_only=parsed.read_only)
        app = Guard(build(gateway, max_bytes), hosts=hosts, token=token, max_bytes=max_bytes)
        # "on" would hide a lifespan that fails; the guard passes the lifespan's events on.
        settings = uvicorn.Config(
            app, log_level="warning", lifespan="on", server_header=False, timeout_graceful_shutdown=_GRACE_S
        )
        await uvicorn.Server(settings).serve(sockets=[sock])

    where = f"[{host}]" if ":" in host else host
    secret = "no token" if token is None else f"token in {home / TOKEN_FILE}"
    print(
        f"aiwm http: http://{where}:{sock.getsockname()[1]}/v1 ({secret}); Ctrl-C stops it", file=sys.stderr, flush=True
    )
    asyncio.run(serve())
    return 0
