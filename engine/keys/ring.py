"""The key ring: API keys by name, from wherever config.toml says, for the hosts that it lists and for no other."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from engine.config import KeyConfig, KeyMethod
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.keys import KeyStatus
from engine.contract.suggest import nearest
from engine.keys.vault import Vault, read_private
from engine.secret import Secret

PASSPHRASE = "AIWM_VAULT_PASSPHRASE"
CREDENTIAL = "aiwm-vault-passphrase"


class _Missing(Exception):
    """The key is not there. `status` says in which way; the text says what was looked for, never what was found."""

    def __init__(self, status: KeyStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class KeyRing:
    """Finds keys when they are needed and keeps none. Methods block on files (and on Argon2id, once): call them in a thread."""

    def __init__(
        self,
        keys: Mapping[str, KeyConfig],
        home: Path,
        passphrase_file: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.keys = keys
        self._vault = Vault(home)
        self._passphrase_file = passphrase_file
        self._environ = os.environ if environ is None else environ
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[KeyStatus, str]] = {}

    def resolve(self, name: str, host: str) -> Secret | None:
        """The key to send to a host (`api.example.com`, with a port where it is not the usual one); None when it needs none.

        Raises `key_refused` for a host that the key is not listed for, `key_not_found` when there is no such key now."""
        key = self._configured(name)
        if key.method is KeyMethod.none:
            return None
        if not may_go_to(host, key):
            raise AiwmError(
                Code.key_refused,
                f'the key "{name}" may not be sent to {host[:100]!a}',
                field="key",
                fix=f"add it to hosts of [keys.{name}] in config.toml" if key.hosts else f"[keys.{name}] needs hosts",
            )
        try:
            found = self._find(name, key)
        except _Missing as missing:
            self._seen[name] = (missing.status, str(missing))
            raise AiwmError(
                Code.key_not_found, f'the key "{name}": {missing}', field="key", fix=f"aiwm key check {name}"
            ) from None
        except AiwmError as error:
            self._seen[name] = (KeyStatus.error, error.info.message)
            raise
        self._seen[name] = (KeyStatus.found, "")
        return found

    async def require(self, name: str) -> None:
        """Raises `key_not_found` unless the key is there (`ports.Keys`): a call that needs it does not begin."""
        status, why = await asyncio.to_thread(self.check, name)
        if status is not KeyStatus.found:
            raise AiwmError(
                Code.key_not_found,
                f'the API key "{name[:64]}" is {status}: {why}',
                field="key",
                fix=f"aiwm key check {name[:64]}",
            )

    def check(self, name: str) -> tuple[KeyStatus, str]:
        """Look for a key now: its status, and one sentence about what is wrong. Never its text."""
        key = self.keys.get(name)
        if key is None:
            return KeyStatus.not_configured, f"config.toml has no [keys.{name[:64]}]"
        try:
            if key.method is not KeyMethod.none:
                self._find(name, key)
            status = (KeyStatus.found, _warning(key))
        except _Missing as missing:
            status = (missing.status, str(missing))
        except AiwmError as error:
            status = (KeyStatus.error, error.info.message)
        self._seen[name] = status
        return status

    def status(self, name: str) -> tuple[KeyStatus, str]:
        """A key's status without work: a vault that was not opened yet is `unknown`."""
        key = self.keys.get(name)
        if key is None or key.method is not KeyMethod.vault:
            return self.check(name)
        return self._seen.get(name, (KeyStatus.unknown, f"aiwm key check {name} opens the vault"))

    def _configured(self, name: str) -> KeyConfig:
        key = self.keys.get(name)
        if key is None:
            raise AiwmError(
                Code.key_not_found,
                f'config.toml has no key "{name[:64]}"',
                field="key",
                fix=nearest(name, self.keys) or f"[keys.{name[:64]}] in config.toml",
            )
        return key

    def _find(self, name: str, key: KeyConfig) -> Secret:
        if key.method is KeyMethod.env:
            return self._from_environment(key.value)
        if key.method is KeyMethod.inline:
            if key.secret is None:
                raise _Missing(KeyStatus.not_configured, "value is empty")
            return key.secret
        if key.method is KeyMethod.file:
            if not key.path.startswith("/"):
                raise _Missing(KeyStatus.not_configured, "path must be an absolute file name")
            return _from_file(Path(key.path))
        if key.method is KeyMethod.systemd:
            return self._credential(key.value or name)
        return self._from_vault(name)

    def _from_environment(self, variable: str) -> Secret:
        if not variable:
            raise _Missing(KeyStatus.not_configured, "value must name an environment variable")
        text = self._environ.get(variable, "").strip()
        if not text:
            raise _Missing(KeyStatus.not_found, f"the environment variable {variable[:64]} is not set")
        return Secret(text)

    def _credential(self, name: str) -> Secret:
        folder = self._environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            raise _Missing(KeyStatus.not_found, "systemd gave no credentials (CREDENTIALS_DIRECTORY is not set)")
        if "/" in name or name in (".", ".."):
            raise _Missing(KeyStatus.not_configured, "value must be the name of a credential")
        return _from_file(Path(folder) / name)

    def _from_vault(self, name: str) -> Secret:
        if not self._vault.exists():
            raise _Missing(KeyStatus.not_found, f"there is no vault yet: aiwm key set {name}")
        with self._lock:
            found = self._vault.read(self._passphrase()).get(name)
        if found is None:
            raise _Missing(KeyStatus.not_found, f"the vault has no such key: aiwm key set {name}")
        return found

    def _passphrase(self) -> Secret:
        text = self._environ.get(PASSPHRASE, "")
        if text:
            return Secret(text)
        if self._passphrase_file:
            return _from_file(Path(self._passphrase_file))
        if self._environ.get("CREDENTIALS_DIRECTORY"):
            return self._credential(CREDENTIAL)
        raise _Missing(
            KeyStatus.not_configured,
            f"the vault's passphrase is nowhere: {PASSPHRASE}, or security.vault_passphrase_file",
        )


def may_go_to(host: str, key: KeyConfig) -> bool:
    """Whether a key is listed for a host (with its port where it is not the usual one). One that is none goes nowhere, and so anywhere."""
    return key.method is KeyMethod.none or any(fnmatchcase(host.lower(), pattern.lower()) for pattern in key.hosts)


def _from_file(path: Path) -> Secret:
    """The first line of a private file."""
    try:
        text = read_private(path).decode("utf-8", "strict").strip()
    except FileNotFoundError:
        raise _Missing(KeyStatus.not_found, f"{path} does not exist") from None
    except OSError as error:
        raise AiwmError(Code.config_invalid, f"{path} cannot be read: {error.strerror}", field="path") from None
    except UnicodeDecodeError:
        # Not the decoder's own words: they quote the bytes.
        raise AiwmError(Code.config_invalid, f"{path} is not text", field="path") from None
    first = text.splitlines()[0].strip() if text else ""
    if not first:
        raise _Missing(KeyStatus.not_found, f"{path} is empty")
    return Secret(first)


def _warning(key: KeyConfig) -> str:
    if key.method is KeyMethod.inline:
        return "the key stands in config.toml: prefer env, file or the vault"
    return "" if key.hosts or key.method is KeyMethod.none else "no hosts: it may be sent nowhere"
