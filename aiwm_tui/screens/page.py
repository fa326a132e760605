"""What a page is: the body of the screen for one location. Pages show and report; the app navigates and changes things."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from textual.widget import Widget

from aiwm_tui.live.history import Place
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line
from aiwm_tui.live.views import ViewHub
from aiwm_tui.screens.own_keys import own_keys, with_own_keys
from engine.contract.query import Location
from engine.contract.records import Record

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.ahead import Ahead
    from aiwm_tui.collecting import Collection


class Console(Protocol):
    """What pages need of the app."""

    link: Link
    hub: ViewHub
    ahead: Ahead
    inspecting: bool
    clock: Callable[[], int]
    collections: dict[str, Collection]
    actions: ClassVar[tuple[Action, ...]]

    @property
    def read_only(self) -> bool: ...

    def now(self) -> int: ...

    def look_after(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...

    def note_change(self) -> None: ...

    def status_changed(self) -> None: ...

    def open_location(self, location: str) -> None: ...

    def say(self, line: Line) -> None: ...


class Scrolls(Protocol):
    """What moves under the arrow keys: a table's cursor, a text's position."""

    def move(self, rows: int) -> None: ...

    def page(self, pages: float) -> None: ...

    def to_edge(self, direction: int) -> None: ...


NOT_ON_ITEMS = frozenset(
    {
        *("details", "this_value", "not_this_value", "sort", "filter", "faults", "left", "right", "pane"),
        *("mark", "mark_to_here", "mark_all", "columns", "inspect", "export"),
    }
)
"""Actions on a table that mean nothing on the page of one row."""


class Page(Widget):
    """Base of all pages. `lacks` are the actions that have nothing to do here."""

    lacks: ClassVar[frozenset[str]] = frozenset()

    DEFAULT_CSS = "Page { height: 1fr; }"

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__()
        self.location = location
        self.arrived = place

    @property
    def console(self) -> Console:
        return cast(Console, self.app)

    def with_own_keys(self, lines: Sequence[Line]) -> tuple[Line, ...]:
        """Lines that name keys as the table of actions has them, with the operator's own."""
        return with_own_keys(lines, own_keys(self.table, self.lacks, self.console.actions))

    @property
    def table(self) -> str:
        """The table that the row under the cursor is of; "" where there are no rows."""
        return ""

    @property
    def row(self) -> Record | None:
        """The row under the cursor."""
        return None

    def mark(self) -> None:
        """Mark the row under the cursor, or unmark it."""

    def mark_all(self) -> None:
        """Mark all rows that match, or none."""

    async def mark_to_here(self) -> None:
        """Mark all rows from the one marked last to the cursor."""

    def clear_marks(self) -> bool:
        """Unmark all; whether there was anything marked."""
        return False

    def mark_only(self, identifiers: Iterable[str]) -> None:
        """Mark these and no others."""

    def marked(self) -> dict[str, Any]:
        """What names the marked rows in a request: `ids`, or `where` for all that match; {} when nothing is marked."""
        return {}

    def known_rows(self) -> dict[str, Any]:
        """The rows that are known here, by id."""
        return {}

    def opens(self) -> str | None:
        """The location that ↵ opens."""
        return None

    def events_of(self) -> str:
        """The filter of the events of the row under the cursor."""
        return f"about:{self.row.id}" if self.row is not None else ""

    def place(self) -> Place:
        """Where in this page one stands."""
        return Place(str(self.location))

    def status(self) -> Line:
        """The right end of the location line."""
        return ()

    def scroller(self) -> Scrolls | None:
        return self.screen.focused if hasattr(self.screen.focused, "to_edge") else None  # type: ignore[return-value]

    def begin(self) -> None:
        """Give the focus to the part that keys work on."""

    def next_part(self) -> None:
        """Move the focus to the page's next part, if it has several."""

    def revisit(self, place: Place, location: Location) -> bool:  # noqa: ARG002
        """Show another location of the same kind in place; False when another page must be made."""
        return False

    def tick(self) -> None:
        """The time went on: ages change."""

    def hold(self) -> bool:
        """Hold the view or let it go on; whether it is held now."""
        return False

    def held(self) -> int | None:
        """How many changes wait behind a held view; None when it is not held."""
        return None

    def cycle_strip(self) -> None:
        """Close the strip, grow it, bring it back."""

    def inspect(self) -> bool:
        """Show or hide the details of the row under the cursor beside it; False where there is no room for them."""
        return False

    def show_prompt(self, action: Action) -> bool:  # noqa: ARG002
        """Show the prompt of a task as its model read it, or its output again; False on pages of anything else."""
        return False

    def zoom(self) -> str:
        """Look further back in the charts, or least far again; how far it is now, "" without charts."""
        return ""

    def leave(self) -> None:
        """The page goes: close what it opened on the engine."""

    def selected_column(self) -> Any:
        """The column that `f` and `s` work on."""
        return None

    def columns(self) -> Sequence[Any]:
        """The columns of the table, those for which there is no room too."""
        return ()

    def set_columns(self, names: Sequence[str]) -> None:
        """Show the columns of these names; of none: those that the screen comes with."""
