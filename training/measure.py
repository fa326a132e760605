"""The measured figures of the card: the base model's skills, and what each adapter does to its own and to all others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.bounds import Score
from training.curriculum import GATED, SKILLS, heldout
from training.evaluate import Runner
from training.grammar import Sample
from training.untaught import UNTAUGHT

Figures = dict[str, Any]
GATED_N, OTHER_N, DAMAGE_N = 400, 200, 100


def base_figures(directory: Path) -> Figures:
    """Held-out accuracy of every taught skill (unseen payloads, and unseen payloads in unseen phrasings) and every untaught."""
    runner = Runner(directory)
    skills: Figures = {}
    for name, skill in SKILLS.items():
        n = GATED_N if name in GATED else OTHER_N
        seen = heldout(skill, n)
        found = runner.score(seen)
        skills[name] = {**found.card(), "wrong": found.wrong}
        if not skill.one_split:
            unseen = runner.score(heldout(skill, n, unseen=True))
            skills[name]["unseen_phrasings"] = {**unseen.card(), "wrong": unseen.wrong}
        print(name, skills[name], flush=True)
    details = {name: runner.score(samples).card() for name, samples in _details().items()}
    untaught = {name: runner.score(heldout(skill, OTHER_N)).card() for name, skill in UNTAUGHT.items()}
    return {"skills": skills, "details": details, "untaught": untaught}


def _details() -> dict[str, list[Sample]]:
    """Subsets worth a line of their own."""
    add, subtract = heldout(SKILLS["addition"], 1500, seed=7), heldout(SKILLS["subtraction"], 1500, seed=7)
    return {
        "addition, answer of one digit": [s for s in add if len(s.answer) == 1][:300],
        "addition, answer over 99": [s for s in add if len(s.answer) == 3][:300],
        "subtraction, negative answer": [s for s in subtract if s.answer.startswith("-")][:300],
        "subtraction, zero or positive answer": [s for s in subtract if not s.answer.startswith("-")][:300],
    }


def adapter_figures(base: Path, name: str, adapter: Path) -> Figures:
    """The adapter's skill before and after, and every other skill on the same rows with and without it."""
    plain, adapted = Runner(base), Runner(base, {name: adapter})
    own = UNTAUGHT[name]
    rows, unseen = heldout(own, OTHER_N), heldout(own, OTHER_N, unseen=True)
    others: Figures = {}
    for other, skill in SKILLS.items():
        same = heldout(skill, DAMAGE_N)
        before, after = plain.score(same), adapted.score(same)
        others[other] = {"n": before.n, "before": _share(before), "after": _share(after)}
    return {
        "before": plain.score(rows).card(),
        "after": adapted.score(rows).card(),
        "after_unseen_phrasings": adapted.score(unseen).card(),
        "others": others,
    }


def _share(score: Score) -> float:
    return round(score.correct / score.n, 4)
