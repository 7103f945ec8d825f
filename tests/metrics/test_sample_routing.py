import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.sample_routing import (
    hellinger_spread,
    path_entropy,
    routing_variance,
    signature_separation,
)
from tests.metrics import reference_statistics as reference


def random_routing(num_samples, seed):
    weights = np.random.default_rng(seed).exponential(size=(num_samples, 3, 5))
    return weights / weights.sum(axis=-1, keepdims=True)


@given(num_samples=st.integers(2, 8), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_agree_with_the_pairwise_definitions(num_samples, seed):
    routing = random_routing(num_samples, seed)
    assert hellinger_spread(routing) == pytest.approx(reference.mean_squared_hellinger(routing))
    assert routing_variance(routing) == pytest.approx(reference.total_variance(routing))


def test_identical_samples_have_no_dispersion():
    routing = np.repeat(random_routing(1, seed=0), 6, axis=0)
    assert hellinger_spread(routing) == pytest.approx(0.0, abs=1e-15)
    assert routing_variance(routing) == pytest.approx(0.0, abs=1e-15)


def test_one_expert_each():
    routing = np.repeat(np.eye(4)[:, None, :], 3, axis=1)
    assert hellinger_spread(routing) == pytest.approx(1.0)
    assert routing_variance(routing) == pytest.approx(1 - 1 / 4)


def test_by_hand():
    routing = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])
    assert hellinger_spread(routing) == pytest.approx(1 - np.sqrt(0.5))
    assert routing_variance(routing) == pytest.approx(2 * 0.25**2)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_order_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    routing = random_routing(6, seed)
    shuffled = routing[rng.permutation(6)][:, rng.permutation(3)][:, :, rng.permutation(5)]
    for measure in (hellinger_spread, routing_variance):
        assert measure(shuffled) == pytest.approx(measure(routing))


def test_one_sample_and_bad_routing():
    with pytest.raises(ValueError, match="at least 2 samples"):
        hellinger_spread(random_routing(1, seed=0))
    assert routing_variance(random_routing(1, seed=0)) == 0.0
    with pytest.raises(ValueError, match="sum"):
        routing_variance(np.full((2, 2, 3), 0.9))


def test_one_route_has_no_entropy_and_all_routes_have_the_most():
    one = np.tile(np.eye(3)[0], (6, 4, 1))
    assert path_entropy(one, 2) == 0
    every = np.array([[np.eye(2)[i], np.eye(2)[j]] for i in (0, 1) for j in (0, 1)])
    assert path_entropy(every, 2) == pytest.approx(1)


def test_independent_layers_are_near_the_largest_entropy():
    first = np.random.default_rng(0).integers(4, size=(20000, 3))
    assert path_entropy(np.eye(4)[first], 3) == pytest.approx(1, abs=0.01)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="found 1 sample, expected at least 2"):
        path_entropy(np.eye(2)[None, :1], 1)
    with pytest.raises(ValueError, match="window is 3, expected 1 to 2"):
        path_entropy(np.full((3, 2, 2), 0.5), 3)


def sample(num, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(5), size=(num, 2))


def test_within_and_between_against_all_pairs():
    weights, domains = sample(30), np.array(["a"] * 10 + ["b"] * 20)
    flat = weights.reshape(30, -1)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    cosines, same = unit @ unit.T, domains[:, None] == domains
    off = ~np.eye(30, dtype=bool)
    found = signature_separation(weights, domains, num_shuffles=9, seed=0)
    assert found.within == pytest.approx(cosines[same & off].mean())
    assert found.between == pytest.approx(cosines[~same].mean())


def test_domains_without_meaning_are_not_separated():
    p = [
        signature_separation(sample(40, s), [0, 1] * 20, num_shuffles=49, seed=s).p
        for s in range(60)
    ]
    assert 0.3 < np.mean(p) < 0.7


def test_domains_of_their_own_are_separated_beyond_chance():
    weights = np.concatenate([np.tile([0.8, 0.1, 0.1], (9, 1)), np.tile([0.1, 0.1, 0.8], (9, 1))])
    found = signature_separation(weights[:, None], [0] * 9 + [1] * 9, num_shuffles=99, seed=0)
    assert found.separation > 0.5
    assert found.p == pytest.approx(0.01)


def test_a_shuffle_that_only_swaps_names_counts_as_large():
    weights = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]])[:, None]
    found = signature_separation(weights, [0, 0, 1, 1], num_shuffles=600, seed=0)
    assert found.p == pytest.approx(1 / 3, abs=0.06)  # two of the six ways to label two and two


@pytest.mark.parametrize("domains", [["a"] * 4, ["a", "a", "a", "b"]])
def test_two_domains_of_two_samples_are_needed(domains):
    with pytest.raises(ValueError, match="at least two domains of two samples"):
        signature_separation(sample(4), domains, num_shuffles=9, seed=0)
