"""What a shell may complete, in the time between two keys: no typer, no msgspec, no engine started.

Commands and options are read from `words.json`; ids, names and states from the engine that serves the home, if one does. Words that a
shell could take for anything but a word are left out: a name is written by whoever made the definition."""

from __future__ import annotations

import json
import os
import sys

from aiwm_tui.cli.quick import ask, home_path

TYPE_CHECKING = False  # as type checkers read it: `typing` itself takes too long to import
if TYPE_CHECKING:
    from typing import Any

MOST = 200
"""Rows that are offered at most; the engine is asked for those that begin as the word does."""
FILES, DIRECTORIES = 10, 11
"""Exit codes that say: what comes here is a file, a directory; the shell knows them better."""
_TIMEOUT_S = 1.0
_ALSO_PLAIN = frozenset("@._:-/+=,")
_EXPANDED = frozenset("><!*~ ")
_BREAKS = "\"'@><=;|&(:"
_NAMES = {"processes": ("models", "id"), "models": ("models", "model"), "adapters": ("adapters", "id")}
"""What is named → the table, and the field of its rows that has the name; others have it in `id`."""
_PREFIXED = frozenset({"tasks", "events", "records", "operations", "retired"})
"""Tables with more rows than may be offered: asked for by the beginning of the id."""

Offer = list[tuple[str, str]]


def complete(arguments: list[str]) -> int:
    """`aiwm __complete bash LINE WORDBREAKS`, or `zsh|fish WORD…` with the word under the cursor last: candidates, each with what it is
    behind a tab, one a line. The exit code is 0, FILES or DIRECTORIES."""
    shell, given = (arguments[0], arguments[1:]) if arguments else ("", [])
    cut, quoted = 0, True
    if shell == "bash":
        words, quoted = split(given[0] if given else "")
        words = words[1:] or [""]
        if not quoted:
            cut = _cut(words[-1], given[1] if len(given) > 1 else _BREAKS)
    else:
        words = given or [""]
    offer, code = candidates(words)
    for word, about in offer:
        # zsh and fish quote what they insert, bash does not.
        text = word[cut:] if quoted else "".join(f"\\{each}" if each in _EXPANDED else each for each in word[cut:])
        sys.stdout.write(f"{text}\t{about}\n" if about else f"{text}\n")
    return code


def split(line: str) -> tuple[list[str], bool]:
    """A command line as the shell's words, the last one perhaps empty or not finished; and whether that one is in quotes."""
    words: list[str] = []
    word, quote, started, place = "", "", False, 0
    while place < len(line):
        character = line[place]
        place += 1
        if quote:
            if character == quote:
                quote = ""
            else:
                word += character
        elif character in "\"'":
            quote, started = character, True
        elif character == "\\" and place < len(line):
            word, place, started = word + line[place], place + 1, True
        elif character.isspace():
            if started:
                words.append(word)
            word, started = "", False
        else:
            word, started = word + character, True
    return [*words, word], bool(quote)


def _cut(word: str, breaks: str) -> int:
    """How much of the word bash counts as another one before it."""
    return max((word.rfind(each) + 1 for each in breaks if not each.isspace()), default=0)


def candidates(words: list[str]) -> tuple[Offer, int]:
    """What the last word may become after those before it."""
    known = _known()
    *before, word = words
    path, option, said, home = _walk(known, before)
    entry = known["commands"][path]
    if option is not None:
        return _named(known, option, word, home)
    if word.startswith("-") and "=" in word:
        name, _, value = word.partition("=")
        kind = _options(known, path).get(name, ["text"])[0]
        offer, code = _named(known, kind, value, home)
        return [(f"{name}={each}", about) for each, about in offer], code
    if word.startswith("-"):
        return _starting([(name, about) for name, (_, about) in _options(known, path).items()], word), 0
    if "verbs" in entry:
        if said:
            return [], 0
        verbs = known["commands"]
        return _starting([(verb, verbs[f"{path} {verb}".strip()]["about"]) for verb in entry["verbs"]], word), 0
    kinds = entry["arguments"]
    kind = kinds[len(said)] if len(said) < len(kinds) else next((each for each in kinds[-1:] if each.endswith("…")), "")
    if kind == "location…" and said:
        # A location in several words: those behind the first one are its filter.
        return _filter(known, _table(said[0]), word), 0
    offer, code = _named(known, kind.rstrip("…"), word, home)
    return [each for each in offer if each[0] == word or each[0] not in said], code


def _known() -> Any:
    with open(os.path.join(os.path.dirname(__file__), "words.json"), encoding="utf-8") as file:
        return json.load(file)


def _options(known: Any, path: str) -> dict[str, list[str]]:
    options: dict[str, list[str]] = known["commands"][path]["options"]
    return options


def _walk(known: Any, words: list[str]) -> tuple[str, str | None, list[str], str]:
    """Where the words lead: the command, what the option at the end takes (None: nothing), its arguments so far, the home."""
    path, name, home = "", "", ""
    option: str | None = None
    said: list[str] = []
    for word in words:
        if option is not None:
            home, option = (word if name == "--home" else home), None
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            kind = _options(known, path).get(name, [""])[0]
            if equals:
                home = value if name == "--home" else home
            elif kind:
                option = kind
        elif word in known["commands"][path].get("verbs", ()):
            path, said = f"{path} {word}".strip(), []
        else:
            said.append(word)
    return path, option, said, home


def _named(known: Any, kind: str, word: str, home: str) -> tuple[Offer, int]:
    if kind in ("file", "dir"):
        return [], FILES if kind == "file" else DIRECTORIES
    if "|" in kind:
        return _starting([(choice, "") for choice in kind.split("|")], word), 0
    if kind in ("setting", "method"):
        return _starting([(each, "") for each in known[kind + "s"]], word), 0
    if kind == "location":
        return _locations(known, word, home), 0
    if kind.startswith("filter:"):
        return _filter(known, kind.removeprefix("filter:"), word), 0
    return (_rows(kind, word, home), 0) if kind in known["fields"] or kind in _NAMES else ([], 0)


def _locations(known: Any, word: str, home: str) -> Offer:
    """A screen, `:tasks/` and an id, or behind a space a filter."""
    text = word if word.startswith(":") else ":" + word
    head, space, rest = text.rpartition(" ")
    table, slash, item = text.removeprefix(":").partition("/")
    if space:
        return [(f"{head} {each}", about) for each, about in _filter(known, _table(head), rest)]
    if slash and table in known["fields"]:
        return [(f":{table}/{each}", about) for each, about in _rows(table, item, home)]
    return _starting([(f":{screen}", "") for screen in known["screens"]], text)


def _table(location: str) -> str:
    """`:tasks/t-1 state:failed` is about tasks."""
    return location.removeprefix(":").partition(" ")[0].partition("/")[0]


def _filter(known: Any, table: str, token: str) -> Offer:
    """A field and how it goes on; behind `state:` the states."""
    bang = "!" if token.startswith("!") else ""
    name, colon, value = token.removeprefix("!").partition(":")
    if colon and name in ("state", "level"):
        done, comma, last = value.rpartition(",")
        states = known["states"].get(table, ())
        return [(f"{bang}{name}:{done}{comma}{state}", "") for state in states if state.startswith(last)]
    if colon and name == "sort":
        done, comma, last = value.rpartition(",")
        minus = "-" if last.startswith("-") else ""
        fields = [field.rstrip(":>") for field in known["fields"].get(table, ())]
        return [(f"sort:{done}{comma}{minus}{each}", "") for each in fields if (minus + each).startswith(last)]
    words = [f"{bang}{field}" for field in known["fields"].get(table, ())]
    return _starting([(each, "") for each in (*words, "is:fault", "sort:")], token)


def _rows(kind: str, word: str, home: str) -> Offer:
    """Rows of the running engine by id or name, with their states. Nothing when none runs, or when it does not answer soon."""
    table, field = _NAMES.get(kind, (kind, "id"))
    if not _plain(word):
        return []
    location = f":{table} id:{word}*" if word and table in _PREFIXED else f":{table}"
    hello = {"client": "completion", "read_only": True, "work": False}
    view = {"location": location, "size": MOST}
    try:
        line = ask(home_path(home), [("engine.hello", hello), ("view.read", view)], _TIMEOUT_S)
        rows = json.loads(line)["result"]["rows"]
        found = {str(row.get(field) or row["id"]): _about(row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return _starting([(name, about) for name, about in found.items() if _plain(name)], word)


def _about(row: dict[str, Any]) -> str:
    parts = [row.get(name) for name in ("state", "queue", "definition")]
    text = " · ".join(str(part) for part in parts if part)
    return text if text.isprintable() else ""


def _plain(word: str) -> bool:
    """Whether a shell takes it as it stands: nothing in it that expands, ends a word or moves a cursor."""
    return all(each.isalnum() or each in _ALSO_PLAIN for each in word)


def _starting(offer: Offer, word: str) -> Offer:
    return [each for each in offer if each[0].startswith(word)]
