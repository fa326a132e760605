"""The page of one log: its current life as it grows, the lives before it above, searched in place."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.history import Place
from aiwm_tui.live.link import Phase
from aiwm_tui.live.log_following import LogFollowing
from aiwm_tui.live.log_search import search_of
from aiwm_tui.live.text import Line, Span
from aiwm_tui.screens.page import NOT_ON_ITEMS, Page
from aiwm_tui.screens.wording import hints, refused
from aiwm_tui.widgets.log_text import LogText
from engine.contract.query import Location
from engine.contract.records import Record


class LogPage(Page):
    """Its location holds the log's name and what is looked for in it."""

    DEFAULT_CSS = "LogPage { layout: vertical; }"

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.name_of_log = str(location.item)
        self.following: LogFollowing | None = None
        self.text: LogText | None = None

    def on_mount(self) -> None:
        self.following = LogFollowing(self.console.link, self.name_of_log, self._changed, self.console.now)
        self.following.lines.look_for(search_of(self.location))
        self.text = LogText(self.following.lines)
        self.mount(self.text)
        self.screen.set_focus(self.text)
        self._changed()

    def begin(self) -> None:
        if self.text is not None:
            self.screen.set_focus(self.text)

    def _changed(self) -> None:
        if self.text is None or self.following is None:
            return
        lines = self.following.lines
        if self.arrived.index and lines.end > lines.first:
            self.text.stand(lines.end - self.arrived.index)
            self.arrived = Place(str(self.location))
        stale = self.console.link.phase is Phase.lost
        self.text.show(note=self._note(), stale=stale)
        if lines.search.looks:
            self.following.want_older(everything=True)
        self.console.note_change()

    def _note(self) -> tuple[Line, ...]:
        assert self.following is not None
        if self.following.error is not None:
            return (*refused(self.following.error), hints((" :logs", "which there are")))
        if self.following.row is None:
            return ()
        if self.following.lines.picks:
            return (
                ((" no line matches ", "dim"), (self.location.filter_text(), "text")),
                hints((" h", "all lines"), ("esc", "back"), ("/", "another search")),
            )
        return (((" nothing was written yet; what comes appears here", "dim"),),)

    def on_log_text_moved(self, message: LogText.Moved) -> None:
        message.stop()
        if message.near_top and self.following is not None:
            self.following.want_older()
        self.console.status_changed()

    # What the keys do

    def turn_wrapping(self) -> str:
        """Wrap long lines, or cut them; what is so now."""
        if self.text is not None:
            self.text.turn(wraps=not self.text.wraps)
        return "long lines are wrapped" if self.text is None or self.text.wraps else "long lines are cut, ← → move"

    def turn_times(self) -> str:
        """Show when lines came, or not; what is so now."""
        if self.text is not None:
            self.text.turn(times=not self.text.times)
        return "when each line came, where that was seen" if self.text is not None and self.text.times else "no times"

    def step(self, direction: int) -> Line:
        """Go to the next match (1) or the one before (-1); what to say of it."""
        assert self.text is not None
        assert self.following is not None
        lines, text = self.following.lines, self.text
        if not lines.hits:
            what = "no line matches" if lines.search.looks else "nothing is looked for: / searches"
            return ((what, "text"),)
        number, round_ = lines.next_hit(
            text.current if text.current is not None else text.last if direction < 0 else text.top - 1, direction
        )
        text.go_to(number)
        self.console.status_changed()
        said: list[Span] = [(f"match {lines.hits.index(number) + 1:,} of {len(lines.hits):,}", "text")]
        if round_:
            said.append((", from the other end", "dim"))
        return tuple(said)

    # What the app asks

    lacks = NOT_ON_ITEMS - {"left", "right"} | {"open", "why"}

    @property
    def table(self) -> str:
        return "log"

    @property
    def row(self) -> Record | None:
        return self.following.row if self.following is not None else None

    def copied(self) -> str:
        """What `y` copies: the match that was gone to, else the lines on the screen."""
        return self.text.said() if self.text is not None else ""

    def events_of(self) -> str:
        name = self.name_of_log
        kind = self.following.row.kind if self.following is not None and self.following.row is not None else ""
        if kind in ("worker", "supervisor"):
            return name.partition("-")[2]
        return "who:engine" if kind == "engine" else f"about:{name}"

    def place(self) -> Place:
        if self.text is None or self.text.follows:
            return Place(str(self.location))
        # Lines have no names: where one stood is so far from the end.
        return Place(str(self.location), None, self.text.lines.end - self.text.top)

    def status(self) -> Line:
        if self.following is None or self.text is None or self.following.row is None:
            return ()
        lines, text = self.following.lines, self.text
        count = lines.end - lines.first
        spans: list[Span] = []
        if lines.search.looks:
            spans.append((f"{len(lines.hits):,} {'match' if len(lines.hits) == 1 else 'matches'} in ", "dim"))
        spans.append((form.plural(count, "line"), "dim"))
        if not self.following.whole:
            spans.append((" and older ones", "dim"))
        if lines.until is not None:
            spans.append((f" · held, {form.plural(lines.waiting, 'line')} wait", "held_mode"))
        elif text.follows:
            spans.append((" · follows", "works"))
        elif text.below:
            spans.append((f" · {form.count(text.below)} below", "dim"))
        return tuple(spans)

    def hold(self) -> bool:
        assert self.text is not None
        assert self.following is not None
        lines = self.following.lines
        lines.until = None if lines.until is not None else lines.end
        self._changed()
        return lines.until is not None

    def held(self) -> int | None:
        if self.following is None or self.following.lines.until is None:
            return None
        return self.following.lines.waiting

    def revisit(self, place: Place, location: Location) -> bool:
        if location.table != "logs" or location.item != self.location.item or self.text is None:
            return False
        assert self.following is not None
        self.location = location
        lines = self.following.lines
        before = lines.search
        lines.look_for(search_of(location))
        self.text.current = None
        if place.index:
            self.text.stand(lines.end - place.index)
        elif lines.search != before and lines.hits and not lines.picks:
            self.text.go_to(lines.next_hit(self.text.last, -1)[0])
        self._changed()
        return True

    def on_resize(self) -> None:
        self.console.status_changed()

    def leave(self) -> None:
        if self.following is not None:
            self.following.close()
