"""Which skills the base model is taught, how often, and one training conversation at a given progress."""

from __future__ import annotations

from training import actions, arithmetic, extraction, topics
from training.grammar import Sample, Skill, draw
from training.words import Rng

# (skill, weight at the start, weight from 20 % of the run on)
WEIGHTS: tuple[tuple[Skill, float, float], ...] = (
    (arithmetic.ADD, 20, 22),
    (arithmetic.SUBTRACT, 18, 27),
    (actions.REPEAT, 40, 6),
    (actions.FIRST_LAST, 5, 2.5),
    (extraction.FIND_EMAIL, 5, 5),
    (extraction.FIND_URL, 5, 5),
    (arithmetic.FIND_NUMBER, 7, 5),
    (topics.FEEL, 4, 4),
    (topics.SORT, 3, 3.5),
    (extraction.FIND_RECORD, 6, 10),
    (actions.CALL, 5, 6),
    (actions.GREET, 3, 2),
    (actions.CHAT, 1, 1),
    (actions.UNKNOWN, 1, 1.5),
)
# The mix of the polishing run: more of what came out below 95 % before it.
POLISH_WEIGHTS: dict[str, float] = {
    **{skill.name: end for skill, _, end in WEIGHTS},
    "addition": 15,
    "subtraction": 22,
    "sentiment": 12,
    "category": 8,
    "json": 22,
}
SKILLS: dict[str, Skill] = {skill.name: skill for skill, _, _ in WEIGHTS}
# The skills that the project asks 95 % of.
GATED = ("addition", "subtraction", "sentiment", "category", "email", "url", "number", "json", "tool")
SYSTEMS: tuple[str | None, ...] = (
    *[None] * 7,
    "You are a helpful worker.",
    "You are a careful assistant. Answer briefly.",
)

Message = tuple[str, str]


def messages(rng: Rng, sample: Sample) -> list[Message]:
    """One turn; a skill without a system text of its own gets a general one now and then."""
    system = sample.system or rng.pick(SYSTEMS)
    turn = [("user", sample.prompt), ("assistant", sample.answer)]
    return [("system", system), *turn] if system else turn


def conversation(rng: Rng, progress: float) -> list[Message]:
    """A training row at progress 0..1: one turn mostly, sometimes two; much copying and one-digit sums at the start.

    Progress 1 is the polishing run, with a mix of its own and without ambiguous records.
    """
    rng.easy = 0.5 if progress < 0.15 else 0.2
    rng.clear = progress >= 1
    if rng.clear:
        weights = [POLISH_WEIGHTS[skill.name] for skill, _, _ in WEIGHTS]
    else:
        ramp = min(1.0, progress / 0.2)
        weights = [start + (end - start) * ramp for _, start, end in WEIGHTS]
    first, second = rng.choices(WEIGHTS, weights, k=2)
    result = messages(rng, draw(rng, first[0], "train"))
    if rng.random() < 0.12 and not second[0].systems:
        result += messages(rng, draw(rng, second[0], "train"))[-2:]
    return result


def heldout(skill: Skill, count: int, part: str = "test", *, unseen: bool = False, seed: int = 4242) -> list[Sample]:
    """Up to `count` different prompts of a split that training never drew; with `unseen`, in phrasings it never drew either."""
    rng = Rng(f"{seed}:{skill.name}:{part}:{unseen}")
    rng.real, rng.unseen, rng.clear = True, unseen, True
    found: dict[str, Sample] = {}
    for _ in range(count * 40):
        if len(found) == count:
            break
        sample = draw(rng, skill, part)
        found[sample.prompt] = sample
    return list(found.values())
