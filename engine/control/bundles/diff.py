"""What changes from one set of definitions to another, kind by kind and field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from engine.contract.requests.bundles import ChangedItem, FieldChange, KindDiff
from engine.control.definitions import Definitions, Kind


def differences(before: Definitions, after: Definitions) -> list[KindDiff]:
    """One entry a kind in the order of `Kind`, also for kinds in which nothing changes."""
    return [_kind(kind, before, after) for kind in Kind]


def counts(definitions: Definitions) -> dict[str, int]:
    return {kind.plural: len(definitions.of(kind)) for kind in Kind}


def _kind(kind: Kind, before: Definitions, after: Definitions) -> KindDiff:
    old, new = before.of(kind), after.of(kind)
    both = sorted(old.keys() & new.keys())
    changed = [name for name in both if old[name] != new[name]]
    return KindDiff(
        kind=kind.value,
        added=sorted(new.keys() - old.keys()),
        changed=[ChangedItem(name=name, fields=list(_fields("", old[name], new[name]))) for name in changed],
        removed=sorted(old.keys() - new.keys()),
        unchanged=len(both) - len(changed),
    )


def _fields(prefix: str, before: Any, after: Any) -> Iterator[FieldChange]:
    for name in before.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if isinstance(old, msgspec.Struct) and isinstance(new, msgspec.Struct):
            yield from _fields(f"{prefix}{name}.", old, new)
        else:
            yield FieldChange(field=prefix + name, before=msgspec.to_builtins(old), after=msgspec.to_builtins(new))
