from itertools import combinations, product

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein
from scipy.stats import spearmanr

from metrics.controls import cross_domain_rows, entropy_row
from metrics.entropy_control import entropy_control
from metrics.pathways import pathway_strings

RNG = np.random.default_rng(0)


def mixed(num=60):
    """Samples from sharp to even: entropy and pathway length rise together."""
    sharpness = np.linspace(0.05, 3, num)[:, None, None]
    logits = RNG.normal(size=(num, 3, 8)) / sharpness
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def test_the_correlation_over_all_pairs_against_a_slow_twin():
    weights = mixed(20)
    strings = pathway_strings(weights, 0.8)
    entropy = -(weights * np.log(weights)).sum(axis=-1).mean(axis=-1)
    pairs = list(combinations(range(20), 2))
    distances = [Levenshtein.distance(strings[i], strings[j]) for i, j in pairs]
    means = [(entropy[i] + entropy[j]) / 2 for i, j in pairs]
    found = entropy_control(weights, 0.8, max_pairs=10_000, seed=0)
    assert found.num_pairs == len(pairs)
    assert found.pearson == pytest.approx(np.corrcoef(means, distances)[0, 1])
    assert found.spearman == pytest.approx(spearmanr(means, distances).statistic)


def test_what_depends_on_the_samples_is_found_beyond_chance_and_what_does_not_is_not():
    assert entropy_control(mixed(), 0.8, max_pairs=1000, seed=0).p == pytest.approx(1 / 200)
    alike = np.random.default_rng(5)
    p = [
        entropy_control(alike.dirichlet(np.ones(6), size=(20, 2)), 0.8, max_pairs=190, seed=0).p
        for _ in range(20)
    ]
    assert np.median(p) > 0.05


def test_equal_routing_has_nothing_to_correlate():
    row = entropy_row("math", np.full((5, 2, 4), 0.25), max_pairs=100, seed=0)
    assert row["pearson"] is None
    assert row["note"] == "not available, because all distances are equal"


def test_cross_domain_rows_have_every_pair_of_domains_once():
    samples = {name: mixed(10) for name in ("a", "b", "c")}
    rows = cross_domain_rows(samples, 0.7, max_pairs=50, seed=0)
    pairs = {(row["domain"], row["other_domain"]) for row in rows}
    assert pairs == {("a", "b"), ("a", "c"), ("b", "c")}
    assert {row["num_pairs"] for row in rows} == {50}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert cross_domain_rows({"a": samples["a"]}, 0.7, max_pairs=50, seed=0) == []


def test_cross_domain_distance_against_a_slow_twin():
    samples = {"a": mixed(6), "b": mixed(5)}
    raw, share = cross_domain_rows(samples, 0.7, max_pairs=1000, seed=0)
    pairs = list(product(*(pathway_strings(weights, 0.7) for weights in samples.values())))
    distances = np.array([Levenshtein.distance(*pair) for pair in pairs])
    assert raw["value"] == pytest.approx(distances.mean())
    assert share["value"] == pytest.approx((distances / [max(map(len, p)) for p in pairs]).mean())
    assert (raw["num_pairs"], raw["low"], raw["high"]) == (30, None, None)


def test_equal_entropies_have_nothing_to_correlate():
    weights = np.stack([np.roll([[0.5, 0.3, 0.1, 0.1]], n, axis=-1) for n in range(4)])
    found = entropy_control(weights, 0.8, max_pairs=100, seed=0)
    assert (found.pearson, found.p) == (None, None)
    assert found.note == "not available, because all entropies are equal"
