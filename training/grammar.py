"""What a skill is: phrasings with slots, a payload with its answer, a split by payload, and a test of membership.

Every text the generator can produce is a template whose slots are filled with strings of a known shape. `possible` reads the
same templates backwards, each slot standing for its shape: it accepts every text the generator can make, and some it cannot, so a
text it rejects can never have been trained on.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from training.words import (
    COLORS,
    DAYS,
    Phrases,
    Rng,
    babble,
    city,
    item,
    loose_pattern,
    loose_words,
    name,
    phrases,
    word,
)

# Instructions are put together from these, so that no single wording carries a skill.
INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "verb": (
        *("Extract", "Extract", "Extract", "Find", "Find", "Get", "Give me", "Return", "Show", "Copy", "Tell me"),
        *("Pick out", "Take", "Write down", "I need", "Please extract", "Please find", "I want", "Look for"),
    ),
    "judge": ("Classify", "Classify", "Name", "Tell me", "Give", "Judge", "Label", "Find", "State", "Decide", "Say"),
    "mood": ("sentiment", "sentiment", "sentiment", "mood", "tone"),
    "kind": ("topic", "topic", "category", "section", "subject"),
    "link": (
        *(":", ":", " from:", " in:", " of this:", " from this:", " from this text:", " in this message:"),
        *(" out of this:", " of this note:", " here:", " in the text:", " for me:"),
    ),
}
# What a slot can hold: a regular expression (a superset of what its sampler makes), or templates with slots of their own.
Shape = str | tuple[str, ...]
_NAME = r"[a-z]{1,12}"
_HOST = r"[a-z]{1,12}(?:-[a-z]{1,12})?\.[a-z]{2,3}"
SLOTS: dict[str, Shape] = {
    **dict.fromkeys(("a", "b", "n", "age", "price"), r"\d{1,9}"),
    **dict.fromkeys(("name", "name2", "city"), rf"{_NAME}(?: {_NAME})?"),
    "word": r"[a-z]{1,12}",
    "query": r"[a-z]{1,12}(?: [a-z]{1,12}){0,3}",
    "file": r"[a-z]{1,12}\.[a-z]{2,4}",
    "folder": r"(?:/[a-z]{1,12}){1,2}",
    "loose": loose_pattern(),
    "gap": ",? ",
    **dict.fromkeys(("words", "few", "few2", "few3"), ("{loose}", "{loose}{gap}{words}")),
    **dict.fromkeys(("Words", "Few", "Few2"), ("{words}",)),
    "babble": ("{words}.", "{words}!", "{words},", "{words}:"),
    **dict.fromkeys(("item", "thing"), r"[a-z]{1,12}(?: [a-z]{1,12})?"),
    "quoted": r"""['"][a-z0-9 -]+['"]""",
    "email": rf"[a-z]{{1,12}}(?:[._]?[a-z0-9]{{1,12}})?@{_HOST}",
    "url": rf"(?:https?://)?(?:www\.)?{_HOST}(?:/[a-z0-9]{{1,12}}){{0,2}}",
    "color": tuple(COLORS),
    "day": tuple(DAYS),
    **INSTRUCTIONS,
}

OPENINGS = phrases(
    """
    Hi,
    {babble}
    {babble}
    {babble}
    {babble}
    {babble}
    {babble}
    {babble}
    {babble}
    {babble}
    {babble}
    {babble}
    {babble}
    Hello!
    Hey,
    Please:
    Quick question:
    One more:
    Next:
    Task:
    Dear team,
    Ok,
    Good morning!
    For {name}:
    From {name}:
    {name} asks:
    """,
    """
    Sorry to bother you:
    Another one:
    """,
)
CLOSINGS = phrases(
    """
    Thanks!
    Thank you.
    Please.
    Cheers!
    Regards, {name}
    Thanks, {name}
    """,
    "Many thanks.",
)
FILLERS = phrases(
    """
    {babble}
    {babble}
    {babble}
    {babble}
    We met in {city}.
    I hope you are well.
    The {item} is here.
    {name} told me on {day}.
    I am writing from {city}.
    This is about the {item}.
    Hello {name}!
    Let me know.
    {name} will be back on {day}.
    We are a small shop in {city}.
    I bought the {item} from {name}.
    See you on {day}.
    """,
    """
    As you know, {name} is away.
    Greetings from {city}.
    Nothing else is new with the {item}.
    """,
)


@dataclass(frozen=True, slots=True)
class Payload:
    """values fill the slots of a phrasing; key decides the split, so equal payloads never cross it."""

    values: dict[str, str]
    answer: str
    key: str
    form: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    system: str | None
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Skill:
    """draw makes a payload; phrasings wrap it; frames, where given, are the sentences that fill {text} of a phrasing."""

    name: str
    draw: Callable[[Rng], Payload]
    phrasings: Phrases
    frames: tuple[Phrases, ...] = ()
    slots: dict[str, Shape] = field(default_factory=dict)
    systems: tuple[str, ...] = ()
    wrapped: bool = True
    one_split: bool = False


def split_of(key: str) -> str:
    """train (85 %), dev (5 %) or test (10 %), by a digest of the payload."""
    bucket = int(hashlib.blake2b(key.encode(), digest_size=4).hexdigest(), 16) % 100
    return "test" if bucket < 10 else "dev" if bucket < 15 else "train"


def draw(rng: Rng, skill: Skill, part: str) -> Sample:
    """One sample of the given split."""
    payload = skill.draw(rng)
    while not skill.one_split and split_of(f"{skill.name}:{payload.key}") != part:
        payload = skill.draw(rng)
    values = {slot: rng.pick(options) for slot, options in INSTRUCTIONS.items()} | payload.values
    prompt = (payload.form or skill.phrasings.draw(rng)).format_map(values)
    if rng.random() < 0.15 and prompt.split()[0].strip(",.:") not in payload.answer:
        prompt = prompt[0].lower() + prompt[1:]  # people type carelessly
    if skill.wrapped:
        prompt = _wrap(rng, prompt)
    if rng.random() < 0.1 and prompt[-1] in ".?" and prompt[-2] not in "'\"":
        prompt = prompt[:-1]
    return Sample(rng.pick(skill.systems) if skill.systems else None, prompt, payload.answer)


def nouns(rng: Rng) -> dict[str, str]:
    """Fillings for the slots that carry no answer."""
    words, few = loose_words(rng, 1, 7), loose_words(rng, 1, 4)
    return {
        "item": item(rng),
        "name": name(rng),
        "city": city(rng),
        "day": rng.pick(DAYS),
        "Words": words[0].upper() + words[1:],
        "words": loose_words(rng, 1, 6),
        "Few": few[0].upper() + few[1:],
        "few": loose_words(rng, 1, 3),
    }


def padded(rng: Rng, text: str) -> str:
    """The sentence, now and then with another one before or after it that does not matter."""
    chance = rng.random()
    if chance >= 0.3:
        return text
    filler = FILLERS.draw(rng).format(babble=babble(rng), **nouns(rng))
    return f"{filler} {text}" if chance < 0.15 else f"{text} {filler}"


def _wrap(rng: Rng, prompt: str) -> str:
    if rng.random() < 0.25:
        opening = OPENINGS.draw(rng).format(name=word(rng).capitalize(), babble=babble(rng))
        prompt = f"{opening} {prompt}"
    if rng.random() < 0.08 and prompt[-1] in ".?!":
        prompt = f"{prompt} {CLOSINGS.draw(rng).format(name=word(rng).capitalize())}"
    return prompt


def possible(skill: Skill) -> Callable[[str], bool]:
    """A test whether training could make a prompt for this skill; true for others of the same shape too, never wrongly false.

    Case is ignored and one end mark may be missing, since both are varied at random.
    """
    rules = SLOTS | skill.slots | {"filler": FILLERS.seen, "opening": OPENINGS.seen, "closing": CLOSINGS.seen}
    rules["frame"] = tuple(template for frame in skill.frames for template in frame.seen)
    rules["text"] = ("{frame}", "{filler} {frame}", "{frame} {filler}")
    rules["body"] = skill.phrasings.seen
    rules["prompt"] = ("{body}", "{opening} {body}", "{body} {closing}", "{opening} {body} {closing}")
    compiled = {slot: _compile(shape) for slot, shape in rules.items()}
    return lambda text: any(_Reading(compiled, (text + end).lower()).whole("prompt") for end in ("", ".", "?"))


_Rule = re.Pattern[str] | tuple[list[str], ...]


def _compile(shape: Shape) -> _Rule:
    if isinstance(shape, str):
        return re.compile(shape)
    if any(re.search(r"\}\w", template) for template in shape):
        raise ValueError("a slot runs into a word: its end could not be found")
    return tuple(re.split(r"\{(\w+)\}", _lower(template)) for template in dict.fromkeys(shape))


def _lower(template: str) -> str:
    """Lower case but for the slots' names."""
    return "".join(part if part.startswith("{") else part.lower() for part in re.split(r"(\{\w+\})", template))


class _Reading:
    """All ways to read one text by the rules. Positions are memoised, so ambiguity costs no time."""

    def __init__(self, rules: dict[str, _Rule], text: str) -> None:
        self.rules, self.text = rules, text
        self.known: dict[tuple[str, int], set[int]] = {}
        inside = [a.isalnum() and b.isalnum() for a, b in itertools.pairwise(text)]
        self.stops = [end for end in range(1, len(text) + 1) if end == len(text) or not inside[end - 1]]

    def whole(self, slot: str) -> bool:
        return len(self.text) in self.ends(slot, 0)

    def ends(self, slot: str, at: int) -> set[int]:
        """Every position where a value of the slot that starts here may end."""
        if (slot, at) not in self.known:
            rule = self.rules[slot]
            if isinstance(rule, re.Pattern):
                stops = self.stops[bisect.bisect_right(self.stops, at) :][:24]
                found = {end for end in stops if rule.fullmatch(self.text, at, end)}
            else:
                found = set().union(*(self.after(parts, at) for parts in rule))
            self.known[slot, at] = found
        return self.known[slot, at]

    def after(self, parts: list[str], at: int) -> set[int]:
        """The same for a template: literal text and slots by turns."""
        places = {at}
        for i, part in enumerate(parts):
            if i % 2:
                places = {end for place in places for end in self.ends(part, place)}
            else:
                places = {place + len(part) for place in places if self.text.startswith(part, place)}
        return places
