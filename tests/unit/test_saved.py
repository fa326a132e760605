"""The operator's file: views and columns are kept, edits by hand survive, a damaged file is said and never written to."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from aiwm_tui import saved
from engine.contract.errors import AiwmError

HAND_MADE = """\
# my views
[views]
night = ":tasks  state:failed"   # the night shift
tasks = ":queues"
odd = 7

[columns]
tasks = ["id", "reason", "id"]
queues = "id"

[later]
something = "else"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIWM_CONFIG", str(tmp_path / "aiwm" / "config.toml"))
    return tmp_path / "aiwm" / "views.toml"


def test_nothing_is_kept_and_nothing_written_at_first(file: Path) -> None:
    assert saved.load() == saved.Saved()
    assert not file.parent.exists()


def test_a_view_is_kept_beside_the_configuration_and_forgotten(file: Path) -> None:
    assert saved.save_view("night", ":tasks state:failed") is None
    assert saved.save_view("night", ":tasks state:failed sort:-age") == ":tasks state:failed"
    assert file.stat().st_mode & 0o777 == 0o600
    assert saved.load().views == {"night": ":tasks state:failed sort:-age"}
    assert saved.forget_view("night") == ":tasks state:failed sort:-age"
    assert saved.load().views == {}
    with pytest.raises(AiwmError) as refused:
        saved.forget_view("nigth")
    assert refused.value.info.code == "not_found"


def test_columns_are_kept_and_none_means_the_screens_own(file: Path) -> None:
    saved.choose_columns("tasks", ["id", "tenant"])
    assert saved.load().columns == {"tasks": ("id", "tenant")}
    saved.choose_columns("tasks", [])
    assert saved.load().columns == {}
    assert "tenant" not in file.read_text("utf-8")


def test_what_is_written_by_hand_stays_and_what_means_nothing_is_named(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(HAND_MADE, "utf-8")
    kept = saved.load()
    assert kept.views == {"night": ":tasks state:failed"}
    assert kept.columns == {"tasks": ("id", "reason")}
    assert len(kept.trouble) == 3
    assert all(any(name in line for line in kept.trouble) for name in ("tasks", "odd", "queues"))
    saved.save_view("day", ":queues")
    text = file.read_text("utf-8")
    for line in HAND_MADE.strip().splitlines():
        assert line in text
    assert saved.load().views["day"] == ":queues"


@pytest.mark.parametrize("damage", [b'[views]\nnight = ":tasks\n', b"\xff\xfe", b"views = 3\ncolumns = []\n"])
def test_a_damaged_file_is_said_and_not_touched(file: Path, damage: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(damage)
    kept = saved.load()
    assert not kept.views
    assert kept.trouble
    assert "views.toml" in kept.trouble[0]
    with pytest.raises(AiwmError) as refused:
        saved.save_view("night", ":tasks")
    assert refused.value.info.code == "config_invalid"
    with pytest.raises(AiwmError):
        saved.choose_columns("tasks", ["id"])
    assert file.read_bytes() == damage
    assert [each.name for each in file.parent.iterdir()] == ["views.toml"], "no draft is left behind"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AIWM_CONFIG", str(tmp_path / "file" / "config.toml"))
    with pytest.raises(AiwmError, match=r"views\.toml cannot be"):
        saved.save_view("night", ":tasks")


def test_several_consoles_lose_nothing(file: Path) -> None:
    def keep(number: int) -> None:
        for round_ in range(4):
            saved.save_view(f"v{number}-{round_}", ":tasks")

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(saved.load().views) == 24


@pytest.mark.parametrize("name", ["", "Night", "a b", "-x", "x" * 41, "ü", "a/b", "tasks", "save"])
def test_names_that_no_view_can_have(name: str) -> None:
    with pytest.raises(AiwmError) as refused:
        saved.check_name(name, {"tasks", "save"})
    assert refused.value.info.field == "name"


def test_a_name_stands_for_its_location_and_a_filter_more() -> None:
    views = {"night": ":tasks state:failed"}
    assert saved.expanded(":night queue:etl", views) == ":tasks state:failed queue:etl"
    assert saved.expanded("night", views) == ":tasks state:failed"
    assert saved.expanded(":nights", views) == ":nights"
