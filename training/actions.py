"""Skills that act: tool calls; and the small talk around them: copying, first and last words, greetings, chat, not knowing."""

from __future__ import annotations

import json

from training.grammar import Payload, Skill
from training.words import Phrases, Rng, city, item, name, phrases, quoted, thing, word

TOOL_SYSTEMS = ("You can call tools.",)
_WEATHER = phrases(
    """
    What is the weather in {city}?
    Check the weather for {city}.
    How is the weather in {city}?
    Weather in {city}?
    Weather for {city}, please.
    Will it rain in {city}?
    Tell me the weather in {city}.
    Get the forecast for {city}.
    What is the forecast for {city}?
    """,
    """
    I am going to {city}, how is the weather there?
    Look at the weather in {city}.
    """,
)
_SEARCH = phrases(
    """
    Search the web for {query}.
    Look up {query} online.
    Search for {query}.
    Find {query} on the web.
    Web search: {query}
    Google {query}
    Please search {query}.
    Search the internet for {query}.
    Can you look up {query}?
    """,
    """
    Do a web search on {query}.
    Search online for {query}, please.
    """,
)
_READ = phrases(
    """
    Read the file {file}.
    Open {file} and show it.
    Show me {file}.
    What is in {file}?
    Print the file {file}.
    Open the file {file}.
    Read {file} for me.
    Load {file}, please.
    """,
    """
    Can you open the file {file}?
    I want to see {file}.
    """,
)
_CALCULATE = phrases(
    """
    Use the calculator for {a} * {b}.
    Use the calculator: {a} * {b}
    Calculator: {a}*{b}
    Run the calculator on {a} * {b}.
    Let the calculator compute {a} * {b}.
    Ask the calculator for {a} * {b}.
    Use the calculator for {a}*{b}.
    """,
    """
    With the calculator, what is {a} * {b}?
    Please use the calculator on {a} * {b}.
    """,
)
_LIST = phrases(
    """
    List the files in {folder}.
    Show the folder {folder}.
    What is in the folder {folder}?
    Which files are in {folder}?
    List {folder}
    Show all files in {folder}.
    Open the folder {folder}.
    Look into {folder}.
    """,
    """
    Give me the files of {folder}.
    Can you list the folder {folder}?
    """,
)
_TOOLS: tuple[tuple[str, Phrases], ...] = (
    ("weather", _WEATHER),
    ("search", _SEARCH),
    ("read_file", _READ),
    ("calculator", _CALCULATE),
    ("list_dir", _LIST),
)


def _tool(rng: Rng) -> Payload:
    tool, forms = rng.pick(_TOOLS)
    a, b, place = rng.randrange(10, 1000), rng.randrange(10, 1000), city(rng)
    query = " ".join(item(rng) for _ in range(rng.choice((1, 1, 2, 2, 3, 4))))
    file = item(rng) + rng.pick((".txt", ".txt", ".csv", ".md", ".log"))
    folder = f"/{item(rng)}" + (f"/{item(rng)}" if rng.random() < 0.25 else "")
    values = {"a": str(a), "b": str(b), "city": place, "query": query, "file": file, "folder": folder}
    arguments = {
        "weather": {"city": place},
        "search": {"query": query},
        "read_file": {"path": file},
        "calculator": {"expr": f"{a}*{b}"},
        "list_dir": {"path": folder},
    }[tool]
    answer = json.dumps({"tool": tool, "args": arguments})
    return Payload(values, answer, answer, form=forms.draw(rng))


COPY = phrases(
    """
    Repeat {quoted}.
    Say {quoted}.
    Echo {quoted}.
    Repeat after me: {quoted}
    Write {quoted}.
    Copy {quoted}.
    """,
    """
    Say this again: {quoted}
    Just repeat {quoted}.
    """,
)
ENDS = phrases(
    """
    What is the {which} word of {quoted}?
    Give the {which} word of {quoted}.
    Which word comes {which} in {quoted}?
    The {which} word of {quoted}?
    {which} word: {quoted}
    """,
    """
    Tell me the {which} word in {quoted}.
    In {quoted}, what is the {which} word?
    """,
)
GREETING = phrases(
    """
    Greet {name}.
    Say hello to {name}.
    Welcome {name}.
    Please greet {name}.
    Write a greeting for {name}.
    """,
    """
    Give {name} a greeting.
    Say hi to {name}.
    """,
)


def _copy(rng: Rng) -> Payload:
    pieces = []
    for _ in range(rng.randint(1, 3)):
        kind = rng.random()
        pieces.append(str(rng.randrange(10 ** rng.randint(1, 6))) if kind < 0.35 else _copied_word(rng, kind))
    text = " ".join(pieces)
    return Payload({"quoted": quoted(rng, text)}, text, text)


def _copied_word(rng: Rng, kind: float) -> str:
    """Now and then a capital word, or one that has a token of its own and so is not spelled."""
    if kind < 0.45:
        return rng.pick(("the number of units", "please add it", "today", "what is it", "good morning", "red and blue"))
    return item(rng) if kind < 0.9 else word(rng).capitalize()


def _ends(rng: Rng) -> Payload:
    words = [item(rng) for _ in range(rng.randint(2, 5))]
    which = rng.pick(("first", "last"))
    text = " ".join(words)
    answer = words[0 if which == "first" else -1]
    return Payload({"quoted": quoted(rng, text), "which": which}, answer, text)


def _greet(rng: Rng) -> Payload:
    who = name(rng)
    return Payload({"name": who}, f"Hello {who}, how can I help you?", who)


_HELLO = "Hello, how can I help you?"
_WHO = "I am aiwm-nano, a very small local model."
_CAN = "I can add and subtract, classify, extract data, write JSON and call tools."
_CHAT = {
    **dict.fromkeys(("Hello", "Hi", "Hello!", "Hi there!", "Good morning", "Hey", "Good evening", "Hi!"), _HELLO),
    **dict.fromkeys(("Who are you?", "What are you?", "What is your name?", "Tell me about yourself."), _WHO),
    **dict.fromkeys(("What can you do?", "Help", "Help me", "What are your skills?"), _CAN),
    **dict.fromkeys(("Thank you.", "Thanks!", "Thanks a lot."), "You are welcome."),
    **dict.fromkeys(("Goodbye.", "Bye", "Bye!", "See you."), "Goodbye."),
}
_UNKNOWN = phrases(
    """
    What is the capital of {city}?
    Who wrote {name}?
    Who is {name}?
    Tell me a story about {item}.
    Write a poem about {item}.
    Why is the {item} {word}?
    How do I repair a {item}?
    When was {name} born?
    Explain {item} to me.
    What is the meaning of {item}?
    Where is {city}?
    Do you like {item}?
    """,
    """
    What do you think about {name}?
    How old is the {item}?
    """,
)


def _chat(rng: Rng) -> Payload:
    asked = rng.pick(tuple(_CHAT))
    return Payload({"asked": asked}, _CHAT[asked], asked)


def _unknown(rng: Rng) -> Payload:
    values = {"city": city(rng), "name": name(rng), "item": thing(rng), "word": word(rng)}
    form = _UNKNOWN.draw(rng)
    return Payload(values, "I do not know that.", form.format_map(values), form=form)


_TOOL_FORMS = Phrases(
    tuple(form for _, forms in _TOOLS for form in forms.seen),
    tuple(form for _, forms in _TOOLS for form in forms.unseen),
)
CALL = Skill("tool", _tool, _TOOL_FORMS, systems=TOOL_SYSTEMS)
REPEAT = Skill("copy", _copy, COPY)
FIRST_LAST = Skill("firstlast", _ends, ENDS, slots={"which": "first|last"})
GREET = Skill("greeting", _greet, GREETING)
CHAT = Skill(
    "chat",
    _chat,
    Phrases(("{asked}",), ("{asked}",)),
    slots={"asked": tuple(_CHAT)},
    wrapped=False,
    one_split=True,
)
UNKNOWN = Skill("unknown", _unknown, _UNKNOWN)
