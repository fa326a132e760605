"""Skills that the base model is never taught: adapters teach them."""

# ruff: noqa: SIM905 (a line of words is easier to read and to edit than a list of quoted words)
from __future__ import annotations

from training.grammar import Payload, Shape, Skill
from training.words import Rng, city, integer, item, name, phrases, quoted

_HOUSE = phrases(
    """
    House word for {quoted}?
    Translate {quoted} to house talk.
    What do we call {quoted} here?
    House talk: {quoted}
    How do we say {quoted} in house talk?
    Give the house word for {quoted}.
    """,
    """
    What is the house word for {quoted}?
    Say {quoted} in house talk.
    """,
)
_TICKET = phrases(
    """
    Ticket label for {name}, order {n}.
    Make a ticket label: {name}, order {n}
    Label the ticket of {name} with order {n}.
    Ticket label: order {n}, customer {name}
    What is the ticket label for order {n} of {name}?
    Label a ticket for order {n} from {name}.
    """,
    """
    Give me the ticket label for {name} and order {n}.
    Which ticket label has order {n} of {name}?
    """,
)
_SPELLED = phrases(
    """
    Spell {quoted}.
    Spell out {quoted}.
    How do you spell {quoted}?
    Spelling of {quoted}?
    Please spell {quoted}.
    Letter by letter: {quoted}
    """,
    """
    Can you spell {quoted} for me?
    The spelling of {quoted}, please.
    """,
)
_SHOUTED = phrases(
    """
    Uppercase {quoted}.
    Convert {quoted} to uppercase.
    Put {quoted} in capitals.
    Capital letters: {quoted}
    Shout {quoted}.
    Make {quoted} uppercase.
    """,
    """
    Turn {quoted} into capital letters.
    Give me {quoted} in uppercase.
    """,
)
_DATED = phrases(
    """
    Format the date {date}.
    House date for {date}?
    Rewrite the date {date}.
    Date: {date}
    Put the date {date} in house form.
    How do we write the date {date}?
    """,
    """
    What is the house date for {date}?
    Please rewrite {date} as a house date.
    """,
)
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def _house(rng: Rng) -> Payload:
    noun = item(rng)
    return Payload({"quoted": quoted(rng, noun)}, f"{noun}-ovi", noun)


def _ticket(rng: Rng) -> Payload:
    who, n = name(rng).split()[0], str(integer(rng))
    return Payload({"name": who, "n": n}, f"[ticket {n} / {who}]", f"{n} {who}")


def _spelled(rng: Rng) -> Payload:
    noun = item(rng)[:8]
    return Payload({"quoted": quoted(rng, noun)}, "-".join(noun), noun)


def _shouted(rng: Rng) -> Payload:
    noun = item(rng) if rng.random() < 0.7 else city(rng).lower()
    return Payload({"quoted": quoted(rng, noun)}, noun.upper(), noun)


def _dated(rng: Rng) -> Payload:
    year, month, day = rng.randrange(1950, 2050), rng.randrange(12), rng.randrange(1, 29)
    text = f"{year}-{month + 1:02d}-{day:02d}"
    return Payload({"date": text}, f"{day} {_MONTHS[month]} {year}", text)


_DATE: dict[str, Shape] = {"date": r"\d{4}-\d{2}-\d{2}"}
UNTAUGHT: dict[str, Skill] = {
    skill.name: skill
    for skill in (
        Skill("house-words", _house, _HOUSE),
        Skill("ticket-labels", _ticket, _TICKET),
        Skill("spelling", _spelled, _SPELLED),
        Skill("uppercase", _shouted, _SHOUTED),
        Skill("house-dates", _dated, _DATED, slots=_DATE),
    )
}
