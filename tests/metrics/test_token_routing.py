import numpy as np
import pytest

from metrics.field import random_choices
from metrics.token_routing import (
    boundary_margins,
    chosen_experts,
    chosen_mass,
    coactivation,
    congestion_coefficient,
    domain_specialisation,
    imbalance,
    load_shares,
    rank_adjacent_coactivation,
    strongest_partner,
    token_entropy,
    vocabulary_specialisation,
)


def routing(num_tokens=50, num_layers=3, num_experts=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(num_experts), size=(num_tokens, num_layers))


def test_the_chosen_are_those_of_largest_weight_with_ties_to_the_lower_id():
    assert chosen_experts([[[0.25, 0.25, 0.25, 0.25]]], top_k=2).tolist() == [[[0, 1]]]
    weights = routing()
    chosen = chosen_experts(weights, top_k=3)
    smallest_chosen = np.take_along_axis(weights, chosen, axis=-1).min(axis=-1)
    assert ((weights > smallest_chosen[..., None]).sum(axis=-1) == 2).all()


@pytest.mark.parametrize("top_k", [0, 7])
def test_a_top_k_that_cannot_be_is_refused(top_k):
    with pytest.raises(ValueError, match="expected 1 to 6, the number of experts"):
        chosen_experts(routing(), top_k)


def test_load_shares_against_counting():
    chosen = chosen_experts(routing(), top_k=2)
    shares = load_shares(chosen, num_experts=6)
    for layer in range(3):
        for expert in range(6):
            assert shares[layer, expert] == pytest.approx((chosen[:, layer] == expert).mean())
    assert shares.sum(axis=-1) == pytest.approx(np.ones(3))


def test_closed_forms_of_imbalance():
    even, one = imbalance(np.full((1, 8), 1 / 8)), imbalance(np.eye(8)[:1])
    assert (even.variation_L[0], even.max_violation_L[0]) == pytest.approx((0, 0))
    assert even.effective_experts_L[0] == pytest.approx(8)
    assert one.variation_L[0] == pytest.approx(np.sqrt(7))
    assert one.max_violation_L[0] == pytest.approx(7)
    assert one.effective_experts_L[0] == pytest.approx(1)


def test_a_load_that_is_no_distribution_is_refused():
    with pytest.raises(ValueError, match="sum"):
        imbalance([[0.5, 0.2]])


def test_congestion_is_recovered_from_loads_that_follow_it():
    """Tokens whose mean log weight is q, and a load that solves f = softmax(q - gamma f)."""
    quality, gamma = np.log([0.4, 0.3, 0.2, 0.1]), 5.0
    load = np.full(4, 0.25)
    for _ in range(500):
        fresh = np.exp(quality - gamma * load)
        load = 0.5 * load + 0.5 * fresh / fresh.sum()
    weights = np.broadcast_to(np.exp(quality), (10, 1, 4))
    assert congestion_coefficient(weights, load[None])[0] == pytest.approx(gamma, rel=1e-6)


def test_an_even_load_has_no_congestion():
    weights = np.full((4, 1, 4), 0.25)
    assert np.isnan(congestion_coefficient(weights, np.full((1, 4), 0.25))).all()


UNIFORM = np.full((5, 2, 8), 1 / 8)


def test_uniform_routing_has_the_largest_entropy_and_no_margin():
    assert token_entropy(UNIFORM) == pytest.approx(np.log(8) * np.ones(2))
    margins = boundary_margins(UNIFORM, top_k=2)
    assert not margins.weight_PL.any()
    assert not margins.logit_PL.any()
    assert chosen_mass(UNIFORM, top_k=2) == pytest.approx([0.25, 0.25])


def test_one_hot_routing_is_decided():
    one_hot = np.broadcast_to(np.eye(4)[:1], (3, 1, 4))
    assert token_entropy(one_hot) == pytest.approx([0.0])
    assert boundary_margins(one_hot, top_k=1).weight_PL == pytest.approx(np.ones((3, 1)))
    assert np.isfinite(boundary_margins(one_hot, top_k=1).logit_PL).all()


def test_percentiles_against_sorting_by_hand():
    logits = np.random.default_rng(0).normal(size=(41, 2, 5))
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    ordered = np.sort(logits, axis=-1)[..., ::-1]
    margins = boundary_margins(weights, top_k=3)
    by_hand = np.percentile(ordered[..., 2] - ordered[..., 3], (10, 50, 90), axis=0)
    assert margins.logit_PL == pytest.approx(by_hand)


def test_without_a_boundary_there_is_no_margin():
    assert boundary_margins(UNIFORM, top_k=8) is None
    with pytest.raises(ValueError, match="top_k is 9"):
        boundary_margins(UNIFORM, top_k=9)


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


def test_rare_tokens_do_not_count():
    assert vocabulary_specialisation(np.zeros((5, 1, 1), int), np.arange(5), 4) is None


def test_random_choices_stay_near_their_shuffled_baseline():
    rng = np.random.default_rng(0)
    ids, chosen = rng.integers(5, size=4000), rng.integers(8, size=(4000, 1, 1))
    value = vocabulary_specialisation(chosen, ids, 8)
    null = vocabulary_specialisation(chosen, rng.permutation(ids), 8)
    assert value == pytest.approx(null, abs=0.02)
