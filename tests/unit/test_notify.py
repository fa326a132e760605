"""The notify hook: what it tells, what it keeps to itself, and that it never holds anything up."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from engine.contract.errors import Code
from engine.contract.requests.notify import NotifyTest
from engine.contract.states import Durability
from engine.events import JournalEvents
from engine.notify import Notice, Notify, Tell, by_command, by_webhook
from engine.store import ops
from engine.store.store import Store
from tests.support.manager import JumpingClock, client
from tests.support.stored import open_store
from tests.support.waiting import until

OS = Durability.os


class Hook:
    """A store, a hook on it, and what it was told."""

    def __init__(self, store: Store, *tells: Tell, per_minute: int = 6) -> None:
        self.store = store
        self.clock = JumpingClock()
        self.told: list[Notice] = []
        self.notify = Notify(
            store.journal,
            self.clock,
            JournalEvents(store.journal, self.clock),
            tells or (self._tell,),
            host="here",
            home="/home",
            repeat_ms=60_000,
            per_minute=per_minute,
        )

    async def _tell(self, notice: Notice) -> None:
        self.told.append(notice)

    async def event(self, level: str, type_: str, about: str = "x", text: str = "words") -> None:
        event = ops.AppendEvent(at_ms=self.clock.wall_ms(), level=level, type=type_, who="w", about=about, text=text)
        await self.store.journal.write((event,), OS)
        while self.notify._task is not None and not self.notify._task.done():
            await self.notify._task

    @property
    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.told]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    found = open_store(tmp_path / "aiwm.db")
    yield found
    await found.close()


async def test_it_tells_of_trouble_and_of_nothing_else(store: Store) -> None:
    hook = Hook(store)
    for level, type_ in (
        ("info", "task.completed"),
        ("warn", "task.retry"),
        ("error", "task.failed"),
        ("warn", "failure.first"),
        ("error", "alert.queue"),
        ("warn", "alert.soft"),
        ("ask", "approval.asked"),
        ("error", "worker.refused"),
        ("warn", "model.slow"),
        ("audit", "queue.create"),
        ("error", "notify.failed"),
    ):
        await hook.event(level, type_)
    assert hook.kinds == ["failure.first", "alert.queue", "alert.soft", "approval.asked", "worker.refused"]
    notice = hook.told[0]
    assert (notice.host, notice.home, notice.about, notice.text, notice.level) == (
        "here",
        "/home",
        "x",
        "words",
        "warn",
    )


async def test_the_same_again_is_told_only_after_a_while(store: Store) -> None:
    hook = Hook(store)
    for _ in range(3):
        await hook.event("error", "alert.queue", "etl")
    await hook.event("error", "alert.queue", "other")
    assert [notice.about for notice in hook.told] == ["etl", "other"]
    hook.clock.jump(60_001)
    await hook.event("error", "alert.queue", "etl")
    assert [notice.about for notice in hook.told] == ["etl", "other", "etl"]


async def test_what_is_too_much_is_counted_and_told_later(store: Store) -> None:
    hook = Hook(store, per_minute=2)
    for number in range(5):
        await hook.event("warn", "failure.first", f"F-{number}")
    assert [notice.about for notice in hook.told] == ["F-0", "F-1"]
    hook.clock.jump(60_001)
    await hook.event("warn", "failure.first", "F-9")
    assert (hook.told[-1].about, hook.told[-1].omitted) == ("F-9", 3)


async def test_a_way_that_fails_is_an_event_and_tells_nobody_of_itself(store: Store) -> None:
    async def broken(_: Notice) -> None:
        raise OSError("no such host")

    hook = Hook(store, broken)
    await hook.event("error", "alert.queue")
    await until(lambda: store.journal.event_counts().get("warn", 0) == 1)
    assert not hook.notify._waiting


async def test_a_command_gets_the_notice_on_its_stdin(store: Store, tmp_path: Path) -> None:
    said = tmp_path / "said"
    program = f"import sys, pathlib; pathlib.Path({str(said)!r}).write_text(sys.stdin.read() + repr(sys.argv[1:]))"
    hook = Hook(store, by_command((sys.executable, "-c", program, "page")))
    await hook.event("error", "alert.queue", "etl", "$(rm -rf /); `x` \n--flag")
    line, arguments = said.read_text().split("\n")
    assert json.loads(line)["text"] == "$(rm -rf /); `x` \n--flag"
    assert arguments == "['page']"


async def test_a_command_that_fails_or_hangs_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.notify.TIMEOUT_S", 2.0)
    hook = Hook(
        store,
        by_command((sys.executable, "-c", "import sys; sys.exit('out of paper')")),
        by_command((sys.executable, "-c", "import time; time.sleep(60)")),
        by_command(("/no/such/program",)),
    )
    tried = await hook.notify.test(NotifyTest(), client(lambda _: True))
    assert tried.ways == 3
    assert "ended with code 1: out of paper" in tried.failures[0]
    assert "no end within" in tried.failures[1]
    assert "/no/such/program" in tried.failures[2]


class _Heard(BaseHTTPRequestHandler):
    bodies: list[bytes]
    redirect: str

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(302 if self.redirect else 204)
        if self.redirect:
            self.send_header("Location", self.redirect)
        self.end_headers()

    def do_GET(self) -> None:
        self.bodies.append(b"followed")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("redirect", ["", "/elsewhere"])
async def test_a_webhook_gets_the_notice_and_leads_nowhere_else(store: Store, redirect: str) -> None:
    bodies: list[bytes] = []
    server = HTTPServer(("127.0.0.1", 0), type("Heard", (_Heard,), {"bodies": bodies, "redirect": redirect}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        hook = Hook(store, by_webhook(f"http://127.0.0.1:{server.server_port}/hook"))
        tried = await hook.notify.test(NotifyTest(), client(lambda _: True))
    finally:
        await asyncio.to_thread(server.shutdown)
        thread.join()
        server.server_close()
    assert json.loads(bodies[0])["kind"] == "notify.test"
    assert len(bodies) == 1
    assert bool(tried.failures) == bool(redirect)


async def test_without_a_way_it_does_not_look(store: Store) -> None:
    clock = JumpingClock()
    listeners = len(store.journal._on_commit)
    hook = Notify(
        store.journal, clock, JournalEvents(store.journal, clock), (), host="", home="", repeat_ms=1, per_minute=1
    )
    assert len(store.journal._on_commit) == listeners
    assert (await hook.test(NotifyTest(), client(lambda _: True))).ways == 0


def test_an_address_that_is_none_is_refused() -> None:
    from engine.config import NotifyConfig
    from engine.configured import notify_ways
    from engine.contract.errors import AiwmError

    with pytest.raises(AiwmError) as caught:
        notify_ways(NotifyConfig(command=(), webhook="file:///etc/passwd", repeat_ms=1, per_minute=1))
    assert caught.value.code == Code.config_invalid
