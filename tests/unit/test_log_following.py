"""Logs as the engine reads them: pieces by place, lives, files that are cut, and clients that follow."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.contract.errors import AiwmError
from engine.contract.notifications import LogMore
from engine.contract.requests.logs import LogRead
from engine.inference.log_files import PIECE_BYTES, LogFiles, last_lines, lines_before, read_on
from engine.inference.log_following import MOST_FOLLOWED, LogFollowers
from engine.inference.log_operations import LogOperations
from engine.inference.process_log import open_log
from tests.support.manager_room import CALLER
from tests.support.screens import wait_until


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "logs" / "nano.0.log"
    path.parent.mkdir()
    return path


def _append(path: Path, text: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def test_pieces_lead_from_the_end_to_the_beginning(log: Path) -> None:
    written = "".join(f"line {number} {'x' * (number % 90)}\n" for number in range(20_000))
    log.write_text(written)
    last = last_lines("nano.0", log, 2)
    assert last.text.startswith("line 19998 ")
    text, start = last.text, last.start
    while start:
        piece = lines_before("nano.0", log, start)
        assert piece.next == start
        assert len(piece.text) <= PIECE_BYTES
        assert piece.text.startswith("line "), "only whole lines"
        text, start = piece.text + text, piece.start
    assert text == written
    log.write_text("y" * (PIECE_BYTES + 10))
    assert lines_before("nano.0", log, PIECE_BYTES + 10).start == 10, "one line longer than a piece is cut"


def test_a_character_of_which_a_part_is_written_waits(log: Path) -> None:
    log.write_bytes("grün"[:2].encode() + "ü".encode()[:1])
    piece = read_on("nano.0", log, 0, None)
    assert (piece.text, piece.next) == ("gr", 2)
    _append(log, "ü".encode()[1:] + b"n\xff")
    assert read_on("nano.0", log, piece.next, piece.life).text == "ün\N{REPLACEMENT CHARACTER}"


def test_rows_say_what_wrote_them_and_what_it_said_last(tmp_path: Path, log: Path) -> None:
    for name, text in (("nano.0", "a\nb\x1b[31m\n\n"), ("engine", ""), ("kind-i-4", "k\n"), ("supervisor-care", "s\n")):
        (log.parent / f"{name}.log").write_text(text)
    (log.parent / "nano.0.log.2").write_text("older\n")
    rows = {row.id: row for row in LogFiles(tmp_path).rows()}
    assert {name: row.kind for name, row in rows.items()} == {
        "nano.0": "model",
        "engine": "engine",
        "kind-i-4": "worker",
        "supervisor-care": "supervisor",
    }
    assert (rows["nano.0"].last, rows["nano.0"].lives, rows["engine"].last) == ("b [31m", 1, "")


def test_a_link_is_no_log(tmp_path: Path, log: Path) -> None:
    (tmp_path / "secret").write_text("of somebody else\n")
    log.symlink_to(tmp_path / "secret")
    assert LogFiles(tmp_path).rows() == []


async def test_a_place_before_a_log_is_refused(tmp_path: Path, log: Path) -> None:
    _append(log, "x\n" * PIECE_BYTES)
    logs = LogOperations(tmp_path, lambda: False, lambda: None)
    for before in (-1, -5):
        with pytest.raises(AiwmError, match="before is -"):
            await logs.read(LogRead(name="nano.0", before=before), CALLER)


class _Client:
    """Hears pieces; takes none while it is `busy`."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.busy = False
        self.refused = 0

    def send(self, note: Any) -> bool:
        assert isinstance(note, LogMore)
        if not self.busy:
            self.pieces.append(note.piece)
        self.refused += self.busy
        return not self.busy

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    def has(self, lines: int) -> bool:
        return self.text.count("\n") == lines


async def test_what_is_written_is_told_and_a_new_life_too(log: Path) -> None:
    followers, client = LogFollowers(), _Client()
    _append(log, "one\n")
    stream = followers.follow("nano.0", log, 0, None, 1, client.send)
    await wait_until(lambda: client.text == "one\n")
    client.busy = True
    _append(log, "two\n")
    await wait_until(lambda: client.refused > 1)
    assert client.text == "one\n"
    client.busy = False
    await wait_until(lambda: client.text == "one\ntwo\n")
    with open_log(log) as file:
        file.write(b"again\n")
    await wait_until(lambda: client.text.endswith("again\n"))
    assert client.pieces[-1].life != client.pieces[0].life
    with log.open("r+b") as file:
        file.truncate(0)
        file.write(b"cut\n")
    await wait_until(lambda: client.text.endswith("cut\n"))
    assert client.pieces[-1].start == 0
    followers.unfollow(2, stream)
    _append(log, "more\n")
    await wait_until(lambda: client.text.endswith("more\n"))
    followers.unfollow(1, stream)
    assert followers._timer is None, "nobody follows: nothing runs"


async def test_a_log_that_is_not_there_yet_is_followed_when_it_comes(log: Path) -> None:
    followers, client = LogFollowers(), _Client()
    followers.follow("nano.0", log, 0, None, 1, client.send)
    _append(log, "there\n")
    await wait_until(lambda: client.text == "there\n")
    followers.leave(1)
    assert followers._timer is None


async def test_a_thin_line_is_told_less_often(log: Path) -> None:
    followers, quick, thin = LogFollowers(), _Client(), _Client()
    followers.follow("nano.0", log, 0, None, 1, quick.send)
    followers.follow("nano.0", log, 0, None, 2, thin.send, every_ms=600)
    for number in range(4):
        _append(log, f"{number}\n")
        await wait_until(partial(quick.has, number + 1))
    await wait_until(lambda: thin.text == quick.text)
    assert len(thin.pieces) < len(quick.pieces) == 4
    followers.leave(1)
    followers.leave(2)


async def test_a_client_follows_so_many_logs_and_no_more(log: Path) -> None:
    followers, client = LogFollowers(), _Client()
    for _ in range(MOST_FOLLOWED):
        followers.follow("nano.0", log, 0, None, 1, client.send)
    with pytest.raises(AiwmError, match=f"{MOST_FOLLOWED} logs"):
        followers.follow("nano.0", log, 0, None, 1, client.send)
    followers.follow("nano.0", log, 0, None, 2, client.send)
    followers.leave(1)
    followers.leave(2)


async def test_the_table_is_looked_at_again_while_somebody_looks(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.inference.log_operations._AGAIN_S", 0.02)
    changes: list[str] = []
    watched = True
    logs = LogOperations(tmp_path, lambda: watched, lambda: changes.append("changed"))
    assert logs.rows() == []
    _append(log, "one\n")
    await wait_until(lambda: changes)
    watched = False
    assert logs._timer is not None
    await wait_until(lambda: logs._timer is None)
