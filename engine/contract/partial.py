"""Partial changes of a definition: a struct of the same fields, each of which may be left unsaid."""

from __future__ import annotations

from typing import Any, TypeVar, Union, get_type_hints

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest

Changed = TypeVar("Changed", bound=msgspec.Struct)


def partial_of(definition: type[msgspec.Struct], *, fixed: tuple[str, ...] = ("name",)) -> Any:
    """The struct of changes to a definition: all its fields but the `fixed` ones, UNSET unless said; structs inside it likewise."""
    fields = []
    for name, hint in get_type_hints(definition).items():
        if name not in fixed:
            inner = isinstance(hint, type) and issubclass(hint, msgspec.Struct)
            kind = partial_of(hint, fixed=()) if inner else hint
            fields.append((name, Union[kind, msgspec.UnsetType], msgspec.UNSET))  # noqa: UP007 (types made at run time)
    return msgspec.defstruct(
        f"{definition.__name__}Changes",
        fields,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        module=__name__,
        namespace={"__doc__": f"Fields of a {definition.__name__} that change; the others stay as they are."},
    )


def merged(definition: Changed, changes: Any, clear: tuple[str, ...] = ()) -> Changed:
    """The definition with the changes in it. `clear` names fields that go back to their default, before the changes. Raises
    `bad_request` for a field that does not exist or has no default."""
    defaults = {field.name: field for field in msgspec.structs.fields(definition)}
    said: dict[str, Any] = {}
    for name in clear:
        field = defaults.get(name)
        if field is None or field.required:
            known = [known for known, it in defaults.items() if not it.required]
            fix = nearest(name, known) or "one of " + ", ".join(known)
            raise AiwmError(Code.bad_request, f'"{name[:80]}" is no field that can be cleared', field="clear", fix=fix)
        said[name] = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    for name in changes.__struct_fields__:
        value = getattr(changes, name)
        if value is not msgspec.UNSET:
            before = said.get(name, getattr(definition, name))
            inner = isinstance(before, msgspec.Struct)
            said[name] = merged(before, value) if inner else value
    return msgspec.structs.replace(definition, **said)
