"""The data generator: splits, held-out phrasings, determinism, and answers that are right."""

from __future__ import annotations

import json
import re

import pytest

from training import words
from training.curriculum import SKILLS, conversation, heldout
from training.grammar import Skill, draw, split_of
from training.untaught import UNTAUGHT
from training.words import Rng

SPLIT_SKILLS = [skill for skill in (*SKILLS.values(), *UNTAUGHT.values()) if not skill.one_split]


def test_the_split_is_by_payload_and_of_the_stated_sizes() -> None:
    parts = [split_of(f"addition:{a},{b}") for a in range(100) for b in range(100)]
    assert 0.83 < parts.count("train") / len(parts) < 0.87
    assert 0.08 < parts.count("test") / len(parts) < 0.12
    assert split_of("addition:2,2") == split_of("addition:2,2")


@pytest.mark.parametrize("skill", SPLIT_SKILLS, ids=lambda skill: skill.name)
def test_training_never_draws_a_held_out_prompt(skill: Skill) -> None:
    rng = Rng(f"split:{skill.name}")
    trained = {draw(rng, skill, "train").prompt for _ in range(400)}
    assert not trained & {sample.prompt for sample in heldout(skill, 60)}
    assert not trained & {sample.prompt for sample in heldout(skill, 60, unseen=True)}


@pytest.mark.parametrize("skill", SPLIT_SKILLS, ids=lambda skill: skill.name)
def test_held_out_phrasings_are_not_trained_phrasings(skill: Skill) -> None:
    for block in (skill.phrasings, *skill.frames):
        assert len(block.unseen) >= 2
        assert not set(block.seen) & set(block.unseen)


def test_a_step_depends_on_its_seed_alone() -> None:
    def rows() -> list[list[tuple[str, str]]]:
        rng = Rng("1:77")
        return [conversation(rng, 0.5) for _ in range(40)]

    assert rows() == rows()


def test_sums_and_differences_are_right_and_some_are_negative() -> None:
    negative = 0
    for name, sign in (("addition", 1), ("subtraction", -1)):
        for sample in heldout(SKILLS[name], 200):
            found = [int(n) for n in re.findall(r"\d+", sample.prompt)]
            numbers = found[:2] if len(found) == 2 else found[-2:]  # some phrasings tell the story and then ask
            pair = {numbers[0] + sign * numbers[1], numbers[1] + sign * numbers[0]}
            assert int(sample.answer) in pair, sample
            negative += sample.answer.startswith("-")
    assert negative > 30


def test_copied_answers_are_in_the_prompt_and_records_are_json() -> None:
    for name in ("email", "url", "number", "copy", "firstlast"):
        assert all(sample.answer in sample.prompt for sample in heldout(SKILLS[name], 100))
    for name in ("json", "tool"):
        for sample in heldout(SKILLS[name], 100):
            assert isinstance(json.loads(sample.answer), dict)


def test_real_words_are_kept_out_of_training() -> None:
    rng = Rng("real")
    text = " ".join(content for _ in range(2_000) for _, content in conversation(rng, 0.9))
    spoken = set(re.findall(r"[A-Za-z]+", text))
    kept = {name for name in (*words.REAL_NAMES, *words.REAL_CITIES) if len(name) > 4}
    assert not spoken & kept


def test_untaught_skills_do_not_leak_into_the_base_data() -> None:
    rng = Rng("leak")
    answers = {content for _ in range(3_000) for role, content in conversation(rng, 0.9) if role == "assistant"}
    for skill in UNTAUGHT.values():
        assert not answers & {sample.answer for sample in heldout(skill, 100)}
