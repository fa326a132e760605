"""One definition of a document, folded into our names: a tree that msgspec makes a struct of, and where each field came from."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.errors import Code
from engine.contract.invalid import invalid
from engine.contract.requests.bundles import Problem
from engine.contract.suggest import nearest
from engine.control.bundles.names import QUIET_VALUES, VALUES, Known, spec_of, struct_in
from engine.control.definitions import TYPES, Kind


class Folded:
    """A definition under way (`folds.Item`). `where` is its place in the document, such as `pools[2]`."""

    def __init__(self, kind: Kind, where: str, document: dict[str, Any]) -> None:
        self.kind = kind
        self.where = where
        self.name = document["name"] if isinstance(document.get("name"), str) else ""
        self.given_id: str | None = None
        self.auth: tuple[str, str] | None = None
        self.tree: dict[str, Any] = {}
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self._origin: dict[str, str] = {}
        self._reading = ""  # the name that is being read, as the document has it
        self._prefix = ""  # our struct that it lies in, `retry.`
        self._read(TYPES[kind], document, "", "")

    def definition(self) -> Any:
        """The struct, or None with the reason among the errors."""
        try:
            return msgspec.convert(self.tree, TYPES[self.kind])
        except msgspec.ValidationError as error:
            info = invalid(error, TYPES[self.kind], Code.definition_invalid).info
            message = info.message.removeprefix(f"{info.field}: ")
            self.fault(info.field or "", message, info.fix)
            return None

    def fault(self, field: str, message: str, fix: str | None = None) -> None:
        """Something is wrong with one of our fields; it is told by the name that the document has for it."""
        self.errors.append(self._problem(self.place(field), message, fix))

    def caution(self, field: str, message: str, fix: str | None = None) -> None:
        self.warnings.append(self._problem(self.place(field), message, fix))

    def place(self, field: str) -> str:
        """Where one of our fields stands in the document."""
        if not field:
            return self.where
        head = field
        while head and head not in self._origin:
            head = head[: max(head.rfind("."), head.rfind("["), 0)]
        return f"{self.where}.{self._origin.get(head, head)}{field[len(head) :] if head else field}"

    # -- what folds call ---------------------------------------------------------------------------------------------

    def put(self, field: str, value: Any) -> None:
        field = self._prefix + field
        if self._said(field):
            return
        place, _, last = field.rpartition(".")
        into = self.tree.setdefault(place, {}) if place else self.tree
        into[last] = value

    def default(self, field: str, value: Any) -> None:
        place, _, last = field.rpartition(".")
        self.tree.setdefault(place, {}).setdefault(last, value)

    def inside(self, field: str, value: Any) -> None:
        inner = struct_in(spec_of(TYPES[self.kind]).known[field].hint)
        assert inner is not None
        if not self._said(field):
            self.tree.setdefault(field, {})
            self._read(inner, value, f"{field}.", f"{self._reading}.")
            self._prefix = ""

    def wants_key(self, method: str, value: str) -> None:
        if not self._said("key"):
            self.auth = (method, value)

    def warn(self, message: str, fix: str | None = None) -> None:
        self.warnings.append(self._problem(f"{self.where}.{self._reading}", message, fix))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _read(self, type_: type[msgspec.Struct], document: dict[str, Any], field: str, shown: str) -> None:
        spec = spec_of(type_)
        for key, value in document.items():
            known = spec.known.get(key)
            self._reading, self._prefix = shown + key, field
            if known is None:
                self.warn(f'unknown key "{key[:80]}" is left out', nearest(key, spec.known))
            elif known.fold is not None:
                known.fold(value, self)
            else:
                self._take(type_, known, value)

    def _said(self, field: str) -> bool:
        """Whether the document has said a field before, which is a fault; if not, it has now."""
        before = self._origin.get(field)
        if before is None:
            self._origin[field] = self._reading
            return False
        place = f"{self.where}.{self._reading}"
        self.errors.append(self._problem(place, f"{before} has said this already", "leave one out"))
        return True

    def _take(self, type_: type[msgspec.Struct], known: Known, value: Any) -> None:
        inner = struct_in(known.hint)
        if inner is not None and isinstance(value, dict):
            self.inside(known.field, value)
            return
        renamed = VALUES.get((type_, known.field), {}).get(value) if isinstance(value, str) else None
        if renamed is not None and value not in QUIET_VALUES:
            self.warn(f'"{value}" is taken for {renamed}', f'"{renamed}"')
        if inner is not None:
            value = [self._element(inner, element) for element in value]
        self.put(known.field, value if renamed is None else renamed)

    def _element(self, type_: type[msgspec.Struct], document: dict[str, Any]) -> dict[str, Any]:
        """A struct in a list: none of the seeds' have fields of other names."""
        spec = spec_of(type_)
        return {spec.known[key].field: value for key, value in document.items()}

    def _problem(self, place: str, message: str, fix: str | None) -> Problem:
        return Problem(kind=self.kind.value, name=self.name, field=place, message=message, fix=fix)
