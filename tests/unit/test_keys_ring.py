"""API keys: every way to find one, every way not to, to which hosts they go, and that nothing shows them."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
from pathlib import Path

import msgspec
import pytest

from engine.config import KeyConfig, KeyMethod, load_config
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.keys import KeyStatus
from engine.keys.ring import KeyRing
from engine.keys.vault import FILE_NAME, Vault
from engine.keys.writing import main as write_key
from engine.secret import Secret

TEXT = "sk-THE-KEY-ITSELF-0123456789"
PASSPHRASE = "correct horse"
HOST = "api.example.com"


def _ring(home: Path, method: KeyMethod, environ: dict[str, str] | None = None, **fields: object) -> KeyRing:
    key = KeyConfig(method=method, hosts=(HOST, "*.internal"), **fields)  # type: ignore[arg-type]
    return KeyRing({"k": key}, home, environ=environ or {})


def _text(ring: KeyRing) -> str:
    found = ring.resolve("k", HOST)
    assert found is not None
    return found.reveal()


def _fill(home: Path, monkeypatch: pytest.MonkeyPatch, key: str | None = TEXT, passphrase: str = PASSPHRASE) -> int:
    change = json.dumps({"passphrase": passphrase, "key": key}).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(change)))
    return write_key(["k", "--home", str(home)])


def test_from_the_environment(home: Path) -> None:
    assert _text(_ring(home, KeyMethod.env, {"K": TEXT}, value="K")) == TEXT
    assert _ring(home, KeyMethod.env, {}, value="K").check("k")[0] is KeyStatus.not_found
    assert _ring(home, KeyMethod.env, {"K": "  "}, value="K").check("k")[0] is KeyStatus.not_found
    assert _ring(home, KeyMethod.env).check("k")[0] is KeyStatus.not_configured


def test_inline_with_a_warning(home: Path) -> None:
    ring = _ring(home, KeyMethod.inline, secret=Secret(TEXT))
    assert _text(ring) == TEXT
    status, note = ring.check("k")
    assert status is KeyStatus.found
    assert "config.toml" in note
    assert _ring(home, KeyMethod.inline).check("k")[0] is KeyStatus.not_configured


def test_from_a_private_file(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "key"
    ring = _ring(home, KeyMethod.file, path=str(path))
    assert ring.check("k")[0] is KeyStatus.not_found
    path.write_text(f"{TEXT}\nmore\n")
    path.chmod(0o640)
    status, note = ring.check("k")
    assert status is KeyStatus.error
    assert "640" in note
    path.chmod(0o600)
    assert _text(ring) == TEXT
    path.write_bytes(b"\xff\xfe" + TEXT.encode())
    status, note = ring.check("k")
    assert status is KeyStatus.error
    assert TEXT not in note
    path.write_text("")
    assert ring.check("k")[0] is KeyStatus.not_found
    assert _ring(home, KeyMethod.file, path="relative").check("k")[0] is KeyStatus.not_configured
    assert _ring(home, KeyMethod.file, path=str(tmp_path)).check("k")[0] is KeyStatus.error


def test_a_pipe_in_the_place_of_a_key_file_does_not_hold_us(home: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert _ring(home, KeyMethod.file, path=str(tmp_path / "pipe")).check("k")[0] is KeyStatus.error


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_not_trusted(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(TEXT)
    path.chmod(0o600)
    os.chown(path, 12345, 12345)
    status, note = _ring(home, KeyMethod.file, path=str(path)).check("k")
    assert status is KeyStatus.error
    assert "another user" in note


def test_from_systemd(home: Path, tmp_path: Path) -> None:
    (tmp_path / "k").write_text(TEXT)
    (tmp_path / "k").chmod(0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert _text(_ring(home, KeyMethod.systemd, environ)) == TEXT
    assert _ring(home, KeyMethod.systemd, environ, value="other").check("k")[0] is KeyStatus.not_found
    assert _ring(home, KeyMethod.systemd, environ, value="../k").check("k")[0] is KeyStatus.not_configured
    assert _ring(home, KeyMethod.systemd).check("k")[0] is KeyStatus.not_found


def test_from_the_vault(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"AIWM_VAULT_PASSPHRASE": PASSPHRASE}
    ring = _ring(home, KeyMethod.vault, environ)
    assert ring.check("k")[0] is KeyStatus.not_found
    assert _fill(home, monkeypatch) == 0
    path = home / FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert TEXT.encode() not in path.read_bytes()
    fresh = _ring(home, KeyMethod.vault, environ)
    assert fresh.status("k")[0] is KeyStatus.unknown, "a list does no work"
    assert _text(fresh) == TEXT
    assert fresh.status("k")[0] is KeyStatus.found
    assert _ring(home, KeyMethod.vault).check("k")[0] is KeyStatus.not_configured
    assert _fill(home, monkeypatch, key="another") == 0
    assert _text(fresh) == "another"
    assert _fill(home, monkeypatch, key=None) == 0
    assert fresh.check("k")[0] is KeyStatus.not_found


def test_a_wrong_passphrase_and_a_damaged_vault_change_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _fill(home, monkeypatch) == 0
    before = (home / FILE_NAME).read_bytes()
    assert _fill(home, monkeypatch, passphrase="wrong") == 1
    assert (home / FILE_NAME).read_bytes() == before
    said = capfd.readouterr().err
    assert "does not open" in said
    assert TEXT not in said
    status, note = _ring(home, KeyMethod.vault, {"AIWM_VAULT_PASSPHRASE": "wrong"}).check("k")
    assert status is KeyStatus.error
    assert TEXT not in note
    document = json.loads(before)
    document["box"] = document["box"][:-8] + "AAAAAAA="
    (home / FILE_NAME).write_text(json.dumps(document))
    assert _ring(home, KeyMethod.vault, {"AIWM_VAULT_PASSPHRASE": PASSPHRASE}).check("k")[0] is KeyStatus.error
    (home / FILE_NAME).write_text(json.dumps(json.loads(before) | {"memory": 2**40}))
    assert _ring(home, KeyMethod.vault, {"AIWM_VAULT_PASSPHRASE": PASSPHRASE}).check("k")[0] is KeyStatus.error
    (home / FILE_NAME).write_bytes(before)
    (home / FILE_NAME).chmod(0o644)
    assert _ring(home, KeyMethod.vault, {"AIWM_VAULT_PASSPHRASE": PASSPHRASE}).check("k")[0] is KeyStatus.error


def test_two_writes_of_one_vault_use_two_nonces(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _fill(home, monkeypatch) == 0
    first = (home / FILE_NAME).read_bytes()
    Vault(home).change(Secret(PASSPHRASE), lambda keys: None)
    assert (home / FILE_NAME).read_bytes() != first


def test_a_key_goes_to_its_hosts_only(home: Path) -> None:
    ring = _ring(home, KeyMethod.env, {"K": TEXT}, value="K")
    assert ring.resolve("k", "API.Example.com") == Secret(TEXT)
    assert ring.resolve("k", "box.internal") == Secret(TEXT)
    for host in ("evil.com", "api.example.com.evil.com", "xapi.example.com", "api.example.com:8443", "", "internal"):
        with pytest.raises(AiwmError) as refused:
            ring.resolve("k", host)
        assert refused.value.code == Code.key_refused, host
    nowhere = KeyRing({"k": KeyConfig(method=KeyMethod.env, value="K")}, home, environ={"K": TEXT})
    with pytest.raises(AiwmError, match="may not be sent"):
        nowhere.resolve("k", HOST)


def test_a_missing_key_is_an_error_with_the_way_to_it(home: Path) -> None:
    with pytest.raises(AiwmError) as missing:
        _ring(home, KeyMethod.env, value="K").resolve("k", HOST)
    assert missing.value.code == Code.key_not_found
    assert missing.value.info.fix == "aiwm key check k"
    with pytest.raises(AiwmError, match='no key "j"'):
        _ring(home, KeyMethod.env, value="K").resolve("j", HOST)
    assert _ring(home, KeyMethod.none).resolve("k", "anywhere") is None
    assert _ring(home, KeyMethod.none).check("k")[0] is KeyStatus.found


def test_a_secret_comes_out_in_one_way_only() -> None:
    secret = Secret(TEXT)
    key = KeyConfig(method=KeyMethod.inline, secret=secret)
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>60}", repr(key), str([secret]), str({"k": key})):
        assert TEXT not in shown
    for encode in (msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins, pickle.dumps):
        for thing in (secret, key):
            with pytest.raises(TypeError):
                encode(thing)
    assert secret.reveal() == TEXT


def test_the_configuration_shows_everything_but_the_key(tmp_path: Path) -> None:
    loaded = load_config(
        {},
        _written(
            tmp_path,
            f'[keys.a]\nmethod = "inline"\nvalue = "{TEXT}"\nhosts = ["h"]\n[keys.b]\nmethod = "env"\nvalue = "B"\n',
        ),
    )
    assert TEXT not in repr(loaded)
    assert TEXT not in str(loaded.settings)
    shown = {setting.key: setting.value for setting in loaded.settings if setting.key.startswith("keys.")}
    assert shown == {
        "keys.a.method": "inline",
        "keys.a.value": "(hidden)",
        "keys.a.hosts": ["h"],
        "keys.b.method": "env",
        "keys.b.value": "B",
    }
    assert loaded.config.keys["a"].secret == Secret(TEXT)


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'[keys.a]\nmethod = "inlin"\nvalue = "{TEXT}"', "keys.a.method"),
        (f'[keys.a]\nmethod = "inline"\nvaleu = "{TEXT}"', "valeu"),
        (f'[keys.a]\nmethod = "inline"\nsecret = "{TEXT}"', "keys.a.secret"),
        (f'[keys."a b"]\nmethod = "inline"\nvalue = "{TEXT}"', "keys.a b"),
        (f'keys = "{TEXT}"', "keys"),
        ('[keys.a]\nmethod = "inline"\nvalue = 7', "keys.a.value"),
        ('[security]\nexternal_roots = ["/"]', "external_roots"),
        ('[security]\nexternal_roots = ["data"]', "external_roots"),
        ('[security]\nexternal_roots = ["/srv/../etc"]', "external_roots"),
    ],
)
def test_mistakes_in_the_configuration_are_named_without_the_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(AiwmError) as refused:
        load_config({}, _written(tmp_path, text))
    assert refused.value.code == Code.config_invalid
    assert said in str(refused.value)
    assert TEXT not in str(refused.value.info)


@pytest.mark.parametrize("name", ["AIWM_SECURITY__EXTERNAL_ROOTS", "AIWM_KEYS__A", "AIWM_KEYS__A__VALUE"])
def test_no_environment_variable_loosens_security(tmp_path: Path, name: str) -> None:
    with pytest.raises(AiwmError, match="read from files only"):
        load_config({name: '["/etc"]'}, tmp_path / "none.toml")
