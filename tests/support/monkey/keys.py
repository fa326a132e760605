"""What the monkey presses: phrases by chance, from a seed and the table of actions alone, so that a seed is always the same keys.

A stroke is a key in Textual's names, one character, or one of the words below, which are not keys of a keyboard."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from aiwm_tui.actions import ACTIONS, Group
from aiwm_tui.screens.registry import INFOS, NAMES

SETTLE = "<settle>"
"""Wait until everything that was asked for has arrived."""
CONFIRM = "<confirm>"
"""Type what the dialog wants typed."""
RESIZE, CLICK, DOUBLE, WHEEL_UP, WHEEL_DOWN = "<resize", "<click", "<double", "<wheel-up", "<wheel-down"
"""Followed by two numbers: `<resize 80 24>`, or hundredths of the screen: `<click 50 12>`."""

SIZES = ((120, 36), (80, 24), (160, 45), (40, 10), (120, 36), (81, 23), (200, 60), (20, 5), (3, 2), (1, 1), (119, 31))
FILTERS = (
    "state:failed,completed",
    "!state:pending",
    "id:t-1*",
    "age>5s",
    "is:fault",
    "sort:-age,id",
    "sort:id",
    "demo",
    "t-10001",
    "queue:demo sort:-age",
    "nothing-is-called-that",
    "state:",
    "age>soon",
    "field>>",
    '"not closed',
    "text:river",
    "name:*",
    "*",
)
TEXTS = (
    "What is 17 + 25?",
    "demo",
    "spare",
    "echo",
    "nano",
    "5",
    "-1",
    "20",
    "2h",
    "tomorrow",
    "[bold]no[/bold]",
    "漢字 e\u0301 \u202eabc",
    '{"prompt": "12 + 30"}',
    "{",
    "a,b,,c",
    "/no/such/place",
    "y" * 40,
)
ITEMS = (
    ":tasks/t-10001",
    ":tasks/t-10003",
    ":queues/demo",
    ":pools/demo",
    ":models/aiwm-nano.0",
    ":adapters/tone@v1",
    ":workers/nano",
    ":events/5",
    ":templates/greet",
    ":sources/docs",
    ":operations/op-1",
    ":batches/b-1",
    ":lessons/L-1",
    ":compare/t-10001",
    ":compare/tone@v1",
)
NOWHERE = (":", ":nowhere", ":tasks/nobody", ":tasks state:", ":queues/", ":tasks/t-10001 x:y", "::", ":tasks sort:-")
_IN_DIALOGS = (
    "tab", "tab", "shift+tab", "down", "up", "left", "right", "space", "enter", "ctrl+s", "escape", "escape",
    "backspace", "delete", "home", "end", "1", "2", "3", "j", "k", "q", "ctrl+t", "pagedown", "pageup", "ctrl+a",
)  # fmt: skip
_ODD = (
    "f1",
    "f5",
    "ctrl+z",
    "ctrl+l",
    "ctrl+underscore",
    "insert",
    "delete",
    "shift+up",
    "ctrl+at",
    "é",
    "漢",
    "\\",
    "~",
    "ctrl+r",
)
_WEIGHTS = {Group.look: 6, Group.change: 4, Group.move: 6, Group.general: 1}
_LEAVES = frozenset({"quit"})


def actions() -> tuple[list[str], list[int]]:
    """Every key of the table with its weight: moving and looking often, leaving never by itself."""
    keys: dict[str, int] = {}
    for action in ACTIONS:
        if action.id not in _LEAVES:
            for key in action.keys.split(","):
                keys[key] = max(keys.get(key, 0), _WEIGHTS.get(action.group, 2))
    return list(keys), list(keys.values())


CHANGES = tuple(sorted({key for action in ACTIONS if action.group is Group.change for key in action.keys.split(",")}))


_STAY = 40
"""After so many keys in one place it is time for another."""


class Monkey:
    """Phrases without end. Places come from shuffled packs, so that each is visited before one is visited again."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._keys, self._weights = actions()
        self._packs: tuple[list[str], list[str]] = ([], [])

    def phrases(self) -> Iterator[list[str]]:
        """Each a short row of strokes that belongs together."""
        kinds = (
            (self._some_keys, 36),
            (self._jump, 14),
            (self._change, 16),
            (self._filter, 6),
            (self._destroy, 5),
            (self._many, 2),
            (self._overlay, 4),
            (self._resize, 4),
            (self._mouse, 8),
            (self._odd, 3),
            (self._leave, 1),
        )
        makers, weights = [kind for kind, _ in kinds], [weight for _, weight in kinds]
        yield [SETTLE]
        stayed = 0
        while True:
            maker = self._chance.choices(makers, weights)[0] if stayed < _STAY else self._jump
            phrase = maker()
            stayed = 0 if maker == self._jump else stayed + len(phrase)
            if self._chance.random() < 0.4:
                phrase.append(SETTLE)
            yield phrase

    def _one_of(self, choices: Sequence[str]) -> str:
        return self._chance.choice(choices)

    def _some_keys(self) -> list[str]:
        return self._chance.choices(self._keys, self._weights, k=self._chance.randint(1, 6))

    def _jump(self) -> list[str]:
        place = self._place()
        if place[1:] not in INFOS and "/" not in place and self._chance.random() < 0.25:
            place += " " + self._one_of(FILTERS)
        if self._chance.random() < 0.15:
            return [":", *place[1 : self._chance.randint(2, 5)], "tab", "enter", "escape"]
        # Out of any dialog first: the place is to be seen, not typed into a field.
        return ["escape", "escape", "escape", ":", *place[1:], "enter", SETTLE]

    def _place(self) -> str:
        """The next screen, or the next row or nowhere."""
        screens, others = self._packs
        to_screen = self._chance.random() < 0.65
        pack, whole = (screens, [f":{name}" for name in NAMES]) if to_screen else (others, [*ITEMS, *NOWHERE])
        if not pack:
            pack += whole
            self._chance.shuffle(pack)
        return pack.pop()

    def _filter(self) -> list[str]:
        start = ["/", *(["ctrl+u"] if self._chance.random() < 0.7 else [])]
        end = ["escape"] if self._chance.random() < 0.3 else ["enter"]
        return [*start, *self._one_of(FILTERS), *end]

    def _change(self) -> list[str]:
        """A changing key, and something into the dialog that it may open."""
        phrase = [*["down"] * self._chance.randint(0, 3), self._one_of(CHANGES), SETTLE]
        for _ in range(self._chance.randint(0, 5)):
            phrase += self._one_of(TEXTS) if self._chance.random() < 0.3 else [self._one_of(_IN_DIALOGS)]
        return [*phrase, self._one_of(("enter", "ctrl+s", "escape")), SETTLE, "escape"]

    def _destroy(self) -> list[str]:
        """Something that cannot be taken back, confirmed as it wants to be, or not."""
        where = self._one_of(("queues", "pools", "templates", "sources", "tasks", "tasks", "instances", "models"))
        phrase = ["escape", "escape", ":", *where, "enter", SETTLE, *["down"] * self._chance.randint(0, 4), "X", SETTLE]
        return [*phrase, *([CONFIRM] if self._chance.random() < 0.7 else []), "enter", SETTLE, "escape", "escape"]

    def _many(self) -> list[str]:
        """A change of several tasks."""
        which = self._one_of(("state:pending,scheduled", "state:failed", "queue:shut", ""))
        phrase = ["escape", "escape", ":", *f"tasks {which}", "enter", SETTLE]
        phrase += self._one_of(("*", "   ", "  "))
        return [
            *phrase,
            self._one_of(("X", "R", "M")),
            SETTLE,
            CONFIRM,
            self._one_of(("enter", "escape")),
            SETTLE,
            "escape",
        ]

    def _overlay(self) -> list[str]:
        key = self._one_of(("question_mark", "ctrl+t", "ctrl+p"))
        return [key, SETTLE, *(self._one_of(_IN_DIALOGS) for _ in range(self._chance.randint(1, 5))), "escape"]

    def _resize(self) -> list[str]:
        (wide, high), (back, low) = self._chance.choice(SIZES), SIZES[0]
        stay = [] if self._chance.random() < 0.3 else [*self._some_keys(), SETTLE, f"{RESIZE} {back} {low}>"]
        return [f"{RESIZE} {wide} {high}>", *stay]

    def _mouse(self) -> list[str]:
        what = self._one_of((CLICK, CLICK, CLICK, DOUBLE, WHEEL_UP, WHEEL_DOWN))
        return [f"{what} {self._chance.randint(0, 99)} {self._chance.randint(0, 99)}>"]

    def _odd(self) -> list[str]:
        return self._chance.choices(_ODD, k=3)

    def _leave(self) -> list[str]:
        return [self._one_of(("q", "ctrl+c")), SETTLE, self._one_of(("escape", "escape", "enter", "2", "3")), SETTLE]


def strokes(seed: int, count: int) -> list[str]:
    """The first strokes of a seed, of which `count` are keys, clicks or sizes."""
    out: list[str] = []
    for phrase in Monkey(seed).phrases():
        for stroke in phrase:
            out.append(stroke)
            count -= stroke != SETTLE
            if count <= 0:
                return out
    raise AssertionError("phrases have no end")
