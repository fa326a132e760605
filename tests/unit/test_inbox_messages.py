"""The demo's inbox: well formed, right by its own arithmetic, and never seen in training.

What is proven about training. Every prompt the generator makes is one of a finite list of templates whose slots are filled by
samplers of a known shape. `possible` is built from those same templates with each slot replaced by a regular expression, so
it accepts every prompt the generator can make (and many it cannot). `test_possible_covers_the_generator` checks that claim on a
large seeded sample of every skill and on both switches of careless typing; `test_no_message_can_be_generated` then shows that
no inbox prompt is accepted for any skill, base or adapter. That is stronger than comparing with any number of samples.
The payload values of numeric messages (such as the pair 23, 31) may of course occur in training; the texts do not.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from training.curriculum import GATED, SKILLS, conversation
from training.grammar import Skill, draw, possible
from training.untaught import UNTAUGHT
from training.words import Rng

ROOT = Path(__file__).resolve().parents[2]
MESSAGES: list[dict[str, str]] = [
    json.loads(line) for line in (ROOT / "examples/inbox.jsonl").read_text(encoding="utf-8").splitlines()
]
ALL_SKILLS: tuple[Skill, ...] = (*SKILLS.values(), *UNTAUGHT.values())


def test_messages_have_the_agreed_form() -> None:
    assert 180 <= len(MESSAGES) <= 260
    for message in MESSAGES:
        assert set(message) - {"system"} == {"id", "skill", "prompt", "answer"}
        assert message["skill"] in GATED
        assert message["answer"] == message["answer"].strip() != ""
        assert len(message["prompt"]) < 200
    assert [m["id"] for m in MESSAGES] == [f"m-{i:03d}" for i in range(1, len(MESSAGES) + 1)]
    assert len({m["prompt"] for m in MESSAGES}) == len(MESSAGES)


def test_answers_follow_from_the_prompts() -> None:
    for message in MESSAGES:
        skill, prompt, answer = message["skill"], message["prompt"], message["answer"]
        if skill in ("addition", "subtraction"):
            match = re.search(r"(\d+)\s*(?:\+|-|plus|minus|and)\s*(\d+)\D*$", prompt)
            assert match, prompt
            a, b = int(match[1]), int(match[2])
            assert answer == str(a + b if skill == "addition" else a - b), prompt
        elif skill in ("email", "url", "number"):
            assert prompt.count(answer) == 1, prompt
        elif skill == "json":
            assert all(str(value) in prompt for value in json.loads(answer).values()), prompt
        elif skill == "tool":
            call = json.loads(answer)
            assert set(call) == {"tool", "args"}
            assert all(str(value).strip("/").split("*")[0] in prompt for value in call["args"].values()), prompt
        else:
            assert answer in (
                ("positive", "negative", "neutral")
                if skill == "sentiment"
                else ("sports", "finance", "weather", "technology", "food")
            )


@pytest.mark.parametrize("skill", ALL_SKILLS, ids=lambda skill: skill.name)
def test_possible_covers_the_generator(skill: Skill) -> None:
    accepts = possible(skill)
    rng = Rng(f"cover:{skill.name}")
    assert [s.prompt for s in (draw(rng, skill, "train") for _ in range(200)) if not accepts(s.prompt)] == []


def test_no_message_can_be_generated() -> None:
    tests = {skill.name: possible(skill) for skill in ALL_SKILLS}
    found = [(m["id"], name) for m in MESSAGES for name, accepts in tests.items() if accepts(m["prompt"])]
    assert found == []


def test_no_message_or_sentence_of_it_occurs_in_a_sample_of_the_corpus() -> None:
    """A second look without the templates: no prompt of 3,000 training conversations equals, holds or is held by a message."""
    rng = Rng("corpus")
    corpus = {text for _ in range(3_000) for role, text in conversation(rng, rng.random()) if role == "user"}
    prompts = {m["prompt"] for m in MESSAGES}
    assert not corpus & prompts
    whole = "\n".join(corpus)
    assert [prompt for prompt in prompts if prompt in whole] == []


def test_possible_can_say_yes() -> None:
    """The proof would be empty if `possible` rejected everything."""
    assert possible(SKILLS["addition"])("What is 2+2?")
    assert possible(SKILLS["json"])("JSON: Maya is 42 years old and lives in Rome.")
    assert possible(UNTAUGHT["house-words"])("House word for 'lamp'?")
