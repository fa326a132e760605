"""Changes of other things than tasks that an operation does and takes back."""

from __future__ import annotations

from typing import Any, Protocol


class Reversible(Protocol):
    """A request that changes something else than tasks and can be taken back when it was done. Doing it twice must be as doing it once:
    an engine may die between the doing and the storing of that."""

    def before(self, settings: dict[str, Any]) -> dict[str, Any]:
        """What will be needed to put it back, as it is now. Raises what is wrong with the request."""

    async def do(self, settings: dict[str, Any], by: str) -> str:
        """Do it; what was done, in words."""

    async def undo(self, settings: dict[str, Any], before: dict[str, Any], by: str) -> str:
        """Put it back. Raises `conflict` when somebody has changed it since."""
