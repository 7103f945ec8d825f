import numpy as np
import pytest

from metrics.coactivation import coactivation, rank_adjacent_coactivation, strongest_partner
from metrics.field import random_choices


def slow(chosen, num_experts):
    shares = np.zeros((chosen.shape[1], num_experts, num_experts))
    for layer in range(chosen.shape[1]):
        for i in range(num_experts):
            mine = [set(row) for row in chosen[:, layer].tolist() if i in row]
            for j in range(num_experts):
                if mine and i != j:
                    shares[layer, i, j] = sum(j in row for row in mine) / len(mine)
    return shares


@pytest.mark.parametrize("top_k", [2, 3])
def test_all_pairs_against_a_slow_twin(top_k):
    chosen = random_choices((60, 2, top_k), num_experts=6, seed=1)
    shares = coactivation(chosen, 6)
    assert shares == pytest.approx(slow(chosen, 6))
    assert shares.sum(axis=-1) == pytest.approx(np.full((2, 6), top_k - 1))


def test_with_two_experts_neighbours_are_all_pairs_and_with_three_they_are_not():
    two, three = (random_choices((60, 1, k), num_experts=5, seed=2) for k in (2, 3))
    assert rank_adjacent_coactivation(two, 5) == pytest.approx(coactivation(two, 5))
    assert rank_adjacent_coactivation(three, 5).sum() < coactivation(three, 5).sum()


def test_the_strongest_partner_of_unused_experts_does_not_count():
    chosen = np.array([[[0, 1]], [[1, 0]]])
    assert strongest_partner(coactivation(chosen, 4)).tolist() == [1.0]
