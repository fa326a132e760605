"""The one form: fields made from a struct, checked while they are typed; what the engine refuses is shown at its field."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Input, TextArea

from aiwm_tui.forms.fields import FormField, Kind
from aiwm_tui.forms.values import field_named, read, written
from aiwm_tui.live.text import Line, clean
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.dialogs.base import LOW, PANEL, Dialog, block
from aiwm_tui.screens.wording import hints
from aiwm_tui.widgets.choice import Choice
from aiwm_tui.widgets.entry import Entry
from aiwm_tui.widgets.lines import TextBlock, TextLine
from engine.contract.errors import AiwmError

Send = Callable[[dict[str, Any]], Awaitable[Line]]
LABEL_CELLS = 24
LEFT: Line = (("left before the engine answered: ", "text"), (":events", "key"), (" says what was done", "text"))
"""What is said when a form is left while the engine is at it."""
FOOT_LABEL = 15
"""Cells of the labels below the fields."""
Lines = Callable[[], Awaitable[Sequence[Line]]]
Foot = Callable[[Mapping[str, str]], Sequence[Line]]
_CHROME, _CHROME_LOW = 8, 5
"""Lines of the dialog beside its fields: title, blank lines, help, keys, padding; those on a low screen."""


class Form(TextArea):
    """An editor of several lines inside a form: ↵ is a line end there, so the form is sent by ctrl+s."""


class FormRow(Vertical):
    """A field: its label, where it is typed, and below it what is wrong."""

    DEFAULT_CSS = f"""
    FormRow {{ height: auto; }}
    FormRow Horizontal {{ height: auto; }}
    FormRow .label {{ width: {LABEL_CELLS}; }}
    FormRow Entry {{ width: 1fr; }}
    FormRow #error {{ display: none; }}
    FormRow TextArea, FormRow TextArea:focus {{
        width: 1fr; border: none; padding: 0 1; background: $panel; color: $foreground; scrollbar-size: 1 1;
    }}
    """

    def __init__(self, field: FormField, text: str) -> None:
        super().__init__(id="field-" + field.key.replace(".", "-"))
        self.field = field
        self.editor = self._made(text)
        self.error: AiwmError | None = None
        self.wrong = ""
        self._label = TextLine()
        self._said = TextBlock(id="error")
        self._label.ground = self._said.ground = PANEL

    def compose(self) -> ComposeResult:
        self._label.add_class("label")
        self._mark_label(here=False)
        with Horizontal():
            yield self._label
            yield self.editor
        yield self._said

    def _mark_label(self, *, here: bool) -> None:
        """The label, with a sign where one types: the cursor alone is easily missed, and a terminal may draw it as it likes."""
        style = "strong" if here else "text" if self.field.required else "dim"
        label = self.field.label
        while len(label) > LABEL_CELLS - 2 and " " in label:
            # The group that the field is of says least: `requests per minute`, not `limits requests per mi`.
            label = label.partition(" ")[2]
        self._label.show(((clean(label, LABEL_CELLS - 2), style),), (("› ", "mark"),) if here else ())

    def on_descendant_focus(self) -> None:
        self._mark_label(here=True)

    def on_descendant_blur(self) -> None:
        self._mark_label(here=False)

    def _made(self, text: str) -> Entry | Choice | Form:
        if self.field.kind is Kind.choice:
            return Choice(self.field.choices, text)
        if self.field.lines > 1:
            area = Form(text, tab_behavior="focus", show_line_numbers=False)
            area.styles.height = max(self.field.lines, min(10, text.count("\n") + 1))
            return area
        return Entry(text, select_on_focus=False)

    @property
    def text(self) -> str:
        editor = self.editor
        return editor.text if isinstance(editor, TextArea) else editor.value

    def put(self, text: str) -> None:
        editor = self.editor
        if isinstance(editor, TextArea):
            editor.load_text(text)
            editor.styles.height = max(self.field.lines, min(10, text.count("\n") + 1))
        else:
            editor.value = text

    def fault(self, error: AiwmError | None) -> None:
        """Say what is wrong with the text as it is now."""
        self.error, self.wrong = error, self.text
        line: Line = ()
        if error is not None:
            fix = f"  {error.info.fix}" if error.info.fix else ""
            line = (
                (" " * LABEL_CELLS + " ✗ ", "broken"),
                (clean(error.info.message, 300), "text"),
                (clean(fix, 200), "key"),
            )
        cells = (self.size.width or 80) - 1
        lines = wrapped(line, cells, LABEL_CELLS + 3)
        self._said.styles.height = len(lines)
        self._said.show(lines)
        self._said.display = error is not None


class FormDialog(Dialog[Line]):
    """`send` gets what was typed, by key, as plain data, and gives the line that says what was done; it raises what the engine refuses.
    `head` stands above the fields, `everything` makes a longer one for who asks, `foot` stands below them, made of what is typed.
    ↵ sends, ctrl+s too; Tab and ↓ go on to the next field."""

    DEFAULT_CSS = """
    FormDialog > Vertical { width: 100; }
    FormDialog VerticalScroll { height: auto; scrollbar-size: 1 1; }
    FormDialog #help { margin-top: 1; }
    FormDialog.-low #help { margin-top: 0; }
    FormDialog #refused { display: none; }
    """
    # Priority: a key is acted on before the next one is looked at, so typing ahead lands in the right field.
    BINDINGS = [
        Binding("ctrl+s", "send", "send", id="form.send", priority=True),
        Binding("enter", "line_send", "send", id="form.enter", priority=True),
        Binding("tab", "go(1)", "next field", id="form.next", priority=True),
        Binding("down", "line_go(1)", "next field", id="form.down", priority=True),
        Binding("shift+tab", "go(-1)", "field before", id="form.before", priority=True),
        Binding("up", "line_go(-1)", "field before", id="form.up", priority=True),
        Binding("pagedown", "line_page(1)", "further down", id="form.page_down", priority=True),
        Binding("pageup", "line_page(-1)", "further up", id="form.page_up", priority=True),
        Binding("ctrl+o", "list", "list them all", id="form.list", priority=True),
    ]

    def __init__(
        self,
        title: str,
        fields: Sequence[FormField],
        texts: Mapping[str, str],
        send: Send,
        *,
        intro: str = "",
        head: Sequence[Line] = (),
        everything: Lines | None = None,
        foot: Foot | None = None,
        verb: str = "do it",
        leave: str = "leave: nothing changes",
        first: str = "",
        left: Line = LEFT,
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__()
        self._title = title
        self._head = [*([((text, "dim"),) for text in intro.split("\n")] if intro else []), *head]
        self._everything = everything
        self._foot = foot
        self._send = send
        self._verb = verb
        self._leave = leave
        self._first = first
        self._left = left
        self._now_ms = now_ms
        self._asking = False
        self.fields = tuple(fields)
        self._rows = {field.key: FormRow(field, texts.get(field.key, "")) for field in self.fields}

    def panel(self) -> ComposeResult:
        yield block([((clean(self._title, 200), "title"),), ()])
        with VerticalScroll(can_focus=False):
            yield block(self._above(), "head")
            yield from self._rows.values()
            yield block((), "foot")
        yield block((), "help")
        yield block((), "refused")
        keys = [("↵", self._verb)] if not any(field.lines > 1 for field in self.fields) else [("ctrl+s", self._verb)]
        more = [("ctrl+o", "list them all")] if self._everything is not None else []
        yield block([hints(*keys, ("esc", self._leave), ("Tab", "next field"), *more)])

    def on_mount(self) -> None:
        row = self._rows.get(self._first) or next(iter(self._rows.values()))
        self.set_focus(row.editor)
        self.query_one("#help").styles.height = 2
        self._share_height()

    def on_resize(self) -> None:
        self._show_foot()
        self._share_height()

    def _above(self) -> list[Line]:
        return [*self._head, ()] if self._head else []

    def _show_foot(self) -> None:
        if self._foot is None:
            return
        shown = self.query_one("#foot", TextBlock)
        cells = max(20, self.query_one(VerticalScroll).size.width - 1)
        lines = [
            part
            for line in self._foot({key: row.text for key, row in self._rows.items()})
            for part in wrapped(line, cells, FOOT_LABEL)
        ]
        if len(lines) != len(shown.lines):
            shown.styles.height = len(lines)
            self._share_height(len(lines))
        shown.show(lines)

    def _share_height(self, foot: int | None = None) -> None:
        """As high as what is in it; where the screen is too low for all, it scrolls, and the field that is typed in stays in sight."""
        foot = len(self.query_one("#foot", TextBlock).lines) if foot is None else foot
        needed = len(self._above()) + foot + sum(row.field.lines + bool(row.error) for row in self._rows.values())
        low = self.app.size.height < LOW
        room = self.app.size.height - _CHROME_LOW if low else self.app.size.height * 9 // 10 - _CHROME
        self.query_one("#help").styles.height = 1 if low else 2
        self.query_one(VerticalScroll).styles.height = "auto" if needed <= room else max(1, room)

    def row(self, key: str) -> FormRow:
        return self._rows[key]

    def texts(self) -> dict[str, str]:
        """What is typed, by key, as it shall be sent."""
        return {key: row.text for key, row in self._rows.items()}

    # While it is typed

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._check(event.input)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._check(event.text_area)

    def on_choice_changed(self, message: Choice.Changed) -> None:
        message.stop()
        self._check(message.choice)

    def _check(self, editor: Widget) -> None:
        """A mistake is said as soon as it is one; that something is still missing is said when the form is sent."""
        self._show_foot()
        row = next((row for row in self._rows.values() if row.editor is editor), None)
        if row is None or (row.error is not None and row.text == row.wrong):
            return
        error: AiwmError | None = None
        if row.text.strip():
            try:
                read(row.field, row.text, self._now_ms())
            except AiwmError as wrong:
                error = wrong
        self._fault(row, error)

    def _fault(self, row: FormRow, error: AiwmError | None) -> None:
        row.fault(error)
        self._share_height()

    def on_descendant_focus(self) -> None:
        focused = self.focused
        row = next((row for row in self._rows.values() if row.editor is focused), None)
        if row is None:
            return
        field = row.field
        standard = "" if field.required else written(field, field.default)
        default = f" Default: {standard}." if standard else ""
        how = {
            Kind.words: "several, with commas between",
            Kind.duration: "30s, 5m, 1h30m",
            Kind.size: "4G, 500M, 16k",
            Kind.moment: "30s from now, 02:30, or a date and time",
            Kind.choice: "← → choose",
            Kind.payload: "a prompt, or a payload as JSON: {…}",
            Kind.json: "JSON",
        }.get(field.kind, "")
        help_line: Line = (
            (clean(field.help.replace("`", ""), 400), "dim"),
            (default, "dim"),
            (f"  {how}" if how else "", "faint"),
        )
        cells = max(20, self.query_one("#help").size.width or 80)
        self.query_one("#help", TextBlock).show(wrapped(help_line, cells, 0)[:2])

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """In an editor of several lines ↵ ↑ ↓ are its own."""
        return not (action.startswith("line_") and isinstance(self.focused, Form))

    def action_line_go(self, step: int) -> None:
        self.action_go(step)

    def action_line_send(self) -> None:
        self.action_send()

    def action_line_page(self, step: int) -> None:
        inside = self.query_one(VerticalScroll)
        inside.scroll_relative(y=step * max(1, inside.size.height - 1), animate=False)

    def action_list(self) -> None:
        """Show the longer head from its first line."""
        if self._everything is not None:
            self.run_worker(self._list(self._everything), group="list", exclusive=True)

    async def _list(self, everything: Lines) -> None:
        try:
            self._head = list(await everything())
        except AiwmError as error:
            if self.query("#head"):
                self._refuse(error)
            return
        if not self.query("#head"):
            return
        shown = self.query_one("#head", TextBlock)
        shown.styles.height = len(self._above())
        shown.show(self._above())
        self._share_height()
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def action_go(self, step: int) -> None:
        keys = list(self._rows)
        at = next((place for place, row in enumerate(self._rows.values()) if row.editor is self.focused), 0)
        # At once: focus() would only ask for it, and the next key would still go to the field before.
        self.set_focus(self._rows[keys[(at + step) % len(keys)]].editor)

    def action_send(self) -> None:
        """Send what is typed, after what was typed before and is still on its way into its field."""
        (self.focused or self).call_later(self._gather)

    # Sending

    def _gather(self) -> None:
        values: dict[str, Any] = {}
        wrong: FormRow | None = None
        typed = self.texts()
        for key, row in self._rows.items():
            try:
                values[key] = read(row.field, typed[key], self._now_ms())
                self._fault(row, None)
            except AiwmError as error:
                self._fault(row, error)
                wrong = wrong or row
        self._refuse(None)
        if wrong is not None:
            self.set_focus(wrong.editor)
            return
        # A worker: the dialog can be left while the engine does not answer.
        self._asking = True
        # A callable: a coroutine would be left lying where the form is closed before it has begun.
        self.run_worker(partial(self._ask, values), group="ask", exclusive=True)  # type: ignore[arg-type]

    async def action_dismiss(self, result: Line | None = None) -> None:
        """Leave. What the engine was asked for and has not answered yet may be done all the same."""
        if self._asking:
            self.dismiss(self._left)
            return
        await super().action_dismiss(result)

    async def _ask(self, values: dict[str, Any]) -> None:
        try:
            done = await self._send(values)
        except AiwmError as error:
            self._asking = False
            field = field_named(self.fields, error.info.field)
            if field is None:
                self._refuse(error)
            else:
                row = self._rows[field.key]
                self._fault(row, error)
                self.set_focus(row.editor)
            return
        self.dismiss(done)

    def tell(self, line: Line) -> None:
        """Say how far it has come, in place of the help."""
        # It may be left already, its parts gone before its work has heard of it.
        for shown in self.query("#help").results(TextBlock):
            shown.show([line])

    def _refuse(self, error: AiwmError | None) -> None:
        """What the engine refuses and no field is to blame for."""
        shown = self.query_one("#refused", TextBlock)
        shown.display = error is not None
        if error is not None:
            lines = wrapped((("✗ ", "broken"), (clean(str(error), 600), "text")), max(20, self.size.width - 12))
            shown.styles.height = len(lines)
            shown.show(lines)
