"""Random words, held-out real names and the seeded source of chance that all skills draw from."""

# ruff: noqa: SIM905 (a line of words is easier to read and to edit than a list of quoted words)
from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

# Real words are kept for evaluation: a model trained on random syllables only has to copy them without having seen them.
REAL_NAMES = (
    "Alice Bruno Chiara Dmitri Elena Farid Greta Hugo Irina Jonas Karin Liam Maya Nadia Oscar Priya Quentin Rosa Samir "
    "Tomas Ulla Victor Wanda Xenia Yusuf Zoe Amir Bianca Cedric Diana Emil Fatima Gavin Hanna Ivan Julia Kenji Laura "
    "Marco Nina Omar Petra Ralf Sofia Tariq Uma Vera Walter Yara Zeno"
).split()
REAL_CITIES = (
    "Rome Paris Berlin Madrid Lisbon Vienna Oslo Dublin Prague Athens Helsinki Warsaw Zurich Geneva Bern Milan Turin "
    "Lyon Porto Seville Munich Hamburg Krakow Ghent Bruges Tokyo Osaka Lima Quito Cairo"
).split()
REAL_ITEMS = (
    "lamp chair table laptop camera bottle jacket backpack keyboard monitor printer blender kettle headset tablet watch "
    "wallet mirror carpet ladder hammer stapler candle basket pillow bicycle helmet speaker charger notebook"
).split()
COLORS = "red blue green black white yellow purple orange silver brown grey pink".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

COMMON = (
    "the the the the a a a an our our my my your his her their this that these at at on on in in under over by by with with "
    "without for for from to to of of via through until before after since once again please only also just still now then "
    "today tomorrow yesterday week month morning night and and or but if when while as so than not no yes is is are was were "
    "be been has have had will would can could should may must do does did go goes went come comes came get gets got take "
    "takes took send sends sent give gives gave keep keeps kept ask asks asked tell tells told use uses used need needs want "
    "wants new old small big long short other same each every all some any more most it its we they you he she I me us them "
    "next people desk shop line page list way day time place man woman child street house door hall room side part"
).split()

_ONSETS = [
    *"b c d f g h j k l m n p qu r s t v w x y z br ch cl cr dr fl gl gr ph pl pr sch sh sl st str th tr".split(),
    *[""] * 4,
]
_VOWELS = "a e i o u a e i o u y ai au ea ee ia ie io oo ou".split()
_CODAS = ["", "", "", "", "n", "r", "s", "l", "m", "t", "d", "k", "ck", "nd", "ng", "rt", "x"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_DOMAINS = (".com", ".org", ".net", ".io", ".eu", ".dev")


class Rng(random.Random):
    """Seeded chance plus the four switches of a draw.

    real:   half of the copied words come from the real lists, which training never sees (evaluation).
    unseen: phrasings and sentence frames are those kept out of training (evaluation).
    clear:  no records in which loose words run into a name or thing, so that nobody could tell where it ends.
    easy:   share of one-digit operands; training lowers it after the start.
    """

    real = False
    unseen = False
    clear = False
    easy = 0.2

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.random() * len(options))]


@dataclass(frozen=True, slots=True)
class Phrases:
    """Templates with {slots}: those trained on and those kept out of training for good."""

    seen: tuple[str, ...]
    unseen: tuple[str, ...]

    def draw(self, rng: Rng) -> str:
        return rng.pick(self.unseen if rng.unseen else self.seen)


def phrases(seen: str, unseen: str) -> Phrases:
    """One template a line; a literal backslash-n in a template stands for a line break."""

    def lines(block: str) -> tuple[str, ...]:
        return tuple(line.strip().replace("\\n", "\n") for line in block.strip().splitlines() if line.strip())

    return Phrases(lines(seen), lines(unseen))


def word(rng: Rng, low: int = 1, high: int = 3) -> str:
    """A lower-case word of 1 to 12 letters: random syllables, now and then plain random letters."""
    if rng.random() < 0.12:
        return "".join(rng.pick(_LETTERS) for _ in range(rng.randint(2, 8)))
    return syllables(rng, high if rng.random() < 0.2 else rng.randint(low, min(high, 2)))


def syllables(rng: Rng, count: int) -> str:
    return "".join(rng.pick(_ONSETS) + rng.pick(_VOWELS) + rng.pick(_CODAS) for _ in range(count))[:12]


def loose_words(rng: Rng, low: int, high: int) -> str:
    """Everyday words and made-up ones in no order: what stands around the part of a message that matters."""
    text = ""
    for _ in range(rng.randint(low, high)):
        chosen = rng.pick(COMMON) if rng.random() < 0.55 else syllables(rng, rng.choice((1, 2, 2, 3)))
        text += ("" if not text else ", " if rng.random() < 0.08 else " ") + chosen
    return text


def name(rng: Rng) -> str:
    first = rng.pick(REAL_NAMES) if rng.real and rng.random() < 0.5 else word(rng).capitalize()
    return f"{first} {word(rng, 1, 2).capitalize()}" if rng.random() < 0.1 else first


def city(rng: Rng) -> str:
    place = rng.pick(REAL_CITIES) if rng.real and rng.random() < 0.5 else word(rng).capitalize()
    return f"{word(rng, 1, 1).capitalize()} {place}" if rng.random() < 0.06 else place


def item(rng: Rng) -> str:
    return rng.pick(REAL_ITEMS) if rng.real and rng.random() < 0.5 else word(rng)


def thing(rng: Rng) -> str:
    """An item of one word, sometimes two."""
    return f"{word(rng, 1, 2)} {item(rng)}" if rng.random() < 0.12 else item(rng)


def babble(rng: Rng) -> str:
    """A clause that says nothing: to the model it looks like any clause of words it was never taught."""
    text = loose_words(rng, 2, 7)
    return text[0].upper() + text[1:] + rng.pick((".", ".", "!", ",", ":"))


def quoted(rng: Rng, text: str) -> str:
    return rng.pick(("'{}'", '"{}"')).format(text)


def integer(rng: Rng, digits: int = 6) -> int:
    """A positive number; every length from one digit up is equally likely."""
    return rng.randrange(1, 10 ** rng.randint(1, digits))


def email(rng: Rng) -> str:
    first = item(rng) if rng.random() < 0.3 else name(rng).split()[0].lower()
    middle = rng.pick(("", "." + word(rng, 1, 2), "_" + word(rng, 1, 1), str(rng.randrange(100))))
    return f"{first}{middle}@{_host(rng)}"


def url(rng: Rng) -> str:
    start = rng.pick(("https://", "http://", "https://www.", "www."))
    path = rng.pick(("", "/" + word(rng, 1, 2), f"/{word(rng, 1, 1)}/{word(rng, 1, 2)}", f"/{integer(rng, 4)}"))
    return f"{start}{_host(rng)}{path}"


def _host(rng: Rng) -> str:
    middle = item(rng) if rng.random() < 0.4 else word(rng, 1, 2)
    return middle + ("-" + word(rng, 1, 1) if rng.random() < 0.1 else "") + rng.pick(_DOMAINS)


def loose_pattern() -> str:
    """What one word of `loose_words` can be, in lower case."""
    onset, vowel, coda = ("|".join(sorted(set(group))) for group in (_ONSETS, _VOWELS, _CODAS))
    common = "|".join(sorted({common_word.lower() for common_word in COMMON}))
    return rf"(?:{common}|(?:(?:{onset})(?:{vowel})(?:{coda})){{1,3}}|[a-z]{{12}})"
