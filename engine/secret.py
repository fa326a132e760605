"""A text that must not be seen: it can be asked for by name, and in no other way comes out."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Holds an API key or a passphrase. Neither repr, str, format, pickle nor msgspec give its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text. Whoever calls this sends it where it belongs and keeps it nowhere."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(Secret)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")
