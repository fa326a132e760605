"""`aiwm info`: says where everything is, and neither starts nor makes anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiwm_tui.actions import ACTIONS
from tests.support.cli import Run


def test_it_says_where_everything_is(aiwm: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIWM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("AIWM_HOME", str(home))
    (tmp_path / "config.toml").write_text('[console]\ntheme = "light"\nmouse = false\n')
    data = aiwm("info", "--json").json["data"]
    assert data["paths"]["configuration"] == {"path": str(tmp_path / "config.toml"), "exists": True}
    assert data["paths"]["database"] == {"path": str(home / "aiwm.db"), "exists": False}
    assert data["engine"]["running"] is False
    assert (data["console"]["theme"], data["console"]["mouse"]) == ("light", False)
    assert "aiwm.db (not there)" in aiwm("info").out


def test_a_home_that_is_not_there_is_not_made(aiwm: Run, tmp_path: Path) -> None:
    assert aiwm("info", "--json", "--home", str(tmp_path / "none")).code == 0
    assert not (tmp_path / "none").exists()


def test_a_configuration_that_is_refused_is_said_and_not_in_the_way(
    aiwm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIWM_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text('[keymap]\nretyr = "f5"\n')
    data = aiwm("info", "--json").json["data"]
    assert 'there is no action "retyr"' in data["console"]["configuration"]


def test_keys_lists_every_action_with_the_operators_own_keys(
    aiwm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIWM_CONFIG", str(tmp_path / "config.toml"))
    assert aiwm("config", "set", "keymap.retry", "f5").code == 0
    rows = {row["id"]: row["keys"] for row in aiwm("info", "--keys", "--json").json["data"]}
    assert rows["retry"] == "f5"
    assert "retry" in aiwm("info", "--keys").out
    assert set(rows) == {action.id for action in ACTIONS}
    refused = aiwm("config", "set", "keymap.retry", "X")
    assert refused.code == 2
    assert "X is the key of" in refused.err
    origin = aiwm("config", "path").out.strip()
    assert "keymap" in Path(origin).read_text("utf-8")
