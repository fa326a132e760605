"""The console in the past: a recording, and its own last minutes, by keys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aiwm_tui.actions import ACTIONS, Group, footer
from aiwm_tui.app import ConsoleApp
from aiwm_tui.live.moments import mode_words, moment_ms, next_speed, place_words, scrub_ms
from aiwm_tui.running import play_here
from engine.client import connect, connect_blocking, connect_through
from engine.contract.errors import AiwmError
from engine.contract.requests.recordings import RecordStart, RecordStop, ReplayState
from engine.contract.requests.tasks import TaskSubmit, TaskWait
from engine.spawning import replay_command
from tests.support import engines
from tests.support.screens import hides, press, shows, wait_until

NOON = 1_790_000_000_000 - 1_790_000_000_000 % 86_400_000 + 43_200_000


def _state(**more: Any) -> ReplayState:
    fields: dict[str, Any] = {
        "at_ms": NOON,
        "from_ms": NOON - 3_600_000,
        "to_ms": NOON + 600_000,
        "playing": False,
        "speed": 1.0,
        "change": 3,
        "changes": 9,
        "host": "anvil",
        "redacted": False,
        "ends": "stopped",
    }
    return ReplayState(**{**fields, **more})


@pytest.mark.parametrize(
    ("typed", "ms"),
    [
        ("12:05", NOON + 300_000),
        ("11:30:10", NOON - 1_790_000),
        ("+5m", NOON + 300_000),
        ("-90s", NOON - 90_000),
        ("-2h", NOON - 3_600_000),
        ("+1d", NOON + 600_000),
        ("start", NOON - 3_600_000),
        (" end ", NOON + 600_000),
        ("", NOON),
    ],
)
def test_moments_are_typed_as_people_say_them(typed: str, ms: int) -> None:
    assert moment_ms(typed, _state()) == ms


@pytest.mark.parametrize(
    ("typed", "fix"), [("03:00", "11:00:00 to 12:10:00"), ("noon", "02:40"), ("+x", "02:40"), ("99999-01-01", "02:40")]
)
def test_other_moments_are_refused_with_those_that_there_are(typed: str, fix: str) -> None:
    with pytest.raises(AiwmError) as caught:
        moment_ms(typed, _state())
    assert caught.value.info.field == "at"
    assert caught.value.info.fix is not None
    assert fix in caught.value.info.fix


def test_what_is_said_of_a_place() -> None:
    assert mode_words(_state()) == "replay 12:00:00"
    assert mode_words(_state(playing=True, speed=0.25)) == "replay 12:00:00 0.25x"
    said = place_words(_state(at_ms=NOON + 600_000, ends="in the middle of a line", cut=True, redacted=True, skipped=2))
    assert "it ends in the middle of a line" in said
    assert "texts of tasks are left out" in said
    assert scrub_ms(_state()) == 60_000
    assert scrub_ms(_state(from_ms=NOON)) == 60_000
    assert scrub_ms(_state(from_ms=NOON, to_ms=NOON + 60_000)) == 10_000
    assert (next_speed(1.0, True), next_speed(1.0, False), next_speed(300.0, True)) == (2.0, 0.5, 300.0)


def test_its_keys_mean_nothing_else_anywhere() -> None:
    mine = {key for action in ACTIONS if action.group is Group.replay for key in action.keys.split(",")}
    others = {key for action in ACTIONS if action.group is not Group.replay for key in action.keys.split(",")}
    assert mine
    assert not mine & others
    assert all(action.group is not Group.replay for action in footer("tasks"))
    shown = footer("tasks", replaying=True)
    assert {"replay", "replay_play", "help"} <= {action.id for action in shown}
    assert not any(action.changes for action in shown)
    assert len(shown) <= 9


def _work(home: Path, file: Path) -> list[str]:
    """A recording of two tasks, one after the other. Their ids."""
    ids = []
    with connect_blocking(home, spawn=False, work=True) as client:
        made = client.call(RecordStart(path=str(file)))
        for number in range(2):
            ids.append(client.call(TaskSubmit(queue="echo", payload={"n": number})).id)
            client.call(TaskWait(ids=(ids[-1],)))
        client.call(RecordStop(id=made.id))
    return ids


async def say(app: ConsoleApp, key: str, text: str) -> None:
    """Open a prompt by its key, and answer it."""
    await press(app, key)
    await wait_until(lambda: app.shell.prompted, "the prompt")
    await press(app, *text, "enter")


async def test_a_recording_in_the_console(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.rec"
    with engines.engine(home):
        ids = await asyncio.to_thread(_work, home, file)

    async def dial() -> Any:
        return await connect_through(replay_command([str(file)]), name="console")

    app = ConsoleApp(dial, location=":tasks", read_only=True)
    async with app.run_test(size=(120, 36)):
        await shows(app, "no tasks", " replay ", "; play")
        assert app.clock() < (app.replaying.state.to_ms if app.replaying.state else 0)
        await say(app, "@", "end")
        await shows(app, *ids, "✓ completed", "the end: stopped")
        for _ in range(20):
            await press(app, ",")
        await hides(app, *ids)
        for _ in range(20):
            await press(app, ".")
        await shows(app, *ids, "✓ completed")
        await press(app, "R")
        await shows(app, "this is a recording; nothing was changed")
        await say(app, "@", "noon")
        await shows(app, '"noon" is no moment')
        await press(app, "escape")
        await shows(app, "; play")
        await say(app, "@", "start")
        await hides(app, *ids)
        await press(app, "}", "}", "}", "}", "}", "}", ";")
        await shows(app, *ids)
        await wait_until(lambda: app.replaying.state is not None and not app.replaying.state.playing)
        await press(app, "enter")
        await shows(app, '"n": 1')
        for location, words in ((":overview", "NEEDS YOU"), (":queues", "echo"), (":events", "task.completed")):
            await say(app, ":", location.removeprefix(":"))
            await shows(app, words, " replay ")
        await press(app, "ctrl+r")
        await shows(app, "a moment: 02:40")


async def test_the_own_last_minutes_and_back(home: Path) -> None:
    with engines.engine(home):

        async def dial() -> Any:
            return await connect(home, spawn=False, name="console")

        app = ConsoleApp(dial, location=":tasks", record=True, play=play_here)
        async with app.run_test(size=(120, 36)):
            await shows(app, "no tasks", "live")
            await wait_until(lambda: app.replaying.ring)
            first = (await app.link.call(TaskSubmit(queue="echo", payload={"n": 1}))).id
            await shows(app, first, "✓ completed")
            await press(app, "ctrl+r")
            await shows(app, "a moment: 02:40", " replay ")
            await press(app, "escape")
            await shows(app, first, "ctrl+r replay")
            with connect_blocking(home, spawn=False, work=True) as other:
                second = other.call(TaskSubmit(queue="echo", payload={"n": 2})).id
                other.call(TaskWait(ids=(second,)))
            await press(app, "<")
            await hides(app, first)
            await press(app, "ctrl+r")
            await shows(app, "live again", first, second, "live")
            assert app.replaying.state is None
            assert not app.read_only
            await press(app, "ctrl+r")
            await wait_until(lambda: app.shell.prompted, "the prompt")
            await press(app, *"-1h", "enter")
            await hides(app, first, second)
            await say(app, "@", "end")
            await shows(app, second, " replay ", "where the ring was opened")
            await press(app, "q")
            await shows(app, "live again", "live")
            rings = list((home / "recordings").iterdir())
            assert [path.stat().st_mode & 0o777 for path in rings] == [0o600]
        await wait_until(lambda: not list((home / "recordings").iterdir()), "the ring goes with its console")


async def test_without_a_ring_it_says_how_to_have_one(console: Any) -> None:
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "live")
        await press(app, "ctrl+r")
        await shows(app, "aiwm --record", "aiwm replay FILE")
        for key in (",", ".", "<", ">", ";", "{", "}", "@"):
            await press(app, key)
            await shows(app, "not here: ctrl+r leads into the past")
            await press(app, "down")
