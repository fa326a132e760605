"""Definitions as a bundle, in our names. What has its default is left out, so that a document says what somebody wanted."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.control.bundles.schema import VERSION
from engine.control.definitions import Definitions, Kind


def export(definitions: Definitions) -> dict[str, Any]:
    """A complete bundle: loaded anywhere, it puts exactly these definitions in force."""
    lists = {kind.plural: [_item(it) for _, it in sorted(definitions.of(kind).items())] for kind in Kind}
    return {"version": VERSION, "complete": True, **lists}


def _item(definition: msgspec.Struct) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for field in msgspec.structs.fields(definition):
        value = getattr(definition, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if value == default and type(value) is type(default):
            continue
        whole = isinstance(value, msgspec.Struct) and isinstance(default, msgspec.Struct)
        said[field.name] = _item(value) if whole else msgspec.to_builtins(value)
    return said
