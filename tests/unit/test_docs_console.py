"""docs/console.md keeps its word: every feature has a proof, the tests that it names exist, and its commands are commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in PAGE.split("## ")[0].splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| feature"))
]
TEST = re.compile(r"`(test_\w+)`")
NOT_GIVEN = {"own commands", "many engines in one table"}
"""Features that other consoles have and this one says that it has not."""


def _tests() -> set[str]:
    files = (ROOT / "tests").rglob("test_*.py")
    return {
        name
        for file in files
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.M)
    }


def _commands() -> set[str]:
    """Every `aiwm …` of the page."""
    return set(re.findall(r"`aiwm ([^`]+)`", PAGE))


def test_every_feature_has_a_proof() -> None:
    assert len(ROWS) > 35
    assert len({row[0] for row in ROWS}) == len(ROWS)
    for feature, given, proof in ROWS:
        assert given, feature
        assert (proof == "–") == (feature in NOT_GIVEN), feature
        assert feature in NOT_GIVEN or TEST.search(proof) or "`aiwm " in proof or "`python -m" in proof, feature


def test_every_test_that_is_named_exists() -> None:
    named = set(TEST.findall(PAGE))
    assert named
    assert named <= _tests()


@pytest.mark.parametrize("command", sorted(_commands()))
def test_every_command_and_option_that_is_named_exists(command: str) -> None:
    known = json.loads((ROOT / "aiwm_tui/cli/words.json").read_text(encoding="utf-8"))["commands"]
    words = command.split()
    named = next(name for length in (2, 1, 0) if (name := " ".join(words[:length])) in known and len(words) >= length)
    options = {word for word in words if re.fullmatch("--?[A-Za-z-]+", word)}
    assert named or words[0] in options
    assert options <= set(known[named]["options"])


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    assert "docs/console.md" in (ROOT / "README.md").read_text(encoding="utf-8")
