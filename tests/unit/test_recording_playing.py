"""Moving in a recording, and what rooms are given that only answer."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from engine.contract.errors import AiwmError, Code
from engine.replaying import player as playing
from engine.replaying.folder import clear, playing_folder
from engine.replaying.player import KEEP_EVERY
from engine.store import image
from tests.support.recordings import COMPARED, OS, House, played, recorded
from tests.support.screens import wait_until
from tests.support.stored import T0, event, insert, open_store


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    found = House(tmp_path)
    yield found
    await found.recorder.close()
    await found.store.close()


async def test_steps_go_from_commit_to_commit_and_no_further(house: House, tmp_path: Path) -> None:
    found = await played([await recorded(house, tmp_path, tasks=3)], tmp_path / "played")
    player = found.player
    try:
        counts = []
        for step in (1, 1, 1, 1, -1, -1, -1, -1, 2):
            await player.step(step)
            counts.append(len(found.rows()["tasks"]))
        assert counts == [1, 2, 3, 3, 2, 1, 0, 0, 2]
        assert player.state.at_ms == found.tape.from_ms + 2000
    finally:
        await found.close()


async def test_playing_goes_on_by_itself_and_stops_at_the_end(house: House, tmp_path: Path) -> None:
    found = await played([await recorded(house, tmp_path, tasks=3)], tmp_path / "played")
    ended = asyncio.Event()
    found.player.told = lambda: ended.set() if found.player.state.at_ms >= found.tape.to_ms else None
    try:
        with pytest.raises(AiwmError, match="speed"):
            found.player.play(True, 0)
        found.player.play(True, 100)
        await asyncio.wait_for(ended.wait(), 10)
        await wait_until(lambda: not found.player.state.playing, "it stands")
        assert len(found.rows()["tasks"]) == 3
    finally:
        await found.close()


async def test_who_goes_in_the_middle_of_a_move_leaves_a_whole_one(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await played([await recorded(house, tmp_path)], tmp_path / "played")
    await found.player.seek(2**53)
    there, go_on = asyncio.Event(), asyncio.Event()
    become = found.store.become

    async def slow(path: Path) -> None:
        await become(path)
        there.set()
        await go_on.wait()

    monkeypatch.setattr(found.store, "become", slow)
    try:
        asked = asyncio.ensure_future(found.player.seek(0))
        await asyncio.wait_for(there.wait(), 10)
        asked.cancel()
        go_on.set()
        await found.player.seek(2**53)
        assert len(found.rows()["tasks"]) == 5
        assert found.player.state.skipped == 0
    finally:
        await found.close()


async def test_playing_ends_where_the_disk_takes_no_more(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await played([await recorded(house, tmp_path)], tmp_path / "played")

    async def full(path: Path) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    await found.player.seek(2**53)
    await found.player.seek(0)
    monkeypatch.setattr(found.store, "keep", full)
    found.player._images[0] = msgspec.structs.replace(found.player._images[0], ops=-KEEP_EVERY)
    try:
        found.player.play(True, 1000)
        await wait_until(lambda: not found.player.state.playing, "it stands")
        assert "full" in found.player.state.ends
        assert found.player.state.cut
    finally:
        await found.close()


async def test_images_take_no_more_bytes_than_they_may(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many fit, every moment is reached, and none is further from an image than it must be."""
    file = await recorded(house, tmp_path, tasks=40)
    monkeypatch.setattr(playing, "KEEP_EVERY", 8)
    monkeypatch.setattr(playing, "_AT_ONCE", 2)
    for fit in (9, 3, 1):
        found = await played([file], tmp_path / f"played-{fit}")
        player, folder = found.player, tmp_path / f"played-{fit}"
        most = fit * found.store.size + found.store.size // 2
        monkeypatch.setattr(playing, "IMAGES_BYTES", most)
        try:
            for place in (40, 3, 39, 20, 0, 40):
                await player.seek(found.tape.steps[place - 1] if place else 0)
                assert len(found.rows()["tasks"]) == place
                kept = list(folder.glob("image-*.db"))
                assert sum(path.stat().st_size for path in kept) <= most
                assert {image.path for image in player._images} == set(kept)
            assert len(kept) == (1 if fit == 1 else pytest.approx(fit, abs=fit // 2))
            apart = [after.ops - before.ops for before, after in zip(player._images, player._images[1:], strict=False)]
            assert all(gap >= 8 for gap in apart)
            assert not apart or max(apart) <= 2 * min(apart)
        finally:
            await found.close()


def test_what_a_killed_one_leaves_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "aiwm-replay-left"
    begun = tmp_path / "aiwm-replay-begun"
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "aiwm-replay-link"
    for folder in (left, begun, elsewhere):
        folder.mkdir()
        (folder / "replay.db").write_bytes(b"x")
    (left / "lock").write_text("12345\n")
    (elsewhere / "lock").write_text("12345\n")
    link.symlink_to(elsewhere)
    with playing_folder() as mine:
        assert sorted(tmp_path.iterdir()) == sorted([mine, begun, elsewhere, link])
        clear(tmp_path)
        assert mine.exists(), "somebody plays in it"
        os.utime(begun, (1, 1))
        clear(tmp_path)
        assert not begun.exists()
    assert sorted(tmp_path.iterdir()) == sorted([elsewhere, link])
    assert (elsewhere / "replay.db").exists()


async def test_rooms_are_given_a_journal_that_writes_nothing(house: House, tmp_path: Path) -> None:
    found = await played([await recorded(house, tmp_path)], tmp_path / "played")
    try:
        heard: list[object] = []
        found.store.journal.on_commit(heard.append)
        with pytest.raises(AiwmError) as caught:
            await found.store.journal.write((insert(99),), OS)
        assert caught.value.code == Code.read_only
        await found.player.seek(2**53)
        assert not heard
        assert found.store.counters() == {("q", "pending"): 5}
    finally:
        await found.close()


async def test_the_snapshot_is_bounded_and_says_what_it_has_not(tmp_path: Path) -> None:
    store = open_store(tmp_path / "aiwm.db")
    for _ in range(30):
        seq = store.journal.next_seq()
        await store.journal.write((insert(seq, payload=b'"%s"' % (b"x" * 5000)), event("task.submitted", seq)), OS)
    connection = image.pin(tmp_path / "aiwm.db")
    limits = image.Limits(waiting=10, events=7, bodies_bytes=12_000)
    parts = list(image.read_out(connection, limits, T0))
    connection.close()
    await store.close()
    sizes = {table: sum(len(part.rows) for part in parts if part.table == table) for table in COMPARED}
    assert (sizes["tasks"], sizes["events"]) == (10, 7)
    assert 0 < sizes["payloads"] < 30
