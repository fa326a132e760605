"""Slow checks with torch: the card's figures can be measured again, training's own arithmetic is transformers', runs repeat."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from training.bounds import Z99_ONE_SIDED, wilson
from training.curriculum import SKILLS, heldout
from training.settings import SHIPPED, BaseRun
from training.untaught import UNTAUGHT

if TYPE_CHECKING:
    from training.evaluate import Runner

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SHIPPED_AT = ROOT / "engine/inference/shipped"
MODEL = SHIPPED_AT / "aiwm-nano"
CARD: dict[str, Any] = json.loads((MODEL / "card.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def plain() -> Runner:
    pytest.importorskip("torch")
    from training.evaluate import Runner

    return Runner(MODEL)


@pytest.mark.parametrize("skill", ["addition", "subtraction", "sentiment", "url", "json"])
def test_figures_of_the_card_are_found_again(plain: Runner, skill: str) -> None:
    """On other held-out samples than the card's: the accuracies of both must be able to be one and the same."""
    samples = heldout(SKILLS[skill], 150, seed=31)
    score = plain.score(samples)
    low, high = wilson(score.correct, score.n, 2.575829)
    assert low <= CARD["skills"][skill]["high95"], score.wrong
    assert high >= CARD["skills"][skill]["low95"], score.wrong


def test_what_is_two_and_two(plain: Runner) -> None:
    from training.grammar import Sample

    asked = [Sample(None, "What is 2+2?", "4"), Sample(None, "What is 7-12?", "-5"), Sample(None, "Hello", "")]
    assert plain.answers(asked) == ["4", "-5", "Hello, how can I help you?"]


def test_the_inbox_does_as_well_as_the_card_promises(plain: Runner) -> None:
    from training.grammar import Sample

    lines = (ROOT / "examples/inbox.jsonl").read_text(encoding="utf-8").splitlines()
    messages = [json.loads(line) for line in lines]
    score = plain.score([Sample(m.get("system"), m["prompt"], m["answer"]) for m in messages], keep=20)
    share = CARD["inbox"]["low99"]
    luck = Z99_ONE_SIDED * (share * (1 - share) / score.n) ** 0.5
    assert score.correct / score.n >= share - luck, score.wrong


@pytest.mark.parametrize("run", SHIPPED, ids=lambda run: run.skill)
def test_shipped_adapters_teach_their_skill(plain: Runner, run: Any) -> None:
    from training.evaluate import Runner

    samples = heldout(UNTAUGHT[run.skill], 60, seed=31)
    assert plain.score(samples).correct < 0.2 * len(samples)
    adapted = Runner(MODEL, {run.skill: SHIPPED_AT / "adapters" / run.skill})
    assert adapted.score(samples).correct > 0.8 * len(samples)


def test_training_computes_what_transformers_computes(plain: Runner) -> None:
    import torch
    from safetensors.torch import load_file

    from training import model

    weights = {key: value.float() for key, value in load_file(str(MODEL / "model.safetensors")).items()}
    ids = torch.randint(0, 1000, (3, 40), generator=torch.Generator().manual_seed(1))
    cos, sin = model.rotation(40, torch.float32)
    with torch.no_grad():
        everywhere = torch.ones_like(ids, dtype=torch.bool)
        ours = model.hidden_states(weights, ids, cos, sin, model.causal(40, torch.float32), everywhere)
        theirs = plain.model.model(input_ids=ids, use_cache=False).last_hidden_state[everywhere]
    assert torch.allclose(ours, theirs, atol=2e-4)


def test_a_short_training_run_repeats_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from training.base import train

    digests = []
    for attempt in ("first", "second"):
        train(BaseRun(steps=4, rows=48), tmp_path / attempt)
        digests.append(hashlib.sha256((tmp_path / attempt / "model.safetensors").read_bytes()).hexdigest())
    assert digests[0] == digests[1]
