from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from metrics.candidates import (
    NO_ANSWER,
    answer_variance_share,
    candidate_rows,
    dimension_over_null,
    input_distances,
    kernel_alignment,
    likeness,
    linear_input_share,
)
from metrics.registry import REGISTRY

WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(6), size=(30, 3))
INPUTS = np.random.default_rng(1).integers(5, size=(30, 4)).tolist()
HOW = {"max_pairs": 200, "seed": 0}


def test_every_candidate_is_registered_and_finite_or_explained():
    answers = [n % 3 for n in range(30)]
    rows = candidate_rows("math", WEIGHTS, INPUTS, answers, ridge=1.0, **HOW)
    assert {row["measure"] for row in rows} <= set(REGISTRY)
    assert all(np.isfinite(row["value"]) for row in rows)


def test_without_answers_their_candidates_are_not_available():
    rows = candidate_rows("math", WEIGHTS, INPUTS, None, ridge=1.0, **HOW)
    missing = {row["measure"]: row["note"] for row in rows if row["value"] is None}
    assert set(missing) == {
        "likeness_answer",
        "likeness_answer_given_input",
        "kernel_alignment",
        "answer_variance_share",
    }
    assert set(missing.values()) == {NO_ANSWER}


RNG = np.random.default_rng(0)
RANDOM = RNG.dirichlet(np.ones(6), size=(40, 2))
LABELS = np.repeat(np.arange(4), 10)
BY_ANSWER = np.eye(4)[LABELS][:, None] * 0.9 + 0.025


def slow_alignment(weights, labels):
    """Debiased CKA from n x n kernels with zeroed diagonals, eq. 3 of Song et al. (2012)."""
    flat = weights.reshape(len(weights), -1)
    kernels = [flat @ flat.T, (labels[:, None] == labels).astype(float)]
    num = len(labels)
    for kernel in kernels:
        np.fill_diagonal(kernel, 0)

    def hsic(k, m):
        ones = np.ones(num)
        middle = (ones @ k @ ones) * (ones @ m @ ones) / ((num - 1) * (num - 2))
        return (np.trace(k @ m) + middle - 2 * (ones @ k @ m @ ones) / (num - 2)) / (
            num * (num - 3)
        )

    k, m = kernels
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_alignment_against_the_slow_twin():
    # Centring features changes diagonals, which are left out; the debiased form does not mind.
    assert kernel_alignment(RANDOM, LABELS) == pytest.approx(slow_alignment(RANDOM, LABELS))
    assert kernel_alignment(BY_ANSWER, LABELS) == pytest.approx(1)


def test_alignment_of_unrelated_routing_is_zero_on_average():
    rng = np.random.default_rng(1)
    found = [
        kernel_alignment(rng.dirichlet(np.ones(4), size=(30, 2)), rng.integers(3, size=30))
        for _ in range(200)
    ]
    assert np.mean(found) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("size", [1e-2, 1e-6])
def test_alignment_does_not_depend_on_how_large_differences_are(size):
    small = 0.25 + size * (np.eye(4)[LABELS] - 0.25)[:, None]
    assert kernel_alignment(small, LABELS) == pytest.approx(1)
    mixed = 1 / 6 + size * (RANDOM - 1 / 6)
    assert kernel_alignment(mixed, LABELS) == pytest.approx(kernel_alignment(RANDOM, LABELS))


@given(st.integers(0, 10_000), st.integers(4, 12))
@settings(max_examples=40, deadline=None)
def test_alignment_stays_in_its_range_and_ignores_order_and_names(seed, num):
    rng = np.random.default_rng(seed)
    weights, labels = rng.dirichlet(np.ones(5), size=(num, 2)), rng.integers(3, size=num)
    found = kernel_alignment(weights, labels)
    if found is None:
        assert np.bincount(labels).max() >= num - 1  # one odd sample is no pattern of pairs
        return
    assert -1 <= found <= 1
    order = rng.permutation(num)
    assert kernel_alignment(weights[order], 7 - labels[order]) == pytest.approx(found)


def test_without_variance_there_is_no_alignment():
    assert kernel_alignment(np.full((8, 1, 4), 0.25), LABELS[:8] % 2) is None
    assert kernel_alignment(RANDOM[:8], np.zeros(8)) is None
    with pytest.raises(ValueError, match="found 3 samples and 3 answers"):
        kernel_alignment(RANDOM[:3], LABELS[:3])


def test_answer_variance_share_against_one_way_analysis_of_variance():
    flat = RANDOM.reshape(40, -1)
    within = sum(((flat[c == LABELS] - flat[c == LABELS].mean(0)) ** 2).sum() for c in range(4))
    total = ((flat - flat.mean(0)) ** 2).sum()
    expected = 1 - (within / 36) / (total / 39)
    assert answer_variance_share(RANDOM, LABELS) == pytest.approx(expected)
    assert answer_variance_share(BY_ANSWER, LABELS) == pytest.approx(1)
    assert answer_variance_share(RANDOM, np.arange(40)) is None


def test_routing_that_adds_up_over_tokens_is_linear_and_random_routing_is_not():
    tokens = RNG.integers(4, size=(200, 3))
    parts = np.random.default_rng(2).dirichlet(np.ones(5), size=(3, 4))
    additive = np.mean([parts[place][tokens[:, place]] for place in range(3)], axis=0)[:, None]
    assert linear_input_share(additive, tokens.tolist()) == pytest.approx(1)
    noise = np.random.default_rng(3).dirichlet(np.ones(5), size=(200, 2))
    assert linear_input_share(noise, tokens.tolist()) == pytest.approx(0, abs=0.05)


def test_linear_share_needs_equal_lengths_and_enough_samples():
    assert linear_input_share(RANDOM[:2], [[1], [1, 2]]) is None
    assert linear_input_share(RANDOM, [[n, n] for n in range(40)]) is None


def test_likeness_follows_answers_or_inputs_or_neither():
    inputs = [[int(label), n] for n, label in enumerate(LABELS)]
    how = {"max_pairs": 400, "seed": 0}
    found = likeness(BY_ANSWER, inputs, LABELS.tolist(), **how)
    assert found.with_answer == pytest.approx(1)
    assert found.with_input == pytest.approx(1)
    assert found.with_answer_given_input is None  # inputs say all that answers say
    random = likeness(RANDOM, RNG.integers(9, size=(40, 3)).tolist(), LABELS.tolist(), **how)
    assert abs(random.with_answer) < 0.2
    assert abs(random.with_answer_given_input) < 0.2
    assert likeness(RANDOM, inputs, None, **how).with_answer is None


def test_as_many_answers_and_inputs_as_samples_are_required():
    """Half as many once passed for samples with twice the features."""
    inputs = [[0]] * 40
    with pytest.raises(ValueError, match="found 40 samples and 20 answers"):
        answer_variance_share(RANDOM, LABELS[:20])
    with pytest.raises(ValueError, match="found 40 samples and 20 inputs"):
        linear_input_share(RANDOM, inputs[:20])
    with pytest.raises(ValueError, match="found 40 samples and 80 inputs"):
        likeness(RANDOM, inputs * 2, None, max_pairs=9, seed=0)
    with pytest.raises(ValueError, match="found 40 samples and 39 answers"):
        likeness(RANDOM, inputs, LABELS[1:].tolist(), max_pairs=9, seed=0)
    assert linear_input_share(RANDOM, [[]] * 40) is None


def test_likeness_against_rank_correlations_over_all_pairs():
    weights, labels = RANDOM[:12], LABELS[::3][:12]
    inputs = np.random.default_rng(6).integers(3, size=(12, 4)).tolist()
    pairs = list(combinations(range(12), 2))
    roots = np.sqrt(weights)
    routing = [((roots[i] - roots[j]) ** 2).sum(axis=-1).mean() / 2 for i, j in pairs]
    tokens = [np.mean(np.not_equal(inputs[i], inputs[j])) for i, j in pairs]
    answers = [float(labels[i] != labels[j]) for i, j in pairs]
    found = likeness(weights, inputs, labels.tolist(), max_pairs=1000, seed=0)
    ab, ac, bc = (
        spearmanr(*two).statistic
        for two in ((routing, answers), (routing, tokens), (answers, tokens))
    )
    assert found.with_answer == pytest.approx(ab)
    assert found.with_input == pytest.approx(ac)
    partial = (ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2))
    assert found.with_answer_given_input == pytest.approx(partial)


def test_inputs_of_other_length_are_compared_as_sets():
    pairs = np.array([0]), np.array([1])
    assert input_distances([[1, 2], [2, 3, 1]], *pairs)[0] == pytest.approx(1 / 3)


def test_layers_that_agree_have_fewer_dimensions_than_their_null():
    agreeing = np.repeat(np.eye(4)[LABELS][:, None], 3, axis=1)
    assert dimension_over_null(agreeing, ridge=1.0, seed=0) < 0.8
    independent = np.random.default_rng(4).dirichlet(np.ones(4), size=(200, 3))
    assert dimension_over_null(independent, ridge=1.0, seed=0) == pytest.approx(1, abs=0.02)
