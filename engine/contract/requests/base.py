"""A request is a frozen struct: its fields are the parameters, its class says method, result, effect and aliases.

From the class come the JSON-RPC method, the schema, the command line and the reference page; nothing is written twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.states import Effect

Result = TypeVar("Result")


class Request(
    msgspec.Struct, Generic[Result], frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Base of all requests. Subclasses name their result: `class TaskCancel(Request[Cancelled], …)`. `unlogged` names fields that no
    audit event may show: they are long, or may hold a secret. One that is `withdrawable` changes nothing that lasts: it is stopped when
    whoever asked for it wants it no more."""

    method: ClassVar[str]
    effect: ClassVar[Effect]
    aliases: ClassVar[tuple[str, ...]] = ()
    unlogged: ClassVar[tuple[str, ...]] = ()
    withdrawable: ClassVar[bool] = False

    @classmethod
    def translated(cls, params: dict[str, Any]) -> dict[str, Any] | None:
        """Parameters under other names that are understood too, as this class's own; None when there are none. Asked only for
        parameters that the class does not know."""
        del params
        return None


def result_type(request: type[Request[Any]]) -> Any:
    """The result type that a request class names in its base."""
    for base in getattr(request, "__orig_bases__", ()):
        if get_origin(base) is Request:
            return get_args(base)[0]
    raise TypeError(f"{request.__name__} does not name its result type")


class RequestCatalogue:
    """All request classes by method and alias. Built once from the modules of this package (`requests.catalogue`)."""

    def __init__(self, classes: Iterable[type[Request[Any]]]) -> None:
        self.by_method: dict[str, type[Request[Any]]] = {}
        self._names: dict[str, type[Request[Any]]] = {}
        for request in classes:
            self.by_method[request.method] = request
            for name in (request.method, *request.aliases):
                if name in self._names:
                    raise ValueError(f"two requests answer to {name}")
                self._names[name] = request

    def find(self, name: str) -> type[Request[Any]]:
        """The class for a method or alias; `unknown_method` with the nearest name otherwise."""
        request = self._names.get(name)
        if request is None:
            from engine.contract.suggest import nearest

            raise AiwmError(
                Code.unknown_method,
                f'there is no request "{name[:80]}"',
                field="method",
                fix=nearest(name, self._names),
            )
        return request
