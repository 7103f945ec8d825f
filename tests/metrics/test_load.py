import numpy as np
import pytest

from metrics.load import chosen_experts, congestion_coefficient, imbalance, load_shares


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


def test_an_even_load_says_nothing_of_congestion():
    weights = np.full((4, 1, 4), 0.25)
    assert np.isnan(congestion_coefficient(weights, np.full((1, 4), 0.25))).all()
