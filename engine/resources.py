"""The one place that finds the files which ship with aiwm: the default configuration, the themes, the examples.

In a wheel they lie in `engine/data/`, in a checkout at the top level."""

from __future__ import annotations

from pathlib import Path

_PACKAGED = Path(__file__).parent / "data"
_CHECKOUT = Path(__file__).parent.parent


def _root() -> Path:
    return _PACKAGED if (_PACKAGED / "config.toml").is_file() else _CHECKOUT


def default_config() -> Path:
    return _root() / "config.toml"


def themes() -> list[Path]:
    """The shipped theme files, by name."""
    return sorted((_root() / "themes").glob("*.toml"))


def inbox() -> Path:
    """The demo's messages with their known answers, JSON lines."""
    return _root() / "examples" / "inbox.jsonl"
