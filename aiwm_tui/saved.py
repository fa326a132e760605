"""What the operator keeps: views by name, and the columns chosen for a table.

Both stand in `views.toml` beside the user's configuration file, because they belong to the person and not to one home. The file may be
edited by hand: comments and what is not understood stay as they are. A file that cannot be read is said by its line and never written
to, so nothing in it is lost; single entries that mean nothing here are left out and named."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
_HEAD = "# Written by aiwm: [views] by `:save NAME`, [columns] by the key `o`. It may be edited; comments stay.\n"


class Saved(msgspec.Struct, frozen=True):
    """`views` are locations by name, `columns` names of columns by table, in their order; `trouble` says what could not be used."""

    views: Mapping[str, str] = msgspec.field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    trouble: tuple[str, ...] = ()


def saved_path() -> Path:
    """Where the file is, or would be."""
    from engine.config import user_config_path

    return user_config_path().with_name("views.toml")


def load() -> Saved:
    """What is kept. Never raises: a file that cannot be read is trouble, and nothing is kept then."""
    try:
        document = _document(saved_path())
    except AiwmError as error:
        return Saved(trouble=(error.info.message,))
    trouble: list[str] = []
    views, columns = dict(_views(document, trouble)), dict(_columns(document, trouble))
    return Saved(views, columns, tuple(trouble))


def _document(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AiwmError(
            Code.config_invalid,
            f"{path.name} is not TOML: {error}; no view is known until it is",
            field="views",
            fix=f"correct {path}; it is not written to before",
        ) from None
    except OSError as error:
        raise AiwmError(Code.config_invalid, f"{path} cannot be read: {error.strerror}", field="views") from None


def _table(document: dict[str, Any], name: str, trouble: list[str]) -> dict[str, Any]:
    found = document.get(name, {})
    if isinstance(found, dict):
        return found
    trouble.append(f"{saved_path().name}: [{name}] is no table of names")
    return {}


def _views(document: dict[str, Any], trouble: list[str]) -> Iterator[tuple[str, str]]:
    """Whether a location can be gone to is known where one goes to it; here it only has to be one line of text under a free name."""
    from aiwm_tui.actions import SCREENS, TABLES

    taken = TABLES | {name for _, name, _ in SCREENS}
    for name, location in _table(document, "views", trouble).items():
        if isinstance(location, str) and location.startswith(":") and _NAME.fullmatch(name) and name not in taken:
            yield name, " ".join(location.split())
        else:
            trouble.append(
                f'{saved_path().name}: view {name[:40]}: a short name and a location such as ":tasks" are needed'
            )


def _columns(document: dict[str, Any], trouble: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for table, names in _table(document, "columns", trouble).items():
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            yield table, tuple(dict.fromkeys(names))
        else:
            trouble.append(f"{saved_path().name}: columns {table[:40]}: a list of names is needed")


def check_name(name: str, taken: Collection[str]) -> None:
    """Raises `bad_request` for a name that no view can have: one that is taken, or one that could not be typed behind a colon."""
    if name in taken:
        raise AiwmError(Code.bad_request, f":{name} is a screen already", field="name", fix=f":save my-{name}")
    if not _NAME.fullmatch(name):
        raise AiwmError(
            Code.bad_request,
            f'"{name[:40]}" is no name for a view: small letters, digits, - _ . and at most 40 of them',
            field="name",
            fix=":save night",
        )


def expanded(text: str, views: Mapping[str, str]) -> str:
    """A typed location with the view's own in place of its name: `:night queue:etl` is what `night` stands for, and a filter more."""
    name, space, rest = text.strip().removeprefix(":").partition(" ")
    return f"{views[name]}{space}{rest}" if name in views else text


def save_view(name: str, location: str) -> str | None:
    """Keep a location under a name; what stood there before, None for nothing. Raises `config_invalid` for a file that cannot be read or
    written; the file is then as it was."""
    with _changing("views") as views:
        before = views.get(name)
        views[name] = location
    return str(before) if before is not None else None


def forget_view(name: str) -> str:
    """Forget a view; the location it stood for. Raises `not_found` with the nearest name."""
    with _changing("views") as views:
        if name not in views:
            known = nearest(name, list(views))
            raise AiwmError(Code.not_found, f'there is no view "{name[:40]}"', field="name", fix=known or ":views")
        return str(views.pop(name))


def choose_columns(table: str, names: Iterable[str]) -> None:
    """Keep the columns of a table, in order; none at all means those that the screen comes with."""
    chosen = list(names)
    with _changing("columns") as columns:
        if chosen:
            columns[table] = chosen
        else:
            columns.pop(table, None)


@contextmanager
def _changing(section: str) -> Iterator[Any]:
    """A section of the file as it is now, written back whole afterwards. Other consoles wait meanwhile, so nobody's change is lost."""
    import fcntl
    import os

    import tomlkit

    from engine.config_file import replace_text

    path = saved_path()
    _document(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        document = tomlkit.parse(path.read_text("utf-8") if path.is_file() else _HEAD)
        if not isinstance(document.setdefault(section, tomlkit.table()), dict):
            raise AiwmError(Code.config_invalid, f"{path}: [{section}] is no table of names", field="views")
        yield document[section]
        replace_text(path, tomlkit.dumps(document))
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        os.close(folder)


def _unwritable(path: Path, error: OSError) -> AiwmError:
    return AiwmError(Code.config_invalid, f"{path} cannot be written: {error.strerror}", field="views")
