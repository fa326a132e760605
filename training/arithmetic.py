"""Skills about numbers: addition, subtraction, finding a number in a sentence."""

from __future__ import annotations

from training.grammar import Payload, Shape, Skill, nouns, padded
from training.words import Rng, integer, item, loose_words, name, phrases, word

ADDITION = phrases(
    """
    What is {a}+{b}?
    What is {a} + {b}?
    {a}+{b}
    {a} + {b} =
    {a}+{b}=
    {a}+{b}=?
    Compute {a} + {b}.
    Compute {a}+{b}.
    Calculate {a}+{b}.
    Calculate {a} + {b}
    Add {a} and {b}.
    Add {b} to {a}.
    How much is {a} plus {b}?
    How much is {a}+{b}?
    What is {a} plus {b}?
    What's {a}+{b}?
    What's {a} plus {b}?
    {a} plus {b}?
    Sum of {a} and {b}?
    What is the sum of {a} and {b}?
    The total of {a} and {b}?
    Work out {a}+{b}.
    Tell me {a} + {b}.
    Solve {a}+{b}
    I need the sum {a} + {b}.
    What do {a} and {b} make together?
    Evaluate {a}+{b}
    Result of {a}+{b}?
    {a} + {b} equals?
    Sum up {a} and {b}.
    If I add {a} and {b}, what do I get?
    {a} and {b} is how much?
    Give me {a} plus {b}.
    {story} What is {a}+{b}?
    {story} What is {a} + {b}?
    {story} How much is {a} plus {b}?
    {story} How much is {a}+{b}?
    {story} Calculate {a}+{b}.
    {story} Compute {a} + {b}.
    {story} What's {a}+{b}?
    {story} {a}+{b}=
    {story} How many together?
    I have {a} {item} and get {b} more. How many now?
    {name} has {a} {item} and buys {b} more. How many in total?
    There are {a} {item} here and {b} there. How many together?
    We got {a} {item} and then {b} more. What is {a}+{b}?
    {a} {item} plus {b} {word}: what is {a} + {b}?
    The {item} needs {a} and the {word} needs {b}. How much is {a}+{b}?
    """,
    """
    Can you add up {a} and {b}?
    Give me the result of {a} + {b}.
    How much do {a} and {b} make?
    Please sum {a} and {b} for me.
    We sold {a} {item} on Monday and {b} on Tuesday. How many in total?
    """,
)
SUBTRACTION = phrases(
    """
    What is {a}-{b}?
    What is {a} - {b}?
    {a}-{b}
    {a} - {b} =
    {a}-{b}=
    {a}-{b}=?
    Compute {a} - {b}.
    Compute {a}-{b}.
    Calculate {a}-{b}.
    Calculate {a} - {b}
    Subtract {b} from {a}.
    Take {b} from {a}.
    How much is {a} minus {b}?
    How much is {a}-{b}?
    What is {a} minus {b}?
    What's {a}-{b}?
    What's {a} minus {b}?
    {a} minus {b}?
    {a} less {b}?
    What is {a} less {b}?
    Work out {a}-{b}.
    Tell me {a} - {b}.
    Solve {a}-{b}
    I need the difference {a} - {b}.
    What is left of {a} after {b}?
    Evaluate {a}-{b}
    Result of {a}-{b}?
    {a} - {b} equals?
    Reduce {a} by {b}.
    Remove {b} from {a}.
    If I take {b} from {a}, what do I get?
    Give me {a} minus {b}.
    {story} What is {a}-{b}?
    {story} What is {a} - {b}?
    {story} How much is {a} minus {b}?
    {story} How much is {a}-{b}?
    {story} Calculate {a}-{b}.
    {story} Compute {a} - {b}.
    {story} What's {a}-{b}?
    {story} {a}-{b}=
    I had {a} {item} and sold {b}. How many are left?
    {name} had {a} {item} and gave away {b}. How many are left?
    There were {a} {item} and {b} are gone. How many remain?
    We had {a} {item} and lost {b}. What is {a}-{b}?
    {a} {item} minus {b} {word}: what is {a} - {b}?
    The {item} had {a} and the {word} took {b}. How much is {a}-{b}?
    """,
    """
    Can you subtract {b} from {a}?
    Give me the result of {a} - {b}.
    How much remains of {a} minus {b}?
    Please take {b} away from {a}.
    We ordered {a} {item} and sent back {b}. How many are left?
    """,
)
NUMBER = phrases(
    """
    {verb} the number{link} {text}
    {verb} the number{link} {text}
    {verb} the number{link} {text}
    {verb} the number{link} {text}
    {verb} only the number{link} {text}
    {text} {verb} the number.
    {text} {verb} the number.
    {text}\\n{verb} the number.
    Which number is in this text? {text}
    Which number is this? {text}
    What number is mentioned? {text}
    What is the number? {text}
    Number? {text}
    Number: {text}
    {text} Which number is it?
    {text} What is the number?
    """,
    """
    Pull the number from this sentence: {text}
    Which number does this contain? {text}
    {text} Name the number in it.
    """,
)
NUMBER_FRAMES = phrases(
    """
    The order has {n} {item} in total.
    She paid {n} euros for the {item}.
    Room {n} is free today.
    There were {n} people at the meeting.
    The invoice number is {n} for {name}.
    We sold {n} units last month.
    {name} called about ticket {n}.
    Please use code {n} at the door.
    The {item} weighs {n} grams.
    My customer number is {n}.
    Order {n} has not arrived yet.
    It takes {n} minutes to {city}.
    The {item} in box {n} is broken.
    {name} lives at number {n}.
    We need {n} more {item} by {day}.
    The bill is {n} euros, says {name}.
    Train {n} leaves for {city} soon.
    Call extension {n} and ask for {name}.
    {n} visitors came on {day}.
    About {n} {item} are in stock.
    {Words} {n} {words}.
    {Words} {n} {words}.
    {Words} {n} {words}.
    {Words} {n} {words}.
    {Words} {n} {words}.
    {Words} {n} {words}.
    {Words} {n} {words}.
    {Words} {n} {words}.
    {Words} {n} {words}.
    {Words} {n} {words}.
    {Words} {n}.
    {Words} {n}.
    {Words} {n}, {words}.
    {Words} {n}, {words}.
    {n} {words}.
    {Words}, {n} {words}!
    {Words}: {n}.
    {name} {words} {n} {words}.
    {name} {words} {n} {item}.
    {Words} {item} {n} {words}.
    """,
    """
    The report from {name} is {n} pages long.
    Gate {n} closes early.
    The contract {n} was signed on {day}.
    Our shop in {city} has {n} {item} left.
    {name} ran {n} metres.
    """,
)


# What was going on before the question; training draws all of them.
STORIES = (
    "{Few} {a} {few}, {few2} {b}.",
    "{Few} {a} {few}, {few2} {b} {few3}.",
    "{Few} {a} {few}. {Few2} {b} {few2}.",
    "{Few} {a}, {few} {b}.",
    "{Few} {a} and {few} {b}.",
    "{a} {few}, {b} {few2}.",
    "{a} {few} and {b} {few2}:",
    "{name} {few} {a} {few2}, {name2} {few3} {b}.",
    "{Few}: {a}. {Few2}: {b}.",
    "{Few} {a} {few} {b} {few2}:",
)


def _operand(rng: Rng) -> int:
    return rng.randrange(10) if rng.random() < rng.easy else rng.randrange(100)


def _operands(rng: Rng, a: int, b: int, result: int) -> Payload:
    values = {"a": str(a), "b": str(b), "item": item(rng), "word": word(rng), "name": name(rng)}
    values["story"] = rng.pick(STORIES).format_map({**_gaps(rng), "a": str(a), "b": str(b)})
    return Payload(values, str(result), f"{a},{b}")


def _gaps(rng: Rng) -> dict[str, str]:
    gaps = {slot: loose_words(rng, 1, 3) for slot in ("few", "few2", "few3")}
    gaps |= {slot: loose_words(rng, 1, 4).capitalize() for slot in ("Few", "Few2")}
    return gaps | {"name": name(rng), "name2": name(rng)}


def _add(rng: Rng) -> Payload:
    a, b = _operand(rng), _operand(rng)
    return _operands(rng, a, b, a + b)


def _subtract(rng: Rng) -> Payload:
    a, b = _operand(rng), _operand(rng)
    if b > a and rng.random() < 0.15:
        a, b = b, a
    return _operands(rng, a, b, a - b)


def _number(rng: Rng) -> Payload:
    n = str(integer(rng))
    text = NUMBER_FRAMES.draw(rng).format(n=n, **nouns(rng))
    return Payload({"text": padded(rng, text)}, n, n)


_STORY: dict[str, Shape] = {"story": STORIES}
ADD = Skill("addition", _add, ADDITION, slots=_STORY)
SUBTRACT = Skill("subtraction", _subtract, SUBTRACTION, slots=_STORY)
FIND_NUMBER = Skill("number", _number, NUMBER, (NUMBER_FRAMES,))
