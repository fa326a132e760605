"""Changing the user's configuration file: one value at a time, with its comments kept, and never into something that cannot be read."""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from engine.config import load_config, user_config_path
from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest
from engine.resources import default_config


def init(path: Path | None = None) -> Path:
    """Write the shipped default with all its comments as the user's file. Raises `conflict` if there is one."""
    path = path or user_config_path()
    if path.exists():
        raise AiwmError(
            Code.conflict, f"{path} exists", field="path", fix="aiwm config set KEY VALUE changes one value in it"
        )
    # Every line that sets something is a comment: what the user does not change follows the defaults of later versions.
    lines = [_as_comment(line) for line in default_config().read_text("utf-8").splitlines()]
    replace_text(path, "\n".join(lines) + "\n")
    return path


def _as_comment(line: str) -> str:
    return f"# {line}" if "=" in line and not line.lstrip().startswith(("#", "[")) else line


def set_value(key: str, text: str, path: Path | None = None) -> Any:
    """Set `section.key` in the user's file; the value as it was understood. Raises `config_invalid` for a key that there is not, or a value
    that does not fit it; the file is then as it was."""
    import tomlkit

    path = path or user_config_path()
    section, _, name = key.partition(".")
    known = {setting.key for setting in load_config({}, path).settings if not setting.key.startswith("keys.")}
    if key not in known and section != "keymap":
        fix = nearest(key, known) or "aiwm config show lists them"
        raise AiwmError(Code.config_invalid, f'there is no setting "{key[:80]}"', field="key", fix=fix)
    value = text if section == "keymap" else _value(text)
    document = tomlkit.parse(path.read_text("utf-8")) if path.is_file() else tomlkit.document()
    if section not in document:
        document[section] = tomlkit.table()
    document[section][name] = value
    _check(tomlkit.dumps(document), path)
    replace_text(path, tomlkit.dumps(document))
    return value


def _value(text: str) -> Any:
    """A TOML value; what is none is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check(text: str, path: Path) -> None:
    """Read it as the engine would."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        draft.write_text(text, "utf-8")
        try:
            load_config({}, draft)
        except AiwmError as error:
            message = error.info.message.replace(str(draft), str(path))
            raise AiwmError.of(msgspec.structs.replace(error.info, message=message)) from None


def replace_text(path: Path, text: str) -> None:
    """All of it or nothing, readable by its owner only unless it was readable by others before. Behind a link it is the file that changes,
    and the link stays."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, mode)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
