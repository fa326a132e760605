"""What is wrong with models that are known, before anybody asks text of them: for `aiwm doctor`. Reads headers, starts nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from engine.contract.definitions import ModelDefinition
from engine.contract.errors import AiwmError
from engine.inference.models.defaults import definition_of, refuse_broken
from engine.inference.models.look import look, models_in, name_of


class Trouble(NamedTuple):
    model: str
    what: str
    fix: str


def troubles(added: Iterable[ModelDefinition], folder: Path) -> list[Trouble]:
    """Of the models that somebody added, and of those that lie in the home's models/."""
    found: list[Trouble] = []
    for definition in added:
        if definition.path:
            found += _of_files(definition.name, Path(definition.path))
        if definition.command and shutil.which(definition.command[0]) is None:
            fix = f"install it, or aiwm model set {definition.name} command='…'"
            found.append(Trouble(definition.name, f"its program {definition.command[0]} is not there", fix))
    for path in models_in(folder) if folder.is_dir() else ():
        try:
            definition = definition_of(name_of(path), path)
        except AiwmError as error:
            found.append(Trouble(name_of(path), error.info.message, error.info.fix or f"aiwm model check {path}"))
        else:
            if definition.command and shutil.which(definition.command[0]) is None:
                what = f"its program {definition.command[0]} is not in PATH"
                found.append(Trouble(definition.name, what, "install llama.cpp"))
    return found


def _of_files(name: str, path: Path) -> list[Trouble]:
    try:
        refuse_broken(look(path))
    except AiwmError as error:
        return [Trouble(name, error.info.message, error.info.fix or f"aiwm model check {path}")]
    return []
