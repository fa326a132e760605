"""A full disk: callers are told, nothing that was acknowledged is lost, and work goes on when there is room again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.contract.errors import AiwmError
from engine.contract.states import Durability, TaskState
from engine.store.store import Store
from tests.support.stored import check_file, end, insert, open_store, start
from tests.support.waiting import until

PAYLOAD = json.dumps({"prompt": "x" * 3000}).encode()


class Outcome:
    """What a run into the wall left: numbers that were acknowledged, ones that were refused, and the codes."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.refused: list[int] = []
        self.codes: set[str] = set()


async def _submit(store: Store, outcome: Outcome) -> None:
    seq = store.journal.next_seq()
    try:
        await store.journal.write((insert(seq, payload=PAYLOAD),), Durability.disk)
        outcome.acknowledged.append(seq)
    except AiwmError as error:
        outcome.refused.append(seq)
        outcome.codes.add(error.code)


async def run_into_the_wall(path: Path, shrink: Callable[[Store], None], grow: Callable[[Store], None]) -> Outcome:
    """Fill the disk with tasks, see the failure, make room, go on; everything is checked on the way."""
    store, outcome = open_store(path), Outcome()
    failed: list[str] = []
    store.journal.on_failed(lambda error: failed.append(error.code))
    await _submit(store, outcome)
    running = outcome.acknowledged[0]
    await store.journal.write((start(running),), Durability.disk)
    shrink(store)
    while not outcome.refused:
        await asyncio.gather(*(_submit(store, outcome) for _ in range(20)))
        assert len(outcome.acknowledged) < 100_000
    assert outcome.codes == {"storage_failed"}
    assert store.journal.state == "failed"
    assert failed == ["storage_failed"]
    with pytest.raises(AiwmError, match="cannot be written"):
        await store.journal.write((end(running, result=b"1"),), Durability.disk)
    # What was acknowledged can still be read, what was refused is not there.
    assert all(store.readers.payload(seq) == PAYLOAD for seq in outcome.acknowledged)
    assert not any(store.readers.task(seq) for seq in outcome.refused)
    assert sum(store.counters().values()) == len(outcome.acknowledged)
    grow(store)
    await until(lambda: store.journal.state == "working", 30)
    assert not (await store.journal.write((end(running, result=b"1"),), Durability.disk)).fenced
    await _submit(store, outcome)
    row = store.readers.task(running)
    assert row is not None
    assert row.state == TaskState.completed
    await store.close()
    check_file(path)
    again = open_store(path)
    assert sum(again.counters().values()) == len(outcome.acknowledged)
    assert all(again.readers.payload(seq) == PAYLOAD for seq in outcome.acknowledged)
    await again.close()
    return outcome


async def test_no_page_left(tmp_path: Path) -> None:
    """SQLite's own limit on pages: the same error as a full disk, to be had anywhere."""

    def limit(pages: int) -> Callable[[Store], None]:
        def set_limit(store: Store) -> None:
            count = store._writer._connection.execute("PRAGMA page_count").fetchone()[0]
            store._writer._connection.execute(f"PRAGMA max_page_count = {count + pages}")

        return set_limit

    outcome = await run_into_the_wall(tmp_path / "aiwm.db", limit(60), limit(10_000))
    assert len(outcome.acknowledged) >= 20


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 2 MB. Needs the right to mount one."""
    with tempfile.TemporaryDirectory() as folder:
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
        )
        if mount.returncode:
            pytest.skip("no right to mount a small file system here")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=False)


async def test_no_space_left_on_the_device(small_disk: Path) -> None:
    ballast = small_disk / "ballast"

    def shrink(_: Store) -> None:
        free = os.statvfs(small_disk)
        ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - 400_000)))

    outcome = await run_into_the_wall(small_disk / "aiwm.db", shrink, lambda _: ballast.unlink())
    assert len(outcome.acknowledged) >= 5


def _fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return ballast


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def _in_a_process_of_its_own(path: Path) -> None:
    def shrink(_: Store) -> None:
        _limit_files(os.stat(f"{path}-wal").st_size + 300_000)

    outcome = asyncio.run(run_into_the_wall(path, shrink, lambda _: _limit_files(resource.RLIM_INFINITY)))
    print(json.dumps([len(outcome.acknowledged), len(outcome.refused)]))


def test_no_file_may_grow(tmp_path: Path) -> None:
    """A limit on file sizes (quota, ulimit -f) makes writes fail with another error than a full disk."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path.cwd())!r});"
        "import pathlib, importlib.util as u;"
        f"spec = u.spec_from_file_location('wall', {__file__!r}); module = u.module_from_spec(spec); spec.loader.exec_module(module);"
        f"module._in_a_process_of_its_own(pathlib.Path({str(tmp_path / 'aiwm.db')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    acknowledged, refused = json.loads(done.stdout)
    assert acknowledged >= 20
    assert refused >= 1


async def test_a_disk_that_is_full_at_the_start_is_an_error_in_words(small_disk: Path) -> None:
    ballast = _fill(small_disk)
    with pytest.raises(AiwmError, match="cannot be opened") as caught:
        open_store(small_disk / "aiwm.db")
    assert caught.value.code == "storage_failed"
    ballast.unlink()
    store = open_store(small_disk / "aiwm.db")
    assert store.counters() == {}
    await store.close()
