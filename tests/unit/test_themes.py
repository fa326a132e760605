"""Themes as eyes see them: contrast by the WCAG's formula, and whether the states that matter stay apart for eyes that lack a cone."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from rich.color import Color

from aiwm_tui import theme
from aiwm_tui.states import GLYPHS
from engine.contract.errors import AiwmError

COLOURED = [name for name in theme.names() if name != theme.MONO]
MATTER = ("works", "wrong", "broken", "coming")

# Machado, Oliveira, Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency", severity 1.0.
LACKING = {
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def _linear(colour: Color) -> np.ndarray:
    share = np.array(colour.get_truecolor()) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _luminance(colour: Color) -> float:
    return float(_linear(colour) @ (0.2126, 0.7152, 0.0722))


def _contrast(one: Color, other: Color) -> float:
    """From 1 (equal) to 21 (black and white), https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* under D65, in which distances are about what eyes see."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    share = to_xyz @ np.clip(linear, 0, 1) / (0.95047, 1.0, 1.08883)
    bent = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * bent[1] - 16, 500 * (bent[0] - bent[1]), 200 * (bent[1] - bent[2])])


def _text_and_ground(name: str) -> tuple[dict[str, Color], Color]:
    palette = theme.load(name).palette
    ground = palette.base.bgcolor
    assert ground is not None
    return {key: style.color for key, style in palette.styles.items() if style.color is not None}, ground


def _contrasts(name: str) -> dict[str, float]:
    """Of every style with the ground that it stands on: its own, where it has one."""
    colours, ground = _text_and_ground(name)
    styles = theme.load(name).palette.styles
    return {style: _contrast(colour, styles[style].bgcolor or ground) for style, colour in colours.items()}


@pytest.mark.parametrize("name", COLOURED)
def test_every_text_stands_out_from_its_ground(name: str) -> None:
    least = {"rule": 1.5, "off": 1.8, "faint": 3.0, "stale": 2.8, "head": 4.0}
    for style, contrast in _contrasts(name).items():
        assert contrast >= least.get(style, 4.5), (style, contrast)


def test_high_contrast_is_high() -> None:
    for style, contrast in _contrasts("high-contrast").items():
        assert contrast >= 7, style


@pytest.mark.parametrize("name", LACKING)
def test_states_stay_apart_for_the_eyes_that_a_theme_is_for(name: str) -> None:
    colours, _ = _text_and_ground(name)
    seen = {state: _lab(LACKING[name] @ _linear(colours[state])) for state in MATTER}
    for one, other in itertools.combinations(MATTER, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15, (one, other)


def test_the_colours_are_not_all_that_tells_states_apart() -> None:
    assert len({GLYPHS[state] for state in MATTER}) == len(MATTER)


def test_a_theme_of_ones_own_is_listed_and_goes_before_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIWM_CONFIG", str(tmp_path / "config.toml"))
    shipped = (Path(__file__).parents[2] / "themes" / "dark.toml").read_text()
    (tmp_path / "themes").mkdir()
    for name in ("mine", "light"):
        (tmp_path / "themes" / f"{name}.toml").write_text(shipped.replace("#11151a", "#010203"))
    assert {"mine", "light", "dark"} <= set(theme.names())
    for name in ("mine", "light"):
        assert theme.load(name).palette.base.bgcolor == Color.parse("#010203")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dark = tru", "cannot be read"),
        ('dark = true\n[base]\nbackground = "#000000"\n', "it lacks"),
        (None, "cannot be read"),
        ("broken colour", "cannot be read"),
    ],
)
def test_a_theme_that_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    monkeypatch.setenv("AIWM_CONFIG", str(tmp_path / "config.toml"))
    shipped = (Path(__file__).parents[2] / "themes" / "dark.toml").read_text()
    (tmp_path / "themes").mkdir()
    path = tmp_path / "themes" / "mine.toml"
    if text is None:
        path.write_bytes(b"\xff\xfe")
    else:
        path.write_text(shipped.replace('"#d3dae3"', '"no colour"') if text == "broken colour" else text)
    with pytest.raises(AiwmError, match=said) as caught:
        theme.load("mine")
    assert str(path) in str(caught.value)
