"""When the console is opened, and what happens instead where there is no terminal."""

from __future__ import annotations

import sys

from aiwm_tui.cli.command import Cli
from engine.contract.errors import AiwmError, Code


def on_terminal(cli: Cli) -> bool:
    """Whether a person sits in front: a terminal on both ends, and no JSON asked for."""
    return cli.output.for_people and sys.stdin.isatty() and sys.stdout.isatty()


def open_console(cli: Cli) -> int:
    """`aiwm`: the console; without a terminal the demo, headless, and its result."""
    if not on_terminal(cli):
        from aiwm_tui.cli.demo import headless_demo

        return headless_demo(cli)
    from aiwm_tui.app import run_console

    return run_console(cli.home, read_only=cli.read_only)


def attach_console(cli: Cli) -> int:
    """The console on an engine that runs already; none is started."""
    if not on_terminal(cli):
        raise AiwmError(
            Code.bad_request, "the console needs a terminal", field="stdio", fix="aiwm engine attach --stdio"
        )
    with cli.connected(spawn=False):
        pass
    from aiwm_tui.app import run_console

    return run_console(cli.home, read_only=cli.read_only)
