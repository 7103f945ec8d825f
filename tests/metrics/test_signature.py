import numpy as np
import pytest

from metrics.signature import signature_separation


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
