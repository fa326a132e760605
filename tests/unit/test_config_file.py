"""Changing the user's configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import load_config
from engine.config_file import init, set_value
from engine.contract.errors import AiwmError
from engine.resources import default_config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "aiwm" / "config.toml"


def test_a_value_is_set_and_comments_stay(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('# mine\n[console]\ntheme = "dark" # at night\n\n[models]\nslots = 2\n')
    assert set_value("console.theme", "light", file) == "light"
    assert set_value("models.slots", "4", file) == 4
    assert set_value("http.port", "9000", file) == 9000
    text = file.read_text()
    assert "# mine" in text
    assert "# at night" in text
    config = load_config({}, file).config
    assert (config.console.theme, config.models.slots, config.http.port) == ("light", 4, 9000)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("models.slot", "3", "models.slots"),
        ("models.slots", "many", "models.slots"),
        ("models.slots", "0", "at least 1"),
        ("nothing", "1", "no setting"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(file: Path, key: str, value: str, said: str) -> None:
    file.parent.mkdir()
    file.write_text("[models]\nslots = 2\n")
    with pytest.raises(AiwmError) as caught:
        set_value(key, value, file)
    assert said in str(caught.value)
    assert "/tmp" not in str(caught.value).replace(str(file), "")
    assert file.read_text() == "[models]\nslots = 2\n"
    assert list(file.parent.iterdir()) == [file]


def test_a_fresh_file_says_everything_and_changes_nothing(file: Path) -> None:
    assert init(file) == file
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_config({}, file).config == load_config({}, file.with_name("none.toml")).config
    names = [line.split("=")[0].strip() for line in default_config().read_text().splitlines() if " = " in line]
    assert all(name.lstrip("# ") in file.read_text() for name in names)
    with pytest.raises(AiwmError, match="exists"):
        init(file)


def test_behind_a_link_it_is_the_file_that_changes(file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles" / "aiwm.toml"
    kept.parent.mkdir()
    kept.write_text("# mine\n")
    file.parent.mkdir()
    file.symlink_to(kept)
    set_value("models.slots", "4", file)
    assert file.is_symlink()
    assert "slots = 4" in kept.read_text()


def test_a_file_that_cannot_be_replaced_leaves_no_draft(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.parent.mkdir()
    file.write_text("# mine\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        set_value("models.slots", "4", file)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_text() == "# mine\n"
