"""The vault: API keys in one encrypted file of the home. SecretBox (XSalsa20-Poly1305) under a key that Argon2id makes of a passphrase."""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.secret import Secret

FILE_NAME = "keys.vault"
# RFC 9106's second recommendation. They are kept in the file, so that they can be raised without losing an old vault.
_PASSES = 3
_MEMORY = 64 * 2**20
_MOST_PASSES, _MOST_MEMORY = 64, 2**30


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    version: int = 1
    passes: int
    memory: int
    salt: str
    box: str


class Vault:
    """A home's vault. The derived key is remembered for as long as the file's salt stays, so a read costs Argon2id once.

    Methods block (a third of a second for the first); any thread may call them. Errors: `key_refused` for a wrong passphrase or a
    damaged file, `config_invalid` for a file that others may read."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE_NAME
        self._derived: tuple[tuple[object, ...], bytes] | None = None

    def exists(self) -> bool:
        return self.path.exists()

    def read(self, passphrase: Secret) -> dict[str, Secret]:
        """All keys by name. An absent vault has none."""
        file = self._load()
        return {} if file is None else {name: Secret(text) for name, text in self._open(file, passphrase).items()}

    def change(self, passphrase: Secret, change: Callable[[dict[str, str]], None]) -> None:
        """Let `change` alter the keys, then write the vault whole under a fresh nonce. The first change makes it, with a fresh salt."""
        from nacl.secret import SecretBox
        from nacl.utils import random

        with self._locked():
            file = self._load()
            keys = {} if file is None else self._open(file, passphrase)
            change(keys)
            if file is None:
                file = _File(passes=_PASSES, memory=_MEMORY, salt=_text(random(16)), box="")
            sealed = SecretBox(self._key(file, passphrase)).encrypt(msgspec.json.encode(keys))
            file.box = _text(bytes(sealed))
            self._write(msgspec.json.encode(file))

    def _open(self, file: _File, passphrase: Secret) -> dict[str, str]:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox

        try:
            plain = SecretBox(self._key(file, passphrase)).decrypt(_bytes(file.box))
            return msgspec.json.decode(plain, type=dict[str, str])
        except (CryptoError, msgspec.MsgspecError, ValueError):
            raise AiwmError(
                Code.key_refused,
                f"{FILE_NAME} does not open: the passphrase is wrong or the file is damaged",
                field="passphrase",
                fix="AIWM_VAULT_PASSPHRASE, or security.vault_passphrase_file in config.toml",
            ) from None

    def _key(self, file: _File, passphrase: Secret) -> bytes:
        from nacl.pwhash import argon2id
        from nacl.secret import SecretBox

        for_this = (file.salt, file.passes, file.memory, passphrase.reveal())
        if self._derived is None or self._derived[0] != for_this:
            if not (1 <= file.passes <= _MOST_PASSES and 8192 <= file.memory <= _MOST_MEMORY):
                raise AiwmError(Code.key_refused, f"{FILE_NAME} asks for more work than any vault of ours", field="key")
            key = argon2id.kdf(
                SecretBox.KEY_SIZE,
                passphrase.reveal().encode(),
                _bytes(file.salt),
                opslimit=file.passes,
                memlimit=file.memory,
            )
            self._derived = (for_this, key)
        return self._derived[1]

    def _load(self) -> _File | None:
        try:
            data = read_private(self.path)
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(data, type=_File)
        except NOT_JSON:
            raise AiwmError(
                Code.key_refused, f"{self.path} is no vault of ours", field="key", fix="restore it from a copy"
            ) from None

    def _write(self, data: bytes) -> None:
        temporary = self.path.with_suffix(f".{os.getpid()}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(self.path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def read_private(path: Path, most: int = 2**20) -> bytes:
    """A file that only its owner, who is us or root, may read. Raises `config_invalid` for any other, FileNotFoundError."""
    import stat

    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise AiwmError(Code.config_invalid, f"{path} is not a regular file", field="path")
        if found.st_uid not in (os.getuid(), 0):
            raise AiwmError(Code.config_invalid, f"{path} belongs to another user", field="path", fix=f"chown {path}")
        if found.st_mode & 0o077:
            raise AiwmError(
                Code.config_invalid,
                f"{path} may be read by others (mode {found.st_mode & 0o777:o})",
                field="path",
                fix=f"chmod 600 {path}",
            )
        return file.read(most)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
