"""Themes: one TOML file each, turned into a Textual theme (dialogs, prompt) and a palette of named styles (everything else).

Without colour (`NO_COLOR`, `TERM=dumb`) the palette has bold, dim, underline and reverse only; glyph and word say the rest."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
from rich.color import Color, ColorParseError
from rich.errors import StyleSyntaxError
from rich.style import Style
from textual.theme import BUILTIN_THEMES, Theme

from aiwm_tui.terminal import ascii_only, no_colour
from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest
from engine.resources import themes

MONO = "mono"
_MONO_STYLES = {
    "strong": "bold",
    "dim": "dim",
    "faint": "dim",
    "head": "dim",
    "head_on": "bold underline",
    "title": "bold",
    "rule": "dim",
    "key": "bold",
    "cursor": "reverse",
    "cursor_blur": "underline",
    "mark": "bold",
    "alert": "bold reverse",
    "held_mode": "bold",
    "stale": "dim",
    "token": "reverse",
    "found": "reverse",
    "off": "dim",
    "asks": "bold",
    "wrong": "bold",
    "broken": "bold",
    "cancelled": "dim",
}


class Palette(msgspec.Struct, frozen=True):
    """Style names → styles. `ascii`: the terminal has no glyphs beyond ASCII."""

    name: str
    base: Style
    styles: Mapping[str, Style]
    ascii: bool = False

    def __getitem__(self, name: str) -> Style:
        return self.styles.get(name, self.base)


class LoadedTheme(msgspec.Struct, frozen=True):
    theme: Theme
    palette: Palette


def user_themes() -> Path:
    """Where an operator's own themes lie: `themes/` beside the configuration file. It need not exist."""
    from engine.config import user_config_path

    return user_config_path().parent / "themes"


def _files() -> dict[str, Path]:
    """Every theme's file by its name; the user's own go before shipped ones of the same name."""
    return {path.stem: path for path in (*themes(), *sorted(user_themes().glob("*.toml")))}


def names() -> list[str]:
    """The themes there are, in the order in which they are listed."""
    return [MONO] if no_colour() else [*_files(), MONO]


def load(name: str) -> LoadedTheme:
    """A theme by name; `config_invalid` when there is none or its file is not one."""
    plain = ascii_only()
    if name == MONO or no_colour():
        styles = {key: Style.parse(value) for key, value in _MONO_STYLES.items()}
        return LoadedTheme(_mono_theme(), Palette(MONO, Style.null(), styles, plain))
    path = _files().get(name)
    if path is not None:
        return _from_toml(name, path, plain)
    raise AiwmError(
        Code.config_invalid,
        f'there is no theme "{name}"',
        field="theme",
        fix=nearest(name, names()) or "one of " + ", ".join(names()),
    )


def _mono_theme() -> Theme:
    """The terminal's own colours for text and ground, and nothing else."""
    plain = "ansi_default"
    return dataclasses.replace(
        BUILTIN_THEMES["ansi-dark"],
        name=MONO,
        primary=plain,
        secondary=plain,
        warning=plain,
        error=plain,
        success=plain,
        accent=plain,
    )


def _from_toml(name: str, path: Path, plain: bool) -> LoadedTheme:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
        base = data["base"]
        styles = {key: Style.parse(value) for part in ("styles", "states") for key, value in data[part].items()}
        theme = Theme(
            name,
            primary=base["primary"],
            warning=base["warning"],
            error=base["error"],
            success=base["success"],
            accent=base["primary"],
            foreground=base["text"],
            background=base["background"],
            surface=base["surface"],
            panel=base["panel"],
            dark=data["dark"],
        )
        ground = Style.parse(f"{base['text']} on {base['background']}")
        for colour in base.values():
            Color.parse(colour)
    except KeyError as error:
        raise _unreadable(name, f"it lacks {error.args[0]}", path) from None
    except (OSError, ValueError, TypeError, AttributeError, StyleSyntaxError, ColorParseError) as error:
        raise _unreadable(name, str(error), path) from None
    return LoadedTheme(theme, Palette(name, ground, styles, plain))


def _unreadable(name: str, why: str, path: Path) -> AiwmError:
    text = f'theme "{name[:80]}" cannot be read: {why[:200]}'
    return AiwmError(Code.config_invalid, text, field="theme", fix=f"compare {path} with one that ships")
