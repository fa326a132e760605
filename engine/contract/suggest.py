"""`did you mean …`: the nearest of a set of names."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, names: Iterable[str]) -> str | None:
    """`did you mean "x"?` for the most similar name, None when nothing is near."""
    import difflib

    found = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f'did you mean "{found[0]}"?' if found else None
