import numpy as np
import pytest

from metrics.specialisation import domain_specialisation, vocabulary_specialisation


def test_domains_that_share_no_expert_are_as_far_apart_as_can_be():
    one, other = np.array([[0.5, 0.5, 0, 0]]), np.array([[0, 0, 0.5, 0.5]])
    assert domain_specialisation(one, other).tolist() == [1.0]
    assert domain_specialisation(one, one).tolist() == [0.0]


def test_tokens_with_an_expert_of_their_own():
    ids = np.repeat([3, 7], 20)
    chosen = np.repeat([0, 2], 20)[:, None, None]
    assert vocabulary_specialisation(chosen, ids, 4).tolist() == [1.0]
    mixed = np.tile([0, 1], 20)[:, None, None]
    assert vocabulary_specialisation(mixed, ids, 4).tolist() == [0.5]


def test_top_k_counts_an_expert_among_a_tokens_choices():
    ids, chosen = np.full(8, 1), np.array([[[0, 1]], [[1, 2]]] * 4)
    assert vocabulary_specialisation(chosen, ids, 3).tolist() == [1.0]


def test_rare_tokens_say_nothing():
    assert vocabulary_specialisation(np.zeros((5, 1, 1), int), np.arange(5), 4) is None


def test_random_choices_stay_near_their_shuffled_baseline():
    rng = np.random.default_rng(0)
    ids, chosen = rng.integers(5, size=4000), rng.integers(8, size=(4000, 1, 1))
    value = vocabulary_specialisation(chosen, ids, 8)
    null = vocabulary_specialisation(chosen, rng.permutation(ids), 8)
    assert value == pytest.approx(null, abs=0.02)
