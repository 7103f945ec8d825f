from itertools import combinations, permutations, product

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein
from scipy.stats import spearmanr

from metrics.controls import (
    cross_domain_rows,
    entropy_control,
    entropy_row,
    null_routing,
    null_rows,
    variant_rows,
)
from metrics.distances import mean_pairwise_distance
from metrics.pathways import pathway_strings, pathways_in_unit
from tests.metrics import reference

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


WEIGHTS = reference.random_routing(3, num_samples=8, num_layers=3, num_experts=12)


def rows_of(**how):
    return variant_rows("math", WEIGHTS, (0.5, 0.7), **{"max_pairs": 1000, "seed": 4, **how})


def value(rows, **which):
    (row,) = [row for row in rows if which.items() <= row.items()]
    return row["value"]


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("unit", ["character", "expert"])
def test_every_variant_against_its_definition(threshold, unit):
    paths = [reference.pathway_string(sample, threshold) for sample in WEIGHTS]
    if unit == "expert":  # one symbol per expert and place, none for the separators
        paths = [
            [
                (layer, expert)
                for layer, weights in enumerate(sample)
                for expert in reference.selected_experts(weights, threshold)
            ]
            for sample in WEIGHTS
        ]
    pairs = list(combinations(paths, 2))
    distances = [reference.levenshtein(a, b) for a, b in pairs]
    longer = [max(len(a), len(b)) for a, b in pairs]
    which = {"threshold": threshold, "unit": unit, "pair_seed": 4}
    found = value(rows_of(), **which, normalized=False)
    assert found == pytest.approx(np.mean(distances))
    share = value(rows_of(), **which, normalized=True)
    assert share == pytest.approx(np.mean(np.divide(distances, longer)))


def test_all_pairs_do_not_depend_on_the_seed_and_drawn_ones_do():
    plain = {"threshold": 0.7, "unit": "character", "normalized": False}
    assert value(rows_of(), **plain, pair_seed=4) == value(rows_of(), **plain, pair_seed=5)
    few = rows_of(max_pairs=9)
    assert {row["num_pairs"] for row in few} == {9}
    assert value(few, **plain, pair_seed=4) != value(few, **plain, pair_seed=5)
    assert few == rows_of(max_pairs=9)


def test_one_row_for_every_setting():
    keys = ("threshold", "unit", "normalized", "pair_seed")
    found = {tuple(row[key] for key in keys) for row in rows_of()}
    assert len(found) == len(rows_of()) == 2 * 2 * 2 * 2


WEIGHTS_NULLS = np.random.default_rng(0).dirichlet(np.ones(6), size=(40, 3))


def test_shuffled_samples_have_every_row_of_every_layer():
    null = null_routing(WEIGHTS_NULLS, "shuffled_samples", seed=1)
    for layer in range(3):
        assert sorted(map(tuple, null[:, layer])) == sorted(map(tuple, WEIGHTS_NULLS[:, layer]))
    assert not np.array_equal(null, WEIGHTS_NULLS)
    # Layers are dealt out independently: hardly a sample keeps all of its rows.
    unchanged = (null == WEIGHTS_NULLS).all(axis=-1)
    assert unchanged.all(axis=1).mean() < 0.1


def test_the_load_preserving_null_has_the_same_ranks_and_nearly_the_load():
    skewed = np.random.default_rng(1).dirichlet([8, 4, 2, 1, 0.5, 0.25], size=(4000, 2))
    null = null_routing(skewed, "load_preserving", seed=1)
    assert np.array_equal(np.sort(null, axis=-1), np.sort(skewed, axis=-1))
    assert null.mean(axis=0) == pytest.approx(skewed.mean(axis=0), abs=0.05)
    # It draws anew: samples that were routed alike no longer are, unless load leaves no choice.
    mixed = np.array(list(permutations([0.5, 0.3, 0.2])))[:, None].repeat(2, axis=1)
    null = null_routing(np.tile(mixed, (30, 1, 1)), "load_preserving", seed=1)
    assert len(np.unique(null.reshape(180, -1), axis=0)) > 25
    sure = np.tile([1.0, 0.0, 0.0], (50, 1, 1))
    assert np.array_equal(null_routing(sure, "load_preserving", seed=1), sure)


def test_a_shuffle_of_samples_cannot_move_a_mean_over_pairs_and_the_load_preserving_null_does():
    two = np.eye(6)[np.repeat([0, 1], 50)][:, None].repeat(3, axis=1)
    mean = {
        kind: mean_pairwise_distance(
            pathways_in_unit(null_routing(two, kind, seed=0), 0.7, "expert")
        ).mean
        for kind in ("shuffled_samples", "load_preserving", "relabelled_experts")
    }
    own = mean_pairwise_distance(pathways_in_unit(two, 0.7, "expert")).mean
    assert mean["shuffled_samples"] == pytest.approx(own, rel=0.02)
    assert mean["load_preserving"] == pytest.approx(own, rel=0.05)  # load alone explains it
    assert mean["relabelled_experts"] > 1.5 * own
    blocks = np.repeat([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]], 50, axis=0)[:, None]
    own = mean_pairwise_distance(pathways_in_unit(blocks, 0.7, "expert")).mean
    null = null_routing(blocks, "load_preserving", seed=0)
    assert mean_pairwise_distance(pathways_in_unit(null, 0.7, "expert")).mean > 1.2 * own


def test_relabelled_experts_have_the_same_sharpness_alone():
    null = null_routing(WEIGHTS_NULLS, "relabelled_experts", seed=1)
    assert np.array_equal(np.sort(null, axis=-1), np.sort(WEIGHTS_NULLS, axis=-1))
    assert null.mean(axis=0) == pytest.approx(np.full((3, 6), 1 / 6), abs=0.08)


def test_seeds_decide_and_kinds_are_known():
    one, other = (null_routing(WEIGHTS_NULLS, "shuffled_samples", seed=2) for _ in range(2))
    assert np.array_equal(one, other)
    with pytest.raises(ValueError, match="null kind is 'none', expected one of shuffled_samples"):
        null_routing(WEIGHTS_NULLS, "none", seed=0)


EVEN = np.random.default_rng(0).dirichlet(np.ones(6), size=(30, 3))


def test_random_routing_equals_its_nulls_and_identical_samples_lie_below_chance():
    nulls, ratios = null_rows("math", EVEN, 0.7, max_pairs=200, seed=0)
    assert {row["null_kind"] for row in nulls} == {"load_preserving", "relabelled_experts"}
    found = {row["measure"]: row["value"] for row in ratios}
    assert found["distance_over_null"] == pytest.approx(1, abs=0.05)
    assert found["distance_over_chance"] == pytest.approx(1, abs=0.05)
    alike = np.repeat(EVEN[:1], 30, axis=0)
    _, ratios = null_rows("math", alike, 0.7, max_pairs=200, seed=0)
    found = {row["measure"]: row for row in ratios}
    assert found["distance_over_chance"]["value"] == 0
    # Where all samples take one route the load explains it wholly.
    assert found["distance_over_null"]["value"] is None
    assert "divided by is 0" in found["distance_over_null"]["note"]
