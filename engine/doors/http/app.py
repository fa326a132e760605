"""The routes: what is asked is read (`chat`, `models`), asked of the engine (`gateway`), and answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from engine import __version__
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.requests.tasks import TaskOutcome
from engine.doors.http import chat
from engine.doors.http.errors import body_of, status_of
from engine.doors.http.gateway import Gateway
from engine.doors.http.guard import BodyTooLarge, too_large
from engine.doors.http.models import entry, listing, target

HEARTBEAT_S = 15.0
"""After so long without text a stream sends a comment, so that nothing between here and the client takes it for dead: until then a failure
has an HTTP status of its own, afterwards it is the stream's last event."""

_GONE = 499
"""The status of an answer that nobody is there to read, as nginx writes it."""

_ENGINE_GONE = frozenset({Code.connection_lost, Code.engine_unreachable, Code.engine_stopping})

Result = TypeVar("Result")


def build(gateway: Gateway, max_bytes: int) -> FastAPI:
    """The application around a connection to the engine."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await gateway.close()

    app = FastAPI(title="aiwm", version=__version__, lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    started = int(time.time())

    _add_failures(app, max_bytes)

    @app.get("/health")
    async def health() -> Response:
        await gateway.client(spawn=False)  # whoever has no token starts nothing
        return _json({"status": "ok"})

    @app.get("/v1/models")
    async def models() -> Response:
        return _json(listing(await gateway.names(), started))

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        target(name, await gateway.names())
        return _json(entry(name, started))

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        asked = chat.read(await request.body())
        to = target(asked.model, await gateway.names())
        submission = chat.submission(asked, to.queue, to.definition, to.adapter)
        task = await gateway.submit(submission)
        created = int(time.time())
        headers = {"x-aiwm-task": task}
        texts = _with_heartbeat(gateway.texts(task))
        work: Awaitable[_Beginning | TaskOutcome] = (
            _beginning(gateway, task, texts) if asked.stream else gateway.outcome(task)
        )
        try:
            found = await _while_connected(request, work)
        except asyncio.CancelledError:  # the server stops
            gateway.abandon(task)
            raise
        except AiwmError as error:
            gateway.abandon(task)
            return _json(body_of(error.info), status_of(error.info), {**headers, **_headers(error.info, ran=True)})
        if found is None:
            gateway.abandon(task)
            return Response(status_code=_GONE)
        if isinstance(found, _Beginning):
            events = _events(gateway, asked, task, created, found, texts)
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        return _json(chat.completion(asked, found, created), 200, headers)

    return app


def _add_failures(app: FastAPI, max_bytes: int) -> None:
    """Whatever goes wrong is told in OpenAI's shape."""

    @app.exception_handler(AiwmError)
    async def failed(_: Request, error: AiwmError) -> Response:
        return _json(body_of(error.info), status_of(error.info), _headers(error.info))

    @app.exception_handler(BodyTooLarge)
    async def large(_: Request, __: BodyTooLarge) -> Response:
        return _json(body_of(too_large(max_bytes)), 413)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=_GONE)

    @app.exception_handler(HTTPException)
    async def nowhere(request: Request, error: HTTPException) -> Response:
        text = f"{request.method} {request.url.path[:200]} is not served"
        fix = "GET /v1/models, POST /v1/chat/completions"
        headers = dict(error.headers or {})
        return _json(body_of(ErrorInfo(code=Code.not_found, message=text, fix=fix)), error.status_code, headers)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        # Its words could hold anything; the server's log has them.
        info = ErrorInfo(code=Code.internal, message=f"the HTTP door failed: {type(error).__name__}")
        return _json(body_of(info), 500)


class _Beginning(msgspec.Struct, frozen=True):
    """How a stream begins: with its first text, or with the end of a task that wrote none; with neither after a while without news."""

    text: str | None = None
    outcome: TaskOutcome | None = None


async def _beginning(gateway: Gateway, task: str, texts: AsyncIterator[str | None]) -> _Beginning:
    """Waits for it. Raises what the task failed of: nothing is sent yet, so that has a status of its own."""
    async for text in texts:
        return _Beginning(text=text)
    return _Beginning(outcome=await gateway.outcome(task))


async def _events(
    gateway: Gateway,
    asked: chat.ChatRequest,
    task: str,
    created: int,
    beginning: _Beginning,
    texts: AsyncIterator[str | None],
) -> AsyncIterator[bytes]:
    """A stream's events. Whoever stops reading cancels the task."""
    ended, written = False, beginning.text is not None
    try:
        yield _event(chat.chunk(task, asked, created, delta={"role": "assistant", "content": ""}))
        if beginning.text is not None:
            yield _event(chat.chunk(task, asked, created, delta={"content": beginning.text}))
        async for text in texts:
            if text is None:
                yield b": waiting\n\n"
                continue
            written = True
            yield _event(chat.chunk(task, asked, created, delta={"content": text}))
        outcome = beginning.outcome or await gateway.outcome(task)
        ended = True
        if not written and (text := chat.text_of(outcome)):
            yield _event(chat.chunk(task, asked, created, delta={"content": text}))
        yield _event(chat.chunk(task, asked, created, delta=None, reason=chat.finish_reason(outcome)))
        if asked.wants_usage:
            yield _event(chat.usage_chunk(asked, outcome, created))
        yield b"data: [DONE]\n\n"
    except AiwmError as error:
        yield _event(body_of(error.info))
    finally:
        if not ended:
            gateway.abandon(task)


async def _with_heartbeat(texts: AsyncIterator[str]) -> AsyncIterator[str | None]:
    """The texts, and None whenever there was none for a while."""
    following = asyncio.ensure_future(anext(texts, None))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=HEARTBEAT_S)
            if not done:
                yield None
                continue
            text = following.result()
            if text is None:
                return
            yield text
            following = asyncio.ensure_future(anext(texts, None))
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError, AiwmError):
            await following


async def _while_connected(request: Request, work: Awaitable[Result]) -> Result | None:
    """The work's result, or None if the client left before it was there."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def _json(data: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(data), status, headers, "application/json")


def _headers(error: ErrorInfo, *, ran: bool = False) -> dict[str, str]:
    """When to come again: as whoever failed said, else soon. What `ran` and failed is not to be asked again by the client itself, as
    OpenAI's clients do after 409, 429 and 5xx: its queue has tried it as often as it may, or somebody has cancelled it."""
    if ran and error.code not in _ENGINE_GONE:
        return {"x-should-retry": "false"}
    seconds = -(-(error.retry_after_ms or 1_000) // 1_000)
    return {"retry-after": str(seconds)} if status_of(error) in (429, 503) else {}
