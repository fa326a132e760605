"""How this operator wants the console: from the configuration, then from flags. Read once, before the first frame."""

from __future__ import annotations

import msgspec

from aiwm_tui.actions import ACTIONS, Action
from aiwm_tui.live.attention import NOTHING_WANTED, Wanted
from aiwm_tui.terminal import far_away
from engine.contract.errors import AiwmError, Code

BANDWIDTHS = ("auto", "full", "small")


class Preferences(msgspec.Struct, frozen=True):
    """`lean`: the line to the terminal or to the engine is thin. `notices` is what one is told of while one looks
    elsewhere. `actions` is the table of actions with the operator's own keys."""

    theme: str = "dark"
    mouse: bool = True
    lean: bool = False
    read_only: bool = False
    notices: Wanted = NOTHING_WANTED
    actions: tuple[Action, ...] = ACTIONS


def preferences(*, mouse: bool | None = None, bandwidth: str | None = None, ssh: bool = False) -> Preferences:
    """Flags that were not given (None) leave what is configured. `ssh`: the engine is on another machine. Raises `config_invalid` for what
    cannot be, before anything is drawn."""
    from engine.config import load_config

    config = load_config().config
    console = config.console
    if bandwidth is not None and bandwidth not in BANDWIDTHS:
        text = f'"{bandwidth[:40]}" is no bandwidth'
        raise AiwmError(Code.config_invalid, text, field="--bandwidth", fix="one of " + ", ".join(BANDWIDTHS))
    wanted = bandwidth or console.bandwidth
    actions = ACTIONS
    if config.keymap:
        from aiwm_tui.keymap import keyed

        actions = keyed(config.keymap)
    return Preferences(
        theme=console.theme,
        mouse=console.mouse if mouse is None else mouse,
        lean=wanted == "small" or (wanted == "auto" and (ssh or far_away())),
        read_only=console.read_only,
        notices=Wanted(console.notify, console.notify_by, console.notify_per_minute),
        actions=actions,
    )
