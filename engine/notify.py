"""The notify hook: a command or a webhook of the operator's, told of the first of each kind of trouble.

Kinds are: a failure with a fingerprint that was not seen before, an alert, a request that waits for approval, and any other error by
its type and what it is about. The same again within the repeat time is not told; neither is more than a few a minute: what is left out
is counted and told with the next one. Nothing here can hold up the engine: it reads what is committed, and forgets what it cannot tell."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from engine.clock import Clock
from engine.contract.records import EventRow
from engine.contract.requests.notify import NotifyTest, Tried
from engine.ports import EventSink
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.commit import CommittedBatch
from engine.store.journal import Journal

TIMEOUT_S: Final = 10.0
_TOLD_LEVELS = frozenset({"error", "ask"})
_LOOKED_AT = (*_TOLD_LEVELS, "warn")
_KINDS: Final = 4_096
_WAITING: Final = 100
# A task's own failure is told by its fingerprint; its storage cannot be told of by what must be stored first, but is once it works.
_OF_FINGERPRINT = frozenset({"task.failed", "task.retry"})
_OWN = "notify."

_log = logging.getLogger(__name__)


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What the hook is told, as JSON. `omitted` is how many others were not told since the last one."""

    host: str
    home: str
    at_ms: int
    level: str
    kind: str
    about: str
    text: str
    task: str | None = None
    omitted: int = 0


Tell = Callable[[Notice], Awaitable[None]]


class Notify:
    """Watches commits. `tells` are the ways that are configured; without any it does not look at all."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        events: EventSink,
        tells: Sequence[Tell],
        *,
        host: str,
        home: str,
        repeat_ms: int,
        per_minute: int,
    ) -> None:
        self._clock = clock
        self._events = events
        self._tells = tells
        self._host = host
        self._home = home
        self._repeat_ms = repeat_ms
        self._per_minute = per_minute
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._sent: deque[int] = deque()
        self._omitted = 0
        self._waiting: deque[Notice] = deque()
        self._task: asyncio.Task[None] | None = None
        if tells:
            journal.on_commit(self._committed)

    def register(self, table: RequestTable) -> None:
        table.register(NotifyTest, self.test)

    async def test(self, _: NotifyTest, caller: Caller) -> Tried:
        """Tell every way once, and say what came of it."""
        notice = Notice(
            host=self._host,
            home=self._home,
            at_ms=self._clock.wall_ms(),
            level="info",
            kind="notify.test",
            about=caller.principal,
            text="this is a test of the notify hook",
        )
        failures = [str(error) for tell in self._tells if (error := await _tried(tell, notice)) is not None]
        return Tried(ways=len(self._tells), failures=tuple(failures))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- what is told ------------------------------------------------------------------------------------------------------

    def _committed(self, batch: CommittedBatch) -> None:
        if not any(batch.event_counts.get(level, 0) > 0 for level in _LOOKED_AT):
            return
        for event in batch.events:
            if _matters(event):
                self._note(event)

    def _note(self, event: EventRow) -> None:
        now, key = self._clock.wall_ms(), (event.type, event.about)
        last = self._seen.get(key)
        if last is not None and now - last < self._repeat_ms:
            return
        self._seen[key] = now
        self._seen.move_to_end(key)
        if len(self._seen) > _KINDS:
            self._seen.popitem(last=False)
        while self._sent and self._sent[0] <= now - 60_000:
            self._sent.popleft()
        if len(self._sent) >= self._per_minute or len(self._waiting) >= _WAITING:
            self._omitted += 1
            return
        self._sent.append(now)
        omitted, self._omitted = self._omitted, 0
        self._waiting.append(
            Notice(
                host=self._host,
                home=self._home,
                at_ms=event.at_ms,
                level=event.level,
                kind=event.type,
                about=event.about,
                text=event.text,
                task=event.task,
                omitted=omitted,
            )
        )
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._waiting:
            notice = self._waiting.popleft()
            for tell in self._tells:
                error = await _tried(tell, notice)
                if error is not None:
                    _log.warning("the notify hook failed: %s", error)
                    self._events.emit("warn", "notify.failed", notice.kind, str(error)[:300], who="notify")


async def _tried(tell: Tell, notice: Notice) -> Exception | None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await tell(notice)
    except TimeoutError:
        return TimeoutError(f"no end within {TIMEOUT_S:g} s")
    except (OSError, ValueError, RuntimeError) as error:
        return error
    return None


def _matters(event: EventRow) -> bool:
    if event.type.startswith(_OWN):
        return False
    if event.type == "failure.first" or event.type.startswith("alert."):
        return True
    return event.level in _TOLD_LEVELS and event.type not in _OF_FINGERPRINT


def by_command(command: Sequence[str]) -> Tell:
    """A program that gets the notice as JSON on its stdin. Its arguments are the configuration's and nothing else: no text of an event
    is ever part of a command line."""

    async def tell(notice: Notice) -> None:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _, said = await process.communicate(msgspec.json.encode(notice) + b"\n")
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode:
            tail = said.decode(errors="replace").strip()[-200:]
            raise RuntimeError(f"{command[0]} ended with code {process.returncode}: {tail}".rstrip(": "))

    return tell


def by_webhook(url: str) -> Tell:
    """A POST of the notice as JSON. Redirects are not followed: the notice goes to the configured host and no other."""

    async def tell(notice: Notice) -> None:
        await asyncio.to_thread(_post, url, msgspec.json.encode(notice))

    return tell


def _post(url: str, body: bytes) -> None:
    import urllib.request  # loading it takes longer than everything else of an engine's start

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object, **__: object) -> None:
            return None

    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.build_opener(NoRedirect).open(request, timeout=TIMEOUT_S) as answer:
        answer.read(1)
