"""Tells the operator of what needs them while they look elsewhere: on the screen, by the bell, by the terminal's own notification.

It watches the events of the levels that are configured, through a view as every screen does: nothing is asked for and nothing written
while nothing happens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from textual.timer import Timer

from aiwm_tui.live.attention import Notice, Notices, Wanted
from aiwm_tui.live.text import clean
from aiwm_tui.live.views import LiveView
from aiwm_tui.states import glyph, look
from engine.contract.records import EventRow

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp

WATCHED = 20
"""Events that are seen at once; of a burst the last ones."""

_TOAST_S = 8.0
_LONGEST = 200


class Attention:
    """Does as it is wanted; where nothing is, it does not look at all."""

    def __init__(self, app: ConsoleApp, wanted: Wanted) -> None:
        self._app = app
        self._ways = wanted.ways
        self._notices = Notices(wanted.per_minute)
        self._seen: int | None = None
        self._timer: Timer | None = None
        self._view: LiveView | None = None
        if wanted.levels and wanted.ways:
            self._view = app.hub.open(f":events level:{','.join(wanted.levels)}", WATCHED, self._changed)

    def _changed(self) -> None:
        state = self._view.state if self._view is not None else None
        if state is None or self._app.replaying.words:
            return
        rows = [row for row in state.records() if isinstance(row, EventRow)]
        newest = max((int(row.id) for row in rows), default=0)
        if self._seen is not None:
            for row in sorted(rows, key=lambda row: int(row.id)):
                if int(row.id) > self._seen:
                    self._notices.note(row, self._app.clock())
        # What was there before the console came is on the overview.
        self._seen = max(newest, self._seen or 0)
        self._wait()

    def _wait(self) -> None:
        due = self._notices.due(self._app.clock())
        if due is not None and self._timer is None:
            self._timer = self._app.set_timer(max(0.05, due / 1000), self._tell)

    def _tell(self) -> None:
        self._timer = None
        notice = self._notices.take(self._app.clock())
        if notice is not None:
            self._show(notice)
        self._wait()

    def _show(self, notice: Notice) -> None:
        if "toast" in self._ways:
            self._toast(notice)
        if "bell" in self._ways:
            self._app.bell()
        if "terminal" in self._ways:
            machine = self._app.machine
            host = f"{machine.host}: " if machine is not None else ""
            write_to_terminal(
                self._app, sequence(f"aiwm {host}{notice.short}", inside_tmux=bool(os.environ.get("TMUX")))
            )

    def _toast(self, notice: Notice) -> None:
        style = look("events", notice.level)
        if self._app.palette.ascii:
            # A toast has a frame, which such a terminal has no characters for.
            self._app.say(((f"{glyph(style)} {notice.title}: ", style), (notice.lines[0], "text")))
            return
        title, severity = f"{glyph(style)} {notice.title}", "error" if notice.level == "error" else "warning"
        self._app.notify(
            "\n".join(notice.lines), title=title, severity=cast(Any, severity), timeout=_TOAST_S, markup=False
        )


def sequence(text: str, *, inside_tmux: bool) -> str:
    """OSC 9 with a text, harmless: no control character can end it early. tmux passes it on if it is wrapped (and allows that)."""
    harmless = "".join(each if each.isprintable() else " " for each in clean(text, _LONGEST))
    plain = f"\x1b]9;{harmless}\x07"
    return "\x1bPtmux;" + plain.replace("\x1b", "\x1b\x1b") + "\x1b\\" if inside_tmux else plain


def write_to_terminal(app: ConsoleApp, text: str) -> None:
    """Through Textual's driver, so that it stands between two frames and not within one."""
    driver: Any = app._driver
    if driver is not None:
        driver.write(text)
        driver.flush()
