"""The operator's own keys: what is taken, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiwm_tui.actions import ACTIONS, BY_ID, available, footer, meant
from aiwm_tui.keymap import bindings, keyed
from aiwm_tui.preferences import preferences
from engine.config import load_config
from engine.config_file import set_value
from engine.contract.errors import AiwmError, Code


def _keys(text: str, action: str = "retry") -> str:
    return next(each for each in keyed({action: text}) if each.id == action).keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("f5", "f5"),
        ("F5", "f5"),
        ("ctrl+y", "ctrl+y"),
        ("f5, ctrl+y", "f5,ctrl+y"),
        ("Q", "Q"),
        ("&", "ampersand"),
        ("insert", "insert"),
        ("alt+r", "alt+r"),
        ("shift+f5", "shift+f5"),
        ("R", "R"),
    ],
)
def test_keys_as_people_write_them(text: str, keys: str) -> None:
    assert _keys(text) == keys


@pytest.mark.parametrize(
    ("overrides", "field", "words"),
    [
        ({"retyr": "f5"}, "keymap.retyr", ("there is no action", "retry")),
        ({"retry": "hyper+x"}, "keymap.retry", ("hyper+x", "is no key")),
        ({"retry": ""}, "keymap.retry", ("is no key",)),
        ({"retry": "f5,"}, "keymap.retry", ("is no key",)),
        ({"retry": "ctrl+i"}, "keymap.retry", ("terminals send Tab",)),
        ({"retry": "ctrl+["}, "keymap.retry", ("terminals send escape",)),
        ({"retry": "X"}, "keymap.retry", ("X is the key of", "cancel")),
        ({"retry": "f1"}, "keymap.retry", ("help",)),
        ({"retry": "/"}, "keymap.retry", ("/ is the key of", "filter")),
        ({"go_tasks": "5"}, "keymap.go_tasks", ("5 is the key of",)),
        ({"retry": "f5", "cancel": "f5"}, "keymap.retry", ("cancel",)),
    ],
)
def test_what_cannot_be_is_refused_by_name(overrides: dict[str, str], field: str, words: tuple[str, ...]) -> None:
    with pytest.raises(AiwmError) as caught:
        keyed(overrides)
    assert caught.value.code == Code.config_invalid
    assert caught.value.info.field == field
    assert all(word in str(caught.value) for word in words)


def test_a_key_may_be_given_away_and_taken() -> None:
    changed = {each.id: each for each in keyed({"retry": "X", "cancel": "R"})}
    assert (changed["retry"].shown, changed["cancel"].shown) == ("X", "R")


def test_one_key_may_mean_two_things_on_two_tables() -> None:
    changed = keyed({"restart": "X", "unload_now": "f7"})
    by_id = {each.id: each for each in changed}
    assert meant(by_id["restart"], "models", actions=changed)
    assert not meant(by_id["cancel"], "models", actions=changed)
    assert meant(by_id["cancel"], "tasks", actions=changed)


def test_an_action_may_keep_a_key_that_it_shares_in_the_table() -> None:
    assert _keys("ctrl+f,/", "filter") == "ctrl+f,slash"
    assert _keys("1,f6", "go_overview") == "1,f6"


def test_nobody_is_locked_in() -> None:
    assert _keys("f10", "quit") == "f10,ctrl+c"


def test_footer_and_help_show_what_was_changed() -> None:
    changed = keyed({"retry": "f5", "cursor_down": "f6"})
    assert any(each.shown == "f5" and each.id == "retry" for each in footer("tasks", actions=changed))
    moves = {each.id: each for each in available("tasks", actions=changed)}
    assert (moves["cursor_up"].shown, moves["cursor_down"].shown) == ("up", "f6")
    assert moves["cursor_down"].help
    assert {each.id for each in changed} == {each.id for each in ACTIONS}
    assert [each.id for each in bindings(changed)] == [each.id for each in ACTIONS]


def test_every_action_can_have_another_key() -> None:
    for action in ACTIONS:
        changed = next(each for each in keyed({action.id: "f12"}) if each.id == action.id)
        assert changed.keys.startswith("f12"), action.id
        assert BY_ID[action.id].keys == action.keys


def test_it_is_read_from_the_file_with_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[keymap]\nretry = "f5"\n[console]\nmouse = false\nbandwidth = "small"\nread_only = true\n')
    monkeypatch.setenv("AIWM_CONFIG", str(path))
    loaded = load_config()
    assert any((one.key, one.value, one.origin) == ("keymap.retry", "f5", str(path)) for one in loaded.settings)
    wants = preferences()
    assert next(each for each in wants.actions if each.id == "retry").keys == "f5"
    assert (wants.mouse, wants.lean, wants.read_only) == (False, True, True)
    assert preferences(mouse=True, bandwidth="full").mouse
    assert not preferences(bandwidth="full").lean
    path.write_text("[keymap]\nretry = 5\n")
    with pytest.raises(AiwmError, match=r"keymap\.retry must be text"):
        load_config()


def test_a_key_is_set_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("AIWM_CONFIG", str(path))
    assert set_value("keymap.retry", "f5", path) == "f5"
    assert set_value("keymap.mark", "5", path) == "5"
    assert load_config({}, path).config.keymap == {"retry": "f5", "mark": "5"}


@pytest.mark.parametrize(
    ("environment", "ssh", "lean"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, False, True),
        ({"SSH_TTY": "/dev/pts/1", "AIWM_CONSOLE__BANDWIDTH": "full"}, True, False),
        ({"AIWM_CONSOLE__BANDWIDTH": "small"}, False, True),
    ],
)
def test_over_ssh_the_line_is_thin(
    environment: dict[str, str], ssh: bool, lean: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIWM_CONFIG", str(tmp_path / "none.toml"))
    for name in ("SSH_CONNECTION", "SSH_TTY", "AIWM_CONSOLE__BANDWIDTH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert preferences(ssh=ssh).lean is lean
    with pytest.raises(AiwmError, match="is no bandwidth"):
        preferences(bandwidth="tiny")
