"""Signals in children of the tests, whatever started the tests."""

from __future__ import annotations

import signal

_WATCHED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)


def restore_for_children() -> None:
    """Give processes that tests start the default reaction to signals.

    `nohup` and background jobs of a shell ignore some, and an ignored signal stays ignored through exec: a child that is sent
    Ctrl-C or loses its terminal would never notice. A handler that does nothing keeps the tests themselves as deaf as they
    were told to be, but ends at exec. Call it in the main thread."""
    for number in _WATCHED:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
