"""Ways out of a directory, tried with both ways of opening; and a naive resolver, which they get past."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.errors import AiwmError
from engine.tools.openat2 import openat2_works
from engine.tools.paths import MAX_DEPTH, Beneath, parts_of

SECRET = b"the secret outside"
INSIDE = b"inside"
KERNEL = pytest.param(True, id="openat2", marks=pytest.mark.skipif(not openat2_works(), reason="no openat2 here"))


class Naive(Beneath):
    """What everyone writes first: resolve the path, see that it begins with the root, then open it. Between the two lies the hole."""

    def __init__(self, root: Path) -> None:
        super().__init__(os.open(root, os.O_RDONLY | os.O_DIRECTORY))
        self._root = os.path.realpath(root)

    def read(self, path: str, max_bytes: int) -> bytes:
        found = os.path.realpath(os.path.join(self._root, path))
        if not found.startswith(self._root + "/"):
            raise AiwmError("path_violation", path)
        return Path(self._root, path).read_bytes()[:max_bytes]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A root with something inside, something outside that must stay there, and every sort of trap."""
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "sub" / "a.txt").write_bytes(INSIDE)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.txt").write_bytes(SECRET)
    (tmp_path / "root-twin").mkdir()  # begins with the root's name, and is not in it
    (tmp_path / "root-twin" / "a.txt").write_bytes(SECRET)
    (root / "file-link").symlink_to(tmp_path / "outside" / "a.txt")
    (root / "dir-link").symlink_to(tmp_path / "outside")
    (root / "up-link").symlink_to("../outside")
    (root / "inner-link").symlink_to("sub")
    (root / "loop").symlink_to("loop")
    (root / "proc-link").symlink_to("/proc/self/root")
    (root / "sub" / "deep" / "link").symlink_to("../../../outside/a.txt")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "sock"))
    return root


@pytest.fixture(params=[KERNEL, pytest.param(False, id="stepwise")])
def beneath(world: Path, request: pytest.FixtureRequest) -> Iterator[Beneath]:
    with Beneath.open(world, kernel=request.param) as opened:
        yield opened


OUTSIDE = [
    "..",
    "../outside/a.txt",
    "../root-twin/a.txt",
    "sub/../../outside/a.txt",
    "a/../../b",
    "./../outside/a.txt",
    "sub/deep/../../../outside/a.txt",
    "/etc/passwd",
    "//etc/passwd",
    "/proc/self/root/etc/passwd",
    "proc-link/etc/passwd",
    "file-link",
    "dir-link/a.txt",
    "up-link/a.txt",
    "inner-link/a.txt",
    "sub/deep/link",
    "loop",
    "loop/a.txt",
    "sub/a.txt\0.png",
    "\0",
    "sub\n/a.txt",
    "sub/\x1b[2Ja.txt",
    "sub/\u202etxt.a",
    "\u2025/outside/a.txt",  # TWO DOT LEADER becomes ..
    "\uff0e\uff0e/outside/a.txt",  # FULLWIDTH FULL STOP
    "..\uff0foutside\uff0fa.txt",  # FULLWIDTH SOLIDUS
    "sub\\..\\..\\outside\\a.txt",
    ".\u200b./outside/a.txt",
    "\ud800",
    "..%2foutside",
    "~/a.txt",
    "",
    ".",
    "sub/a.txt/",
    "sub/",
    "sub",
    "pipe",
    "sock",
    "sub/a.txt/x",
    "x" * 300,
    "/".join(["d"] * (MAX_DEPTH + 1)),
    "d/" * 3000 + "a",
]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: ascii(path)[:30])
def test_no_way_out_by_a_path(beneath: Beneath, path: str) -> None:
    with pytest.raises(AiwmError):
        beneath.read(path, 1000)
    with pytest.raises(AiwmError):
        os.close(beneath.open_file(path))


@pytest.mark.parametrize("path", ["sub/a.txt", "./sub/./a.txt", "sub//a.txt"])
def test_what_is_inside_is_found(beneath: Beneath, path: str) -> None:
    assert beneath.read(path, 1000) == INSIDE


@pytest.mark.parametrize(
    "path", ["..", "dir-link", "up-link", "inner-link", "loop", "/", "/proc/self/fd", "sub/a.txt", "pipe"]
)
def test_no_directory_outside_is_listed_or_entered(beneath: Beneath, path: str) -> None:
    with pytest.raises(AiwmError):
        beneath.entries(path)
    with pytest.raises(AiwmError):
        beneath.beneath(path)


def test_a_walk_meets_no_link_and_nothing_outside(beneath: Beneath) -> None:
    assert [entry.path for entry in beneath.walk(recursive=True)] == ["sub/a.txt"]
    assert list(beneath.walk(recursive=False)) == []
    kinds = {entry.path: entry.kind for entry in beneath.entries()}
    assert kinds["dir-link"] == kinds["pipe"] == kinds["sock"] == "other"
    assert kinds["sub"] == "directory"


WRITES = [
    path
    for path in OUTSIDE
    if path not in ("file-link", "loop", "pipe", "sock", "..%2foutside", "~/a.txt", "inner-link")
]


@pytest.mark.parametrize("path", WRITES, ids=lambda path: ascii(path)[:30])
def test_nothing_is_written_outside(beneath: Beneath, world: Path, path: str) -> None:
    if path == "sub/deep/link":  # replacing a link itself is allowed; see the next test
        return
    with pytest.raises(AiwmError):
        beneath.write(path, b"owned")
    assert _outside(world) == [SECRET, SECRET]


@pytest.mark.parametrize("path", ["file-link", "sub/deep/link", "loop", "pipe"])
def test_a_write_replaces_a_link_and_does_not_follow_it(beneath: Beneath, world: Path, path: str) -> None:
    beneath.write(path, b"mine")
    assert beneath.read(path, 10) == b"mine"
    assert _outside(world) == [SECRET, SECRET]


def test_a_second_name_of_a_file_outside_is_not_written_through(beneath: Beneath, world: Path) -> None:
    os.link(world.parent / "outside" / "a.txt", world / "same")
    beneath.write("same", b"mine")
    assert _outside(world) == [SECRET, SECRET]


def _outside(world: Path) -> list[bytes]:
    return [(world.parent / name / "a.txt").read_bytes() for name in ("outside", "root-twin")]


def test_a_pipe_without_a_writer_does_not_hold_us(beneath: Beneath) -> None:
    done = threading.Event()

    def read() -> None:
        with pytest.raises(AiwmError, match="not a regular file"):
            beneath.read("pipe", 10)
        done.set()

    threading.Thread(target=read, daemon=True).start()
    assert done.wait(10)


def test_a_file_may_have_its_limit_and_no_byte_more(beneath: Beneath, world: Path) -> None:
    (world / "sub" / "big").write_bytes(b"x" * 1000)
    assert len(beneath.read("sub/big", 1000)) == 1000
    with pytest.raises(AiwmError, match="more than the 999 bytes"):
        beneath.read("sub/big", 999)


def test_a_file_that_grows_while_it_is_read_is_cut_off(beneath: Beneath) -> None:
    """Files of /proc say that they have no bytes; only reading shows how many come."""
    with Beneath.open(Path("/proc/self")) as proc, pytest.raises(AiwmError, match="more than the 3 bytes"):
        proc.read("status", 3)


def _race(world: Path, attack: Callable[[str], bytes], tries: int) -> list[bytes]:
    """What reads of `swap/a.txt` gave while another thread made `swap` a directory and a link to the outside, in turns."""
    real, link, swap, bin_ = (world / name for name in ("real", "link", "swap", "bin"))
    (world / "swap").mkdir()
    (swap / "a.txt").write_bytes(INSIDE)
    link.symlink_to(world.parent / "outside")
    stop = threading.Event()
    swaps = 0

    def swapping() -> None:
        nonlocal swaps
        while not stop.is_set():
            try:
                os.rename(swap, real)
                os.rename(link, swap)
                os.rename(swap, bin_)
                os.rename(real, swap)
                os.rename(bin_, link)
            except OSError:  # a write has made a directory in the moment between: both are put aside, and on it goes
                for name in (swap, real):
                    if name.is_dir() and not name.is_symlink():
                        os.rename(name, world / f"aside-{os.urandom(4).hex()}")
                for name in (swap, bin_):
                    if name.is_symlink():
                        os.rename(name, link)
                (swap / "a.txt").parent.mkdir(exist_ok=True)
                (swap / "a.txt").write_bytes(INSIDE)
            swaps += 1

    thread = threading.Thread(target=swapping, daemon=True)
    thread.start()
    found = []
    try:
        count, latest = 0, time.monotonic() + 30.0
        while count < tries or (swaps <= 10 and time.monotonic() < latest):
            count += 1
            try:
                found.append(attack("swap/a.txt"))
            except (AiwmError, OSError):
                continue
            if found[-1] == SECRET:
                break
    finally:
        stop.set()
        thread.join()
    assert swaps > 10 or SECRET in found
    return found


def test_a_racing_swap_of_a_directory_for_a_link_finds_no_way_out(beneath: Beneath, world: Path) -> None:
    found = _race(world, lambda path: beneath.read(path, 100), 4000)
    assert SECRET not in found
    assert INSIDE in found, "the race never met the open directory: it proves nothing"


def test_the_race_would_find_a_naive_resolver_out(world: Path) -> None:
    with Naive(world) as naive:
        with pytest.raises(AiwmError):
            naive.read("../outside/a.txt", 100)
        assert SECRET in _race(world, lambda path: naive.read(path, 100), 200_000)


def test_a_racing_swap_does_not_lead_a_write_outside(beneath: Beneath, world: Path) -> None:
    def attack(path: str) -> bytes:
        beneath.write(path.replace("a.txt", "new.txt"), b"owned")
        return INSIDE

    _race(world, attack, 500)
    assert os.listdir(world.parent / "outside") == ["a.txt"]


@given(st.text(alphabet=st.sampled_from("./a\\\0\u2025\uff0f\uff0e\u202e~\n"), max_size=12))
def test_accepted_paths_are_plain_names(path: str) -> None:
    try:
        parts = parts_of(path, empty=True)
    except AiwmError:
        return
    assert all(part not in ("", ".", "..") and "/" not in part and part.isprintable() for part in parts)
    assert not f"{os.path.normpath('/'.join(parts) or '.')}/".startswith(("../", "/"))


def test_a_closed_directory_gives_nothing_away(beneath: Beneath) -> None:
    beneath.close()
    with pytest.raises(AiwmError, match="closed"):
        beneath.read("sub/a.txt", 10)
