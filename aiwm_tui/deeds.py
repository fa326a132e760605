"""What the actions of `actions.py` do, by their id. Imported with the first key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiwm_tui import (
    changing,
    comfort,
    exporting,
    looking,
    making,
    reading,
    replaying,
    saved,
    serving,
    sets,
    starting,
    talking,
)
from aiwm_tui.actions import ACTIONS, SCREENS, WAYS, Action, Group
from aiwm_tui.completion import complete_filter, complete_jump
from aiwm_tui.live.history import History
from aiwm_tui.live.values import Values
from aiwm_tui.looking import table_location
from aiwm_tui.screens.registry import NAMES
from aiwm_tui.sorting import cycled, filter_by_cell, without_faults
from aiwm_tui.widgets.prompt import Ask
from engine.contract.errors import AiwmError
from engine.contract.query import Location, parse_filter

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page

Deed = Callable[["ConsoleApp", "Page", Action], Awaitable[None]]


async def perform(app: ConsoleApp, action: Action) -> None:
    """Do an action where the console is; say why it cannot be done there."""
    page = app.page
    if not action.on(page.table) or action.id in page.lacks:
        app.say(((f"{action.shown} {action.label}: ", "key"), ("not here", "dim")))
        return
    past = app.replaying.state is not None
    if action.changes and app.read_only:
        why = "this is a recording" if past else "this console is read-only"
        app.say(((f"{action.shown} {action.label}: ", "key"), (f"{why}; nothing was changed", "text")))
        return
    if action.group is Group.replay and action.id != "replay" and not past:
        app.say(((f"{action.shown} {action.label}: ", "key"), ("not here: ctrl+r leads into the past", "dim")))
        return
    if action.id != "copy":
        app.copied = -1
    try:
        await _deed(app, page, action)
    except AiwmError as error:
        app.fail(error)


async def _deed(app: ConsoleApp, page: Page, action: Action) -> None:
    if action.changes and page.marked():
        from aiwm_tui import several

        way = several.way_of(page, action)
        if way is not None:
            await several.change(app, page, action, way)
            return
    await _DEEDS[action.id](app, page, action)


async def answered(app: ConsoleApp, ask: Ask, text: str) -> None:
    """The prompt was answered. It is about the page on which it was opened, also where another one has come since."""
    page = app.shell.asked_on or app.page
    try:
        await _answered(app, page, ask, text)
    except AiwmError as error:
        app.fail(error)


async def _answered(app: ConsoleApp, page: Page, ask: Ask, text: str) -> None:
    if ask is Ask.jump:
        await _jumped(app, app.page, text)
    elif ask is Ask.moment:
        await replaying.go_to(app, text)
    elif ask is Ask.filter:
        location = table_location(page)
        terms, sort = parse_filter(location.table, text)
        await app.go(str(Location(location.table, None, terms, sort or location.sort)))
    elif page is not app.page:
        app.say(((f"{ask.value} ", "key"), (f"{page.location} is not open any more; nothing was done", "text")))
    elif ask is Ask.talk:
        await talking.said(app, page, text)
    else:
        await reading.searched_for(app, page, text)


# Looking


async def _open(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    target = page.opens()
    if target:
        await app.go(target)


async def _up(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """Out of the marks, then back; at the start of the history out of the item, then out of the filter, then to the overview."""
    if page.clear_marks():
        return
    if await app.travel(History.back):
        return
    location = page.location
    if location.item or location.terms:
        await app.go(f":{location.table}")
    else:
        await app.go(":overview")


async def _why(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    page.cycle_strip()


async def _events(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    terms = page.events_of()
    if terms:
        await app.go(f":events {terms}")


async def _details(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    if page.row is not None:
        await app.go(f":{page.table}/{page.row.id}")


async def _this_value(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    column, row = page.selected_column(), page.row
    if column is None or row is None:
        return
    await app.go(str(filter_by_cell(table_location(page), column, row, app.now())))


async def _sort(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    column = page.selected_column()
    if column is None:
        return
    if not column.key:
        app.say(((f"{column.title} has no order", "text"),))
    else:
        await app.go(str(cycled(page.location, column.key)), instead=True)


async def _filter(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    location = table_location(page)
    table, text = location.table, location.filter_text()
    values = Values(app.link, app.shell.arrived, page.known_rows())
    await app.shell.ask(
        Ask.filter, text, lambda text: parse_filter(table, text), lambda text: complete_filter(table, text, values.of)
    )


async def _jump(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    views = saved.load().views
    values = Values(app.link, app.shell.arrived)
    names = (*NAMES, *sorted(views), *looking.WORDS)

    def complete(text: str) -> list[str]:
        return complete_jump(names, text, views, values.of)

    await app.shell.ask(Ask.jump, ":", lambda text: looking.check(text, views), complete)


async def _jumped(app: ConsoleApp, page: Page, text: str) -> None:
    if looking.is_word(text):
        try:
            await looking.do_word(app, page, text)
        except AiwmError as error:
            app.fail(error)
    else:
        await app.go(saved.expanded(text, saved.load().views))


async def _faults(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    location = table_location(page)
    await app.go(str(without_faults(location)))


async def _zoom(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    back = page.zoom()
    app.say((("z zoom: ", "key"), (f"the last {back}" if back else "no charts here", "text")))


async def _hold(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    held = page.hold()
    app.say(
        (("p hold: ", "key"), ("the view stands still; changes are counted" if held else "the view is live", "text"))
    )
    app.status_changed()


async def _mark(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    page.mark()


async def _mark_all(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    page.mark_all()


# Moving


def _scroll(how: Callable[[Any], None]) -> Deed:
    async def deed(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
        scroller = page.scroller()
        if scroller is not None:
            how(scroller)
            app.refresh_time()

    return deed


def _sideways(columns: int) -> Deed:
    async def deed(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
        scroller: Any = page.scroller()
        if hasattr(scroller, "sideways"):
            scroller.sideways(columns)

    return deed


async def _pane(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    page.next_part()


async def _back(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    await app.travel(History.back)


async def _forward(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    await app.travel(History.forward)


async def _previous(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    await app.travel(History.toggle)


# General


def _screen(name: str) -> Deed:
    async def deed(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
        await app.go(f":{name}")

    return deed


async def _palette(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    from aiwm_tui.screens.dialogs.palette import open_palette

    open_palette(app)


async def _theme(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    from aiwm_tui.screens.dialogs.themes import ThemePicker

    def picked(name: str | None) -> None:
        if name is not None:
            app.say((("theme ", "dim"), (name, "text"), (f"   for good: aiwm config set console.theme {name}", "key")))

    app.push_screen(ThemePicker(), picked)


async def _help(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    from aiwm_tui.screens.help.screen import HelpScreen

    app.push_screen(HelpScreen(page.location.table, page.table, page.lacks, app.read_only, app.actions))


async def _quit(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    from aiwm_tui.leaving import leave

    await leave(app)


_DEEDS: dict[str, Deed] = {
    "open": _open,
    "replay": replaying.enter,
    "replay_at": replaying.ask_moment,
    "replay_play": replaying.play,
    "replay_before": replaying.step,
    "replay_after": replaying.step,
    "replay_back": replaying.scrub,
    "replay_on": replaying.scrub,
    "replay_slower": replaying.speed,
    "replay_faster": replaying.speed,
    "begin": starting.begin,
    **{f"way_{number}": starting.begin for number in range(1, len(WAYS) + 1)},
    "look_in": starting.look_in,
    "feed": starting.feed,
    "use_found": starting.use_found,
    "again": starting.again,
    "up": _up,
    "why": _why,
    "events": _events,
    "chain": reading.chain,
    "log": reading.log,
    "search": reading.search,
    "next_match": reading.step,
    "match_before": reading.step,
    "only_matches": reading.only_matches,
    "trouble": reading.trouble,
    "copy_text": reading.copy,
    "wrap": reading.wrap,
    "times": reading.times,
    "details": _details,
    "this_value": _this_value,
    "sort": _sort,
    "filter": _filter,
    "faults": _faults,
    "zoom": _zoom,
    "hold": _hold,
    "copy": looking.copy,
    "not_this_value": looking.not_this_value,
    "columns": looking.columns,
    "inspect": looking.inspect,
    "export": exporting.export,
    "mark": _mark,
    "mark_to_here": looking.mark_to_here,
    "mark_all": _mark_all,
    "submit": making.submit,
    "new": making.new,
    "new_here": making.new,
    "edit": making.edit,
    "pause": making.pause,
    "drain": making.drain,
    "scale": making.scale,
    "retry": sets.change_tasks,
    "move": sets.change_tasks,
    "load": serving.load,
    "unload": serving.unload,
    "unload_now": serving.unload,
    "keep": serving.keep,
    "restart": serving.restart,
    "edit_model": serving.edit_model,
    "try_model": serving.try_model,
    "version": serving.version,
    "keep_adapter": serving.bring,
    "load_adapter": serving.bring,
    "evict": serving.evict,
    "add_adapter": serving.add,
    "compare": serving.compare,
    "ask_prompt": serving.ask_prompt,
    "reload": changing.request,
    "cancel": sets.change_tasks,
    "delete": making.delete,
    "quiet": making.quiet,
    "go_on": making.go_on,
    "approve": making.decide,
    "refuse": making.decide,
    "talk": talking.talk,
    "end": talking.end,
    "undo": changing.undo,
    "cursor_up": _scroll(lambda part: part.move(-1)),
    "cursor_down": _scroll(lambda part: part.move(1)),
    "left": _sideways(-1),
    "right": _sideways(1),
    "page_up": _scroll(lambda part: part.page(-1)),
    "page_down": _scroll(lambda part: part.page(1)),
    "half_up": _scroll(lambda part: part.page(-0.5)),
    "half_down": _scroll(lambda part: part.page(0.5)),
    "top": _scroll(lambda part: part.to_edge(-1)),
    "bottom": _scroll(lambda part: part.to_edge(1)),
    "pane": _pane,
    "back": _back,
    "forward": _forward,
    "previous": _previous,
    "jump": _jump,
    **{f"go_{name}": _screen(name) for _, name, _ in SCREENS},
    "palette": _palette,
    "theme": _theme,
    "mouse": comfort.mouse,
    "bandwidth": comfort.bandwidth,
    "redraw": comfort.redraw,
    "help": _help,
    "quit": _quit,
}

assert set(_DEEDS) == {action.id for action in ACTIONS}
