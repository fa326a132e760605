"""The deeds around a table that change nothing on the engine: its columns, the details beside it, copying, ranges, saved views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiwm_tui import saved
from aiwm_tui.actions import Action
from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, clean, cut
from aiwm_tui.sorting import filter_by_cell
from engine.contract.errors import AiwmError, Code
from engine.contract.query import Location, parse_filter

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page

WORDS = ("save", "forget", "views")
"""What the `:` prompt understands beside locations."""


def table_location(page: Page) -> Location:
    """The page's location, or the whole table of the row under the cursor where the page is no table."""
    if page.location.table == page.table and not page.location.item:
        return page.location
    return Location(page.table)


async def not_this_value(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    column, row = page.selected_column(), page.row
    if column is not None and row is not None:
        await app.go(str(filter_by_cell(table_location(page), column, row, app.now(), without=True)))


async def mark_to_here(app: ConsoleApp, page: Page, action: Action) -> None:
    # What is typed behind it is about the rows that are marked then.
    app.ahead.ask(action, page.mark_to_here, lambda _: True)


async def inspect(app: ConsoleApp, page: Page, action: Action) -> None:
    """The pane of details, or where there is no room for it the page that `d` opens."""
    if page.show_prompt(action):
        return
    if not page.inspect() and page.row is not None:
        await app.go(f":{page.table}/{page.row.id}")


# Columns


async def columns(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    from aiwm_tui.screens.chosen import every_column
    from aiwm_tui.screens.dialogs.columns import ColumnChooser
    from aiwm_tui.screens.spec import table_screen

    screen = table_screen(page.table)
    sample = (page.row, app.now()) if page.row is not None else None

    def decided(names: list[str] | None) -> None:
        if names is None:
            return
        page.set_columns(names)
        try:
            saved.choose_columns(page.table, names)
        except AiwmError as error:
            app.fail(error)
            return
        what = f"{form.plural(len(names), 'column')} of :{page.table}" if names else f":{page.table} as it comes"
        app.say((("o ", "key"), (f"{what}; kept for the next time", "text")))

    app.push_screen(
        ColumnChooser(page.table, every_column(screen), page.columns(), len(screen.columns), sample), decided
    )


# Copying


def copies(page: Page, now: int) -> list[tuple[str, str]]:
    """What `y` copies, pressed once, twice and so on: (what it is, the text). It may be pasted into a shell: no line end, no escape."""
    where = ("the location", clean(str(page.location)))
    row: Any = page.row
    if row is None:
        return [where]
    found = [("the id", clean(str(row.id)))]
    column = page.selected_column()
    if column is not None:
        # A state is copied as its word: the glyph before it is for looking at.
        text = column.value(row) if column.value is not None else column.cell(row, now)[0]
        found.append((column.title, clean(text)))
    if page.columns():
        found.append(("the row", "\t".join(clean(each.cell(row, now)[0]) for each in page.columns())))
    return [*found, where]


async def copy(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    from aiwm_tui.clipboard import to_clipboard

    choices = copies(page, app.now())
    app.copied = (app.copied + 1) % len(choices)
    what, text = choices[app.copied]
    await to_clipboard(app, text)
    following = choices[(app.copied + 1) % len(choices)][0]
    said: Line = (("y ", "key"), (f"copied {what}: ", "dim"), (cut(clean(text, 400), 60), "text"))
    app.say((*said, ("   y", "key"), (f" again: {following}", "dim")) if len(choices) > 1 else said)


# Saved views


def is_word(text: str) -> bool:
    """Whether what was typed at `:` is no location but something to do with saved views."""
    return text.strip().removeprefix(":").partition(" ")[0] in WORDS


def check_word(text: str) -> None:
    """Raises what is wrong with it, before it is done."""
    from aiwm_tui.screens.registry import NAMES

    word, _, name = text.strip().removeprefix(":").partition(" ")
    if word == "views":
        return
    if not name.strip():
        raise AiwmError(Code.bad_request, f"{word} needs a name", field="name", fix=f":{word} night")
    if word == "save":
        saved.check_name(name.strip(), {*NAMES, *WORDS})


def check(text: str, views: Mapping[str, str]) -> object:
    """Raises what is wrong with what was typed at `:`, at its column; the name of a view may stand for its location."""
    from aiwm_tui.screens.registry import locate

    if is_word(text):
        check_word(text)
        return None
    name, _, rest = text.strip().removeprefix(":").partition(" ")
    if not name:
        return None
    if name not in views:
        return locate(text)
    return parse_filter(locate(views[name]).table, rest, len(text) - len(rest))


async def do_word(app: ConsoleApp, page: Page, text: str) -> None:
    """`:save NAME` keeps this location under a name, `:forget NAME` lets go of one, `:views` lists them."""
    word, _, name = text.strip().removeprefix(":").partition(" ")
    name = name.strip()
    check_word(text)
    if word == "save":
        before = saved.save_view(name, str(page.location))
        was = f"; it was {clean(before, 60)}" if before is not None and before != str(page.location) else ""
        app.say(((f":{name}", "key"), (f" is {clean(str(page.location), 100)} from now on{was}", "text")))
    elif word == "forget":
        location = saved.forget_view(name)
        app.say(((f":{name}", "key"), (f" is forgotten; it was {clean(location, 100)}", "text")))
    else:
        from aiwm_tui.screens.dialogs.views import ViewPicker

        def decided(location: str | None) -> None:
            if location is not None:
                app.open_location(location)

        app.push_screen(ViewPicker(), decided)
