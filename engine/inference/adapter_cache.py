"""Which adapters stay ready in a model process: the least recently used leave first, within a count and a size.

Pure bookkeeping: it decides, the stepper attaches and detaches. An adapter that a running request uses never leaves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from engine.contract.errors import AiwmError, Code


class AdapterCache:
    """Sizes in bytes, adapters by content digest, least recently used first."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count, self._max_bytes = max_count, max_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._sizes

    @property
    def digests(self) -> tuple[str, ...]:
        return tuple(self._sizes)

    @property
    def total_bytes(self) -> int:
        return sum(self._sizes.values())

    def use(self, digest: str) -> None:
        """It was just used: it leaves last."""
        self._sizes.move_to_end(digest)

    def check_size(self, name: str, size: int) -> None:
        """Raises adapter_invalid for an adapter that could never fit."""
        if size > self._max_bytes:
            raise AiwmError(
                Code.adapter_invalid,
                f"adapter {name} takes {size} bytes, the adapter cache holds {self._max_bytes}",
                field="adapters",
                fix="use an adapter of lower rank",
            )

    def too_many(self, count: int) -> AiwmError:
        """The error for a request whose adapters do not fit together."""
        return AiwmError(
            Code.bad_request,
            f"a request uses {count} adapters; the adapter cache holds {self._max_count} of {self._max_bytes} bytes together",
            field="adapters",
            fix="use fewer adapters at once",
        )

    def room_for(self, size: int, kept: Collection[str]) -> list[str] | None:
        """The adapters that must leave before one of this size can come; None if that many cannot leave now, because what
        remains is in `kept`."""
        leaving = []
        count, total = len(self._sizes), self.total_bytes
        for digest, held in self._sizes.items():
            if count < self._max_count and total + size <= self._max_bytes:
                break
            if digest not in kept:
                leaving.append(digest)
                count, total = count - 1, total - held
        return leaving if count < self._max_count and total + size <= self._max_bytes else None

    def add(self, digest: str, size: int) -> None:
        self._sizes[digest] = size

    def remove(self, digest: str) -> None:
        self._sizes.pop(digest, None)
