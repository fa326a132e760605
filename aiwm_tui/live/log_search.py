"""What is looked for in a log: words that a line must have, words that it must not have, or trouble. Pure.

The search is the filter of the log's location: `:logs/nano.0 cuda !warm around:3` shows lines with `cuda` and without `warm`, and three
lines around each; without `around:` every line stays and those that match are marked."""

from __future__ import annotations

import re

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.query import AROUND, Location, Op, Term, fold, tokens

FAULT = re.compile(
    r"\b(?:error|critical|fatal|panic|traceback|exception|abort(?:ed)?|segmentation fault|killed|out of memory)\b"
    r"|\b[A-Za-z]*(?:Error|Exception)\b",
    re.IGNORECASE,
)
WARNING = re.compile(r"\bwarn(?:ing)?\b", re.IGNORECASE)


class Search(msgspec.Struct, frozen=True):
    """`context` is how many lines around a match stay when the others go; None: all lines stay. `faults` asks for trouble, too."""

    words: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    faults: bool = False
    context: int | None = None

    @property
    def looks(self) -> bool:
        """Whether anything is looked for."""
        return bool(self.words or self.without or self.faults)

    def matches(self, text: str) -> bool:
        """Whether a line is looked for; case is ignored as everywhere in filters."""
        if self.faults and FAULT.search(text) is None:
            return False
        folded = fold(text)
        return all(word in folded for word in self.words) and not any(word in folded for word in self.without)

    def marks(self, text: str) -> list[tuple[int, int]]:
        """Where in a line that matches the words stand: (start, end), in order, without overlaps."""
        folded = fold(text)
        found = [(match.start(), match.end()) for match in FAULT.finditer(text)] if self.faults else []
        for word in self.words:
            at = folded.find(word)
            while at >= 0:
                found.append((at, at + len(word)))
                at = folded.find(word, at + len(word))
        out: list[tuple[int, int]] = []
        for start, end in sorted(found):
            if not out or start >= out[-1][1]:
                out.append((start, end))
        return out


def search_of(location: Location) -> Search:
    """The search that a log's location holds."""
    words = [term for term in location.terms if term.op is Op.word]
    return Search(
        tuple(fold(term.values[0]) for term in words if not term.negated),
        tuple(fold(term.values[0]) for term in words if term.negated),
        any(term.field == "is" for term in location.terms),
        location.around,
    )


def searched(location: Location, text: str) -> Location:
    """A log's location with what was typed as its search. What is no field of the filter language is a word, whatever it looks like:
    logs are full of colons. `bad_location` for an `around:` without a number."""
    terms: list[Term] = []
    for token, _ in tokens(text):
        if token.startswith("around:"):
            terms.append(around_term(token.removeprefix("around:")))
        elif token == "is:fault":
            terms.append(Term(Op.any_of, ("fault",), "is"))
        else:
            word = token.removeprefix("!").replace('"', "")
            if word:
                terms.append(Term(Op.word, (word,), None, token.startswith("!")))
    return msgspec.structs.replace(location, terms=tuple(terms), sort=())


def around_term(number: str) -> Term:
    """`around:N` as a term; `bad_location` when N is none."""
    if not (number.isascii() and number.isdigit() and int(number) <= AROUND):
        message = f'"{number[:20]}" is no number of lines from 0 to {AROUND}'
        raise AiwmError(Code.bad_location, message, field="location", fix="such as -C 3")
    return Term(Op.any_of, (str(int(number)),), "around")


def turned(location: Location, context: int) -> Location:
    """The same search with all lines, or with only those that match and `context` lines around them: the other of the two."""
    others = tuple(term for term in location.terms if term.field != "around")
    if len(others) == len(location.terms):
        others = (*others, around_term(str(context)))
    return msgspec.structs.replace(location, terms=others)


def with_faults(location: Location, context: int) -> Location:
    """Only trouble and what stands around it, or all of it again."""
    fault = Term(Op.any_of, ("fault",), "is")
    others = tuple(term for term in location.terms if term.field not in ("is", "around"))
    if any(term.field == "is" for term in location.terms):
        return msgspec.structs.replace(location, terms=others)
    return msgspec.structs.replace(location, terms=(*others, fault, around_term(str(context))))
