"""What the terminal can show, from its environment; and that every glyph in the code has a twin of ASCII that is as wide."""

from __future__ import annotations

import ast
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiwm_tui import terminal
from aiwm_tui.live.text import width
from aiwm_tui.states import ASCII
from aiwm_tui.terminal import ascii_only, ascii_text, far_away, no_colour

_SIGNS = {"text.py": set("�␡")}
"""Pictures of what cannot be drawn: a question mark is what they mean."""


@pytest.mark.parametrize(
    ("environment", "plain"),
    [
        ({"TERM": "xterm-256color", "LANG": "de_DE.UTF-8"}, False),
        ({"TERM": "tmux-256color"}, False),
        ({"TERM": "dumb"}, True),
        ({"TERM": "linux"}, True),
        ({"TERM": "xterm", "LC_ALL": "C"}, True),
        ({"TERM": "xterm", "LC_ALL": "POSIX"}, True),
        ({"TERM": "xterm", "LC_ALL": "C.UTF-8"}, False),
        ({"TERM": "xterm", "AIWM_ASCII": "1"}, True),
    ],
)
def test_glyphs(environment: dict[str, str], plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TERM", "LANG", "LC_ALL", "AIWM_ASCII"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ascii_only() is plain


@pytest.mark.parametrize(
    ("name", "value", "none"), [("NO_COLOR", "1", True), ("NO_COLOR", "", False), ("TERM", "dumb", True)]
)
def test_colours(name: str, value: str, none: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    assert no_colour() is none


def test_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_TTY", raising=False)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert not far_away()
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
    assert far_away()


def test_a_text_keeps_its_width() -> None:
    for text in ("● works", "漢字 Müller", "✓ done │ ⊘", "🔎 what", "a\u0301"):
        assert ascii_text(text).isascii()
        assert width(ascii_text(text)) == width(text)


def test_every_twin_is_as_wide_as_its_glyph() -> None:
    for code, twin in ASCII.items():
        assert twin.isascii()
        assert width(twin) == width(chr(code)), chr(code)


def test_every_glyph_that_the_console_draws_has_a_twin() -> None:
    without = {
        (glyph, path.name)
        for path in Path(terminal.__file__).parent.rglob("*.py")
        for glyph in _glyphs(path)
        if ord(glyph) not in ASCII and glyph not in _SIGNS.get(path.name, ())
    }
    assert not without


def _glyphs(path: Path) -> Iterator[str]:
    """Signs and symbols in the texts of a module, its docstrings aside."""
    tree = ast.parse(path.read_text("utf-8"))
    notes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
            yield from (each for each in node.value if not each.isascii() and unicodedata.category(each)[0] in "SPN")
