"""Homes: one socket by whichever name, and no folder of another's is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.home import make_home, socket_path


def test_a_home_has_one_socket_by_whichever_of_its_names(tmp_path: Path) -> None:
    real = tmp_path / ("x" * 120)
    real.mkdir()
    short = tmp_path / "short"
    short.symlink_to(real)
    assert socket_path(short) == socket_path(real)
    assert len(str(socket_path(real))) <= 100


def test_a_home_is_its_owners_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    make_home(home)
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_runtime_folder_that_others_may_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shared))
    with pytest.raises(PermissionError, match="yours alone"):
        make_home(tmp_path / ("x" * 120))
