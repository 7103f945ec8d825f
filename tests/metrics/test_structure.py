import numpy as np
import pytest

from metrics.structure import (
    answer_variance_share,
    dimension_over_null,
    input_distances,
    kernel_alignment,
    likeness,
    linear_input_share,
)

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


def test_inputs_of_other_length_are_compared_as_sets():
    pairs = np.array([0]), np.array([1])
    assert input_distances([[1, 2], [2, 3, 1]], *pairs)[0] == pytest.approx(1 / 3)


def test_layers_that_agree_have_fewer_dimensions_than_their_null():
    agreeing = np.repeat(np.eye(4)[LABELS][:, None], 3, axis=1)
    assert dimension_over_null(agreeing, ridge=1.0, seed=0) < 0.8
    independent = np.random.default_rng(4).dirichlet(np.ones(4), size=(200, 3))
    assert dimension_over_null(independent, ridge=1.0, seed=0) == pytest.approx(1, abs=0.02)
