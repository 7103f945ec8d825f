from itertools import permutations

import numpy as np
import pytest

from metrics.distances import mean_pairwise_distance
from metrics.nulls import null_routing
from metrics.pathways import pathways_in_unit

WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(6), size=(40, 3))


def test_shuffled_samples_keep_every_row_of_every_layer():
    null = null_routing(WEIGHTS, "shuffled_samples", seed=1)
    for layer in range(3):
        assert sorted(map(tuple, null[:, layer])) == sorted(map(tuple, WEIGHTS[:, layer]))
    assert not np.array_equal(null, WEIGHTS)
    # Layers are dealt out independently: hardly a sample keeps all of its rows.
    kept = (null == WEIGHTS).all(axis=-1)
    assert kept.all(axis=1).mean() < 0.1


def test_the_load_preserving_null_keeps_ranks_and_nearly_the_load():
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


def test_relabelled_experts_keep_sharpness_alone():
    null = null_routing(WEIGHTS, "relabelled_experts", seed=1)
    assert np.array_equal(np.sort(null, axis=-1), np.sort(WEIGHTS, axis=-1))
    assert null.mean(axis=0) == pytest.approx(np.full((3, 6), 1 / 6), abs=0.08)


def test_seeds_decide_and_kinds_are_known():
    one, other = (null_routing(WEIGHTS, "shuffled_samples", seed=2) for _ in range(2))
    assert np.array_equal(one, other)
    with pytest.raises(ValueError, match="null kind is 'none', expected one of shuffled_samples"):
        null_routing(WEIGHTS, "none", seed=0)
