"""The one place that opens connections to models' servers: one POST, its answer in pieces, closed when nobody reads any more.

Redirects are never followed: a key goes to the host that it is listed for and to no other. Compressed answers are not asked for, so that
no small answer can become a large one."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from engine import __version__

if TYPE_CHECKING:
    import httpx

_PIECE = 64 * 1024
_WRITE_S = 30.0


class Unreachable(Exception):
    """No connection came about. The text says why, in our words or the system's."""


class Broken(Exception):
    """The connection ended or fell silent in the midst of things. The text says how."""


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds: for a connection, until an answer's first byte, and between its pieces."""

    connect: float
    first_byte: float
    idle: float


class Reply(msgspec.Struct, frozen=True):
    """An answer whose body is still coming. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


class Connection:
    """Connections to one server, kept open between calls. Nothing is opened before the first."""

    def __init__(self, address: str, timeouts: Timeouts) -> None:
        self._address = address
        self._timeouts = timeouts
        self._client: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def post(self, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Reply]:
        """Send, and give the reply when its head is there; leaving the context closes it. Raises Unreachable, Broken."""
        client = await self._opened()
        import httpx  # done by now, on another thread

        first = asyncio.get_running_loop().time() + self._timeouts.first_byte
        try:
            request = client.build_request("POST", self._address, headers=dict(headers), content=body)
            async with asyncio.timeout_at(first):
                response = await client.send(request, stream=True)
        except TimeoutError:
            raise Broken(f"said nothing for {self._timeouts.first_byte:g} s") from None
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.ProxyError,
            httpx.UnsupportedProtocol,
            httpx.InvalidURL,
        ) as error:
            raise Unreachable(_why(error, self._timeouts)) from None
        except httpx.HTTPError as error:
            raise Broken(f"gave no answer ({type(error).__name__})") from None
        try:
            yield Reply(response.status_code, response.headers, self._pieces(response, first))
        finally:
            await asyncio.shield(response.aclose())

    async def reachable(self) -> str:
        """Why no connection can be had; "" when one can, whatever the server says on it. Nothing is asked and no key is sent."""
        try:
            client = await self._opened()
        except Unreachable as error:
            return str(error)
        import httpx

        try:
            async with asyncio.timeout(self._timeouts.connect * 2):
                response = await client.send(client.build_request("GET", self._address), stream=True)
                await response.aclose()
        except TimeoutError:
            return f"no answer in {self._timeouts.connect * 2:g} s"
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.InvalidURL) as error:
            return _why(error, self._timeouts)
        except httpx.HTTPError:
            pass  # what it does with a connection is the next call's to tell
        return ""

    async def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            try:
                client = await asyncio.to_thread(_client, self._address, self._timeouts)
            except OSError as error:  # SSL_CERT_FILE names a file that is none
                raise Unreachable(f"the certificates cannot be read: {error.strerror or error}"[:200]) from None
            # Somebody else may have come first meanwhile.
            self._client = self._client or client
        return self._client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _pieces(self, response: httpx.Response, first: float) -> AsyncIterator[bytes]:
        """The body as it comes. Raises Broken when it is cut or pauses too long."""
        import httpx

        if response.headers.get("content-encoding", "identity") != "identity":
            raise Broken("compresses its answer, though it was asked not to")
        loop, until, what = asyncio.get_running_loop(), first, self._timeouts.first_byte
        pieces = response.aiter_raw(_PIECE if response.is_error else None)
        while True:
            try:
                async with asyncio.timeout_at(until):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise Broken(f"said nothing for {what:g} s") from None
            except httpx.HTTPError as error:
                raise Broken(f"cut its answer off ({type(error).__name__})") from None
            yield piece
            until, what = loop.time() + self._timeouts.idle, self._timeouts.idle


def _client(address: str, timeouts: Timeouts) -> httpx.AsyncClient:
    """Blocks: httpx is imported (0.1 s, once), certificates are read, SSL_CERT_FILE's where it is set. The environment's
    proxies are for the world, not for this machine."""
    import httpx

    for noisy in ("httpx", "httpcore"):  # they would log every address at INFO, headers at DEBUG
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=timeouts.connect, write=_WRITE_S),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=16, keepalive_expiry=30.0),
        headers={"user-agent": f"aiwm/{__version__}", "accept": "text/event-stream", "accept-encoding": "identity"},
        follow_redirects=False,
        trust_env=not _is_here(address),
        verify=httpx.create_ssl_context() if address.startswith("https:") else False,
    )


def _is_here(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _why(error: Exception, timeouts: Timeouts) -> str:
    """Why no connection came about. The system's own words where there are any."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror[:200]
        cause = cause.__cause__ or cause.__context__
    if type(error).__name__ == "ConnectTimeout":
        return f"no connection in {timeouts.connect:g} s"
    return (str(error) or type(error).__name__)[:200]
