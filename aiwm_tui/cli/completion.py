"""`aiwm completion`: what a shell needs to complete aiwm's commands, and the ids of the engine that runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.output import shown, write

SHELLS = Path(__file__).with_name("shells")


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def add(app: typer.Typer) -> None:
    command(app, "completion")(_completion)


def _completion(
    cli: Cli,  # noqa: ARG001
    *,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish", show_default=False)],
) -> None:
    """Print the completion script of a shell.

    bash: aiwm completion bash > ~/.local/share/bash-completion/completions/aiwm, or eval "$(aiwm completion bash)" in ~/.bashrc.
    zsh: eval "$(aiwm completion zsh)" behind compinit in ~/.zshrc. fish: aiwm completion fish > ~/.config/fish/completions/aiwm.fish.

    Ids, names and states come from the engine that serves the home; none is started for it."""
    write(shown((SHELLS / shell.value).read_text("utf-8")))
