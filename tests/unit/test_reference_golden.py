"""The reference backend computes what transformers and PEFT compute: logits within 1e-4, alone and in ragged batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.inference.backends.reference.adapters import Layout
from tests.support.golden import (
    SHIPPED_DATA,
    TOLERANCE,
    Case,
    Text,
    cases,
    golden,
    numpy_logits,
    shipped_case,
    shipped_digest,
    texts,
    transformers_logits,
)
from tests.support.tiny_model import tiny_config, write_adapter

NAMES = ("llama", "llama3", "mistral", "qwen2", "adapted")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    return {case.name: case for case in cases(tmp_path_factory.mktemp("golden"))}


@pytest.mark.parametrize("name", NAMES)
def test_ragged_batch_equals_golden(name: str, made: dict[str, Case]) -> None:
    case = made[name]
    computed = np.concatenate(numpy_logits(case.model, case.texts, case.adapters))
    expected = golden()[name]
    assert np.abs(expected).max() > 0.5  # the comparison means something
    np.testing.assert_allclose(computed, expected, atol=TOLERANCE)


def test_alone_equals_golden(made: dict[str, Case]) -> None:
    case = made["adapted"]
    computed = np.concatenate([numpy_logits(case.model, [text], case.adapters, chunk=64)[0] for text in case.texts])
    np.testing.assert_allclose(computed, golden()["adapted"], atol=TOLERANCE)


@pytest.mark.parametrize("most_zeros", [0, 1_450, 2_000])
def test_projections_with_factors_of_their_own_compute_what_fused_ones_do(
    most_zeros: int, made: dict[str, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = made["adapted"]
    forms: list[int] = []

    def counted(layout: Layout, ranks: dict[str, int], width: int) -> int:
        zeros = measure(layout, ranks, width)
        forms.append(zeros > most_zeros)
        return zeros

    measure = Layout._zeros
    monkeypatch.setattr(Layout, "_zeros", counted)
    monkeypatch.setattr("engine.inference.backends.reference.adapters.MOST_ZEROS", most_zeros)
    computed = np.concatenate(numpy_logits(case.model, case.texts, case.adapters))
    np.testing.assert_allclose(computed, golden()["adapted"], atol=TOLERANCE)
    assert set(forms) == {False, True}


def test_adapters_change_the_logits(made: dict[str, Case]) -> None:
    case = made["adapted"]
    plain = [type(text)(text.tokens, text.asked) for text in case.texts]
    base = numpy_logits(case.model, plain, {})
    adapted = numpy_logits(case.model, case.texts, case.adapters)
    for text, without, under in zip(case.texts, base, adapted, strict=True):
        difference = np.abs(without - under).max()
        assert difference > 0.05 if text.adapters else difference < TOLERANCE


def test_a_weight_of_zero_is_the_base_and_a_sum_has_no_order(made: dict[str, Case]) -> None:
    case = made["adapted"]
    tokens, asked = case.texts[3].tokens, 4
    sets: list[tuple[tuple[str, float], ...]] = [
        (), (("all", 0.0), ("some", 0.0)), (("all", 0.75), ("some", -1.5)), (("some", -1.5), ("all", 0.75)),
        (("all", 0.5), ("all", 0.5)), (("all", 1.0),),
    ]  # fmt: skip
    base, nothing, blend, turned, twice, once = numpy_logits(
        case.model, [Text(tokens, asked, used) for used in sets], case.adapters
    )
    for one, other in ((base, nothing), (blend, turned), (twice, once)):
        np.testing.assert_allclose(one, other, atol=TOLERANCE / 10)
    assert np.abs(base - blend).max() > 0.05
    assert np.abs(once - blend).max() > 0.05


@pytest.mark.slow
def test_any_blend_in_any_company_is_what_peft_computes(made: dict[str, Case], tmp_path: Path) -> None:
    case = made["adapted"]
    adapters = case.adapters | {
        "third": write_adapter(tmp_path / "third", seed=13, rank=5, modules=("o_proj", "v_proj"))
    }
    random = np.random.RandomState(3)
    for _ in range(4):
        sets = []
        for _ in range(7):
            names = random.permutation(sorted(adapters))[: random.randint(4)]
            sets.append(tuple((str(name), float(random.choice([0.0, 0.25, 0.5, 1.0, -0.7, 1.9]))) for name in names))
        asked = texts(tiny_config()["vocab_size"], tuple(sets))
        computed = np.concatenate(numpy_logits(case.model, asked, adapters))
        expected = np.concatenate(transformers_logits(case.model, asked, adapters))
        np.testing.assert_allclose(computed, expected, atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_golden_is_what_transformers_computes(name: str, made: dict[str, Case]) -> None:
    case = made[name]
    regenerated = np.concatenate(transformers_logits(case.model, case.texts, case.adapters))
    np.testing.assert_allclose(golden()[name], regenerated, atol=TOLERANCE / 10)


# -- the shipped model -----------------------------------------------------------------------------------------------------


def test_the_shipped_model_computes_its_golden_logits(tmp_path: Path) -> None:
    data = golden(SHIPPED_DATA)
    made_for = data["digest"].tobytes().hex()
    assert made_for == shipped_digest(), "the shipped weights changed: run `python -m tests.support.golden`"
    case = shipped_case(tmp_path)
    together = np.concatenate(numpy_logits(case.model, case.texts, case.adapters))
    np.testing.assert_allclose(together, data["shipped"], atol=TOLERANCE)
    alone = np.concatenate([numpy_logits(case.model, [text], case.adapters, chunk=64)[0] for text in case.texts])
    np.testing.assert_allclose(alone, data["shipped"], atol=TOLERANCE)


@pytest.mark.slow
def test_the_shipped_golden_logits_are_what_transformers_computes(tmp_path: Path) -> None:
    case = shipped_case(tmp_path)
    regenerated = np.concatenate(transformers_logits(case.model, case.texts, case.adapters))
    np.testing.assert_allclose(golden(SHIPPED_DATA)["shipped"], regenerated, atol=TOLERANCE / 10)
